"""What goes over the wire for a link: the URL as given, nothing of ours, and only to hosts that were judged."""

from __future__ import annotations

import ssl
import time
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import TransferError, UnsafeLinkError
from airflow_provider_taskdl.transfer.connection import ConnectionBroken
from tests.canary import CANARY, assert_canary_free
from tests.transfer.conftest import Certificate
from tests.transfer.harness import body, get, link_client
from tests.transfer.hosts import Host, Request, Visit, chunked, head, sends, whole

HELLO = whole(b"hello")


class TestWire:
    @pytest.mark.parametrize(
        ("target", "sent"),
        [
            ("", "/"),
            ("/", "/"),
            ("?x=1", "/?x=1"),
            ("/f?", "/f?"),
            ("/f?#frag", "/f?"),
            ("/f#?frag", "/f"),
            ("/a%2Fb%2fc%7E~%41", "/a%2Fb%2fc%7E~%41"),
            ("/a+b%20c%2B?q=a+b%20c", "/a+b%20c%2B?q=a+b%20c"),
            ("//a///b//", "//a///b//"),
            ("/a/../b/./c", "/a/../b/./c"),
            ("/a;p=1;/b;?x;y", "/a;p=1;/b;?x;y"),
            ("/f?b=2&a=1&b=1&&=&c", "/f?b=2&a=1&b=1&&=&c"),
            ("/f?sig=a/b?c:d@e%3D==", "/f?sig=a/b?c:d@e%3D=="),
            ("/f?x=%zz%", "/f?x=%zz%"),
            ("/f?x=[1]{2}|\\^`'\"<>", "/f?x=[1]{2}|\\^`'\"<>"),
            ("/ä b?x=é", "/%C3%A4%20b?x=%C3%A9"),
            ("/f?authorization=bce-auth-v1%2Fak%2F2025-01-01T00%3A00%3A00Z%2F300%2Fhost%2Fab",
             "/f?authorization=bce-auth-v1%2Fak%2F2025-01-01T00%3A00%3A00Z%2F300%2Fhost%2Fab"),
        ],
    )  # fmt: skip
    def test_a_url_is_sent_as_it_was_signed(self, target: str, sent: str) -> None:
        with Host(HELLO) as host:
            assert get(host.url(target)) == b"hello"
        assert host.requests[0].line == f"GET {sent} HTTP/1.1"

    def test_nothing_but_the_request_is_on_the_wire(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".netrc").write_text("default login me password mine\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        with Host(whole(b"x", Set_Cookie="session=1")) as host, link_client() as client:
            for _ in range(2):
                body(client.get(host.url(), {"Range": "bytes=5-", "If-Range": '"t"'}))
        for request in host.requests:
            assert request.fields == {
                "host": f"127.0.0.1:{host.port}",
                "accept-encoding": "identity",
                "user-agent": "airflow-provider-taskdl",
                "accept": "*/*",
                "range": "bytes=5-",
                "if-range": '"t"',
            }

    @pytest.mark.parametrize("answer", [HELLO, chunked(b"hello"), head() + b"hello"], ids=["length", "chunks", "none"])
    def test_no_room_is_neither_a_failure_nor_the_end(self, answer: bytes) -> None:
        with Host(sends(answer, "close")) as host, link_client() as client:
            response = client.get(host.url(), {})
            assert response.readinto(memoryview(b"")) == 0
            assert body(response) == b"hello"


class TestConnections:
    @pytest.mark.parametrize("early", ["103 Early Hints", "102 Processing", "100 Continue"])
    def test_a_provisional_answer_is_not_the_answer(self, early: str) -> None:
        def answer(visit: Visit) -> None:
            visit.send(head(early, Link="</x>; rel=preload"))
            time.sleep(0.05)
            visit.send(head(early) + whole(f"for {visit.request.target}".encode()))

        with Host(answer) as host, link_client() as client:
            assert [body(client.get(host.url(target), {})) for target in ("/a", "/b")] == [b"for /a", b"for /b"]
        assert host.connections == 1

    def test_another_protocol_is_no_answer(self) -> None:
        with Host(head("101 Switching Protocols") + HELLO) as host, pytest.raises(ConnectionBroken):
            get(host.url())

    @pytest.mark.parametrize("cut", [b"0005\r\nhello\r\n0", b"5\r\nhello\r\n0", b"5\r\nhello\r\n"])
    def test_a_connection_that_ends_within_a_line_has_not_told_the_end(self, cut: bytes) -> None:
        answer = sends(head(Transfer_Encoding="chunked") + cut, "close")
        with Host(answer) as host, link_client() as client:
            response = client.get(host.url(), {})
            view = memoryview(bytearray(100))
            with pytest.raises(ConnectionBroken):  # noqa: PT012 - how much comes before is the library's affair
                while response.readinto(view):
                    pass
            response.close()

    @pytest.mark.parametrize("cut", ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nETag: x\r\n", "HTTP/1.1 103 E\r\n\r\n"])
    def test_a_head_that_is_cut_is_no_answer(self, cut: str) -> None:
        with Host(sends(cut.encode(), "close")) as host, pytest.raises(ConnectionBroken):
            get(host.url())

    def test_many_hosts_leave_no_more_connections_than_were_ever_in_use_at_once(self) -> None:
        with ExitStack() as hosts, link_client() as client:
            urls = [hosts.enter_context(Host(HELLO)).url() for _ in range(9)]
            for url in urls:
                assert body(client.get(url, {})) == b"hello"
            assert len(client._idle) == 1
            for response in [client.get(url, {}) for url in urls[:3]]:
                body(response)
            for url in urls:
                body(client.get(url, {}))
            assert len(client._idle) == 3

    def test_what_is_used_again_is_the_connection_that_was_used_last(self) -> None:
        with Host(HELLO) as host, Host(HELLO) as other, link_client() as client:
            for response in [client.get(url, {}) for url in (host.url(), other.url())]:
                body(response)
            for _ in range(3):
                body(client.get(host.url(), {}))
                body(client.get(other.url(), {}))
        assert (host.connections, other.connections) == (1, 1)


class TestRedirects:
    def test_a_redirect_is_followed_with_the_range(self) -> None:
        with Host(by=lambda r: HELLO if "new" in r.target else whole(b"", "302 Found", Location="/new?sig=2")) as host:
            assert get(host.url("/old?sig=1"), fields={"Range": "bytes=3-"}) == b"hello"
        assert [request.target for request in host.requests] == ["/old?sig=1", "/new?sig=2"]
        assert host.requests[1].fields["range"] == "bytes=3-"
        assert host.connections == 1

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
    def test_another_host_is_judged_and_followed(self, status: str) -> None:
        with Host(HELLO) as there, Host(whole(b"", status, Location=there.url("/f?sig=2"))) as here:
            assert get(here.url()) == b"hello"
        assert there.requests[0].fields["host"] == f"127.0.0.1:{there.port}"

    @pytest.mark.parametrize(
        ("location", "sent"),
        [
            ("/a;?x;", "/a;?x;"),
            ("/a?", "/a?"),
            ("/a/../b", "/a/../b"),
            ("b?y", "/dir/b?y"),
            ("?y", "/dir/old?y"),
            ("/a b", "/a%20b"),
            ("/ä".encode().decode("latin-1"), "/%C3%A4"),
            ("/\xe4", "/%E4"),
            ("/a%2fb+c", "/a%2fb+c"),
        ],
    )
    def test_where_it_leads_is_sent_as_given(self, location: str, sent: str) -> None:
        with Host(whole(b"", "302 Found", Location=location), HELLO) as host:
            assert get(host.url("/dir/old?sig=1")) == b"hello"
        assert host.requests[1].target == sent

    @pytest.mark.parametrize("secret", [f"http://h:bad/?s={CANARY}", f"http://[/?s={CANARY}", f"//[/?s={CANARY}"])
    def test_a_redirect_to_what_is_no_url_is_refused(self, secret: str) -> None:
        with Host(whole(b"", "302 Found", Location=secret)) as host, pytest.raises(UnsafeLinkError) as caught:
            get(host.url())
        assert_canary_free(caught.value)

    @pytest.mark.parametrize(
        "to",
        ["http://127.0.0.2/", "http://169.254.169.254/latest/meta-data/", "http://[::1]:1/",
         "http://10.0.0.1/", "http://2130706434/", "ftp://127.0.0.1/f", "file:///etc/passwd", "http://u:p@127.0.0.1/"],
    )  # fmt: skip
    def test_a_redirect_into_the_private_network_is_refused(self, to: str) -> None:
        with Host(whole(b"", "302 Found", Location=to)) as host, pytest.raises(UnsafeLinkError) as caught:
            get(host.url(), allowed=["127.0.0.1"])
        assert len(host.requests) == 1
        assert not caught.value.retryable

    def test_https_is_not_left_for_http(self, certificate: Certificate) -> None:
        tls = ssl.create_default_context(cafile=str(certificate.chain))
        with (
            Host(HELLO) as plain,
            Host(whole(b"", "302 Found", Location=plain.url()), tls=certificate.server) as host,
            pytest.raises(UnsafeLinkError, match="from https to http"),
        ):
            get(host.url(), tls=tls)
        assert not plain.requests

    @pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
    def test_five_redirects_are_followed_and_no_more(self, hops: int, arrives: bool) -> None:
        def hop(request: Request) -> bytes:
            number = int(request.target.strip("/"))
            return whole(b"", "302 Found", Location=f"/{number - 1}") if number else HELLO

        with Host(by=hop) as host:
            if arrives:
                assert get(host.url(f"/{hops}")) == b"hello"
            else:
                with pytest.raises(TransferError, match="more than 5 times"):
                    get(host.url(f"/{hops}"))
            assert len(host.requests) == 6

    def test_a_loop_ends(self) -> None:
        with Host(whole(b"", "302 Found", Location="/f")) as host, pytest.raises(TransferError, match="more than 5"):
            get(host.url("/f"))
        assert len(host.requests) == 6

    def test_a_redirect_to_nowhere_is_no_file(self) -> None:
        with Host(whole(b"", "302 Found")) as host, pytest.raises(TransferError, match="where to"):
            get(host.url())
