"""Links through a proxy: http in full, https through a tunnel, hosts judged all the same."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from airflow_provider_taskdl.exceptions import ConnectionConfigError, UnsafeLinkError
from airflow_provider_taskdl.transfer.connection import ConnectionBroken, Proxy
from tests.canary import CANARY, assert_canary_free
from tests.transfer.conftest import Certificate
from tests.transfer.harness import body, get, link_client
from tests.transfer.hosts import Host, Visit, sends, whole

HELLO = whole(b"hello")


def forward(visit: Visit) -> None:
    """What a proxy does: pass a request on, or open a tunnel."""
    visit.close()
    method, target, _ = visit.request.line.split(" ")
    if method == "CONNECT":
        host, _, port = target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as there:
            visit.send(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=pump, args=(there, visit.sock), daemon=True)
            back.start()
            pump(visit.sock, there)
            back.join(5)
    else:
        visit.send(whole(f"proxied {target}".encode()))


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxy() -> Iterator[Host]:
    with Host(forward) as running:
        yield running


def test_an_http_link_goes_to_the_proxy_in_full(proxy: Host) -> None:
    url = "http://127.0.0.1:9/a;b//c?sig=%2f+x"
    assert get(url, proxy=f"http://127.0.0.1:{proxy.port}") == f"proxied {url}".encode()
    assert proxy.requests[0].fields["host"] == "127.0.0.1:9"
    assert "proxy-authorization" not in proxy.requests[0].fields


def test_an_https_link_goes_through_a_tunnel(proxy: Host, certificate: Certificate) -> None:
    tls = ssl.create_default_context(cafile=str(certificate.chain))
    with Host(HELLO, tls=certificate.server) as host:
        assert get(host.url(f"/f?sig={CANARY}"), tls=tls, proxy=f"http://127.0.0.1:{proxy.port}") == b"hello"
    assert proxy.requests[0].line == f"CONNECT 127.0.0.1:{host.port} HTTP/1.1"
    assert_canary_free([vars(request) for request in proxy.requests])
    assert "proxy-authorization" not in host.requests[0].fields


def test_a_tunnel_is_used_again(proxy: Host, certificate: Certificate) -> None:
    tls = ssl.create_default_context(cafile=str(certificate.chain))
    with (
        Host(HELLO, tls=certificate.server) as host,
        link_client(tls=tls, proxy=f"http://127.0.0.1:{proxy.port}") as client,
    ):
        for _ in range(3):
            assert body(client.get(host.url(), {})) == b"hello"
    assert len(proxy.requests) == 1


def test_in_a_tunnel_the_hosts_certificate_is_checked(proxy: Host, certificate: Certificate) -> None:
    with Host(HELLO, tls=certificate.server) as host, pytest.raises(UnsafeLinkError, match="'verify'"):
        get(host.url(), proxy=f"http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_credentials_go_to_the_proxy_only(secure: bool, proxy: Host, certificate: Certificate) -> None:
    tls = ssl.create_default_context(cafile=str(certificate.chain))
    with Host(HELLO, tls=certificate.server if secure else None) as host:
        get(host.url(), tls=tls, proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}")
    wanted = f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert proxy.requests[0].fields["proxy-authorization"] == wanted
    assert not any("proxy-authorization" in request.fields for request in host.requests)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_environments_proxy_holds_where_none_is_set(
    scheme: str, proxy: Host, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", f"127.0.0.1:{proxy.port}")
    tls = ssl.create_default_context(cafile=str(certificate.chain))
    with Host(HELLO, tls=certificate.server if scheme == "https" else None) as host:
        get(host.url(), tls=tls)
        assert len(proxy.requests) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        get(host.url(), tls=tls)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "[::1]", "2130706433"])
def test_a_private_host_is_refused_before_the_proxy_hears_of_it(host: str, scheme: str, proxy: Host) -> None:
    with pytest.raises(UnsafeLinkError):
        get(f"{scheme}://{host}/f", allowed=(), proxy=f"http://127.0.0.1:{proxy.port}")
    assert not proxy.requests


def test_a_host_that_only_the_proxy_knows_is_asked_through_it(proxy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def only_numbers(host: str, *args: object, **kwargs: object) -> object:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return real(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", only_numbers)
    address = f"http://127.0.0.1:{proxy.port}"
    assert get("http://inside.example/f", proxy=address) == b"proxied http://inside.example/f"
    assert get("http://ä.example:81/f", proxy=address) == b"proxied http://xn--4ca.example:81/f"


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_tunnel_that_the_proxy_refuses_is_a_broken_connection(status: str) -> None:
    with (
        Host(whole(b"no", status)) as proxy,
        pytest.raises(ConnectionBroken, match=f"proxy refused.* HTTP {status[:3]}"),
    ):
        get("https://127.0.0.1:9/f", proxy=f"http://127.0.0.1:{proxy.port}")


def test_whoever_waits_for_the_proxy_wakes(certificate: Certificate) -> None:
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(ConnectionBroken):
            client.get("https://127.0.0.1:9/f", {})
        ended.set()

    with Host(sends(b"", "hang")) as proxy, link_client(proxy=f"http://127.0.0.1:{proxy.port}", timeout=20) as client:
        thread = threading.Thread(target=ask)
        thread.start()
        while not proxy.requests:
            time.sleep(0.01)
        client.close()
        assert ended.wait(1)
        thread.join()


@pytest.mark.parametrize("proxy", ["socks5://h:1080", "https://me:CANARY@h:3128", "http://", "ftp://h", "http://h:x"])
def test_a_proxy_of_another_kind_is_a_wrong_setting(proxy: str) -> None:
    with pytest.raises(ConnectionConfigError, match="http://") as caught:
        get("http://127.0.0.1:9/f", proxy=proxy)
    assert_canary_free(caught.value, secrets=["CANARY"])


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("http://h", "h", 80), ("http://h:3128/", "h", 3128), ("h:3128", "h", 3128), ("http://[::1]:3128", "::1", 3128)],
)
def test_a_proxys_url_is_read_as_elsewhere(url: str, host: str, port: int) -> None:
    parsed = Proxy.parse(url)
    assert (parsed.host, parsed.port) == (host, port)


def test_a_proxys_credentials_do_not_show() -> None:
    assert_canary_free(Proxy.parse("http://me:CANARY@h"), secrets=["CANARY", base64.b64encode(b"me:CANARY").decode()])
