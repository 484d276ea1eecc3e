"""How a link's host is connected to: one judged address, kept alive, woken at will, certificates checked."""

from __future__ import annotations

import errno
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import UnsafeLinkError
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.connection import ConnectionBroken
from airflow_provider_taskdl.transfer.host_rules import HostRules
from tests.canary import CANARY, assert_canary_free
from tests.transfer.conftest import Certificate
from tests.transfer.harness import body, get, link_client
from tests.transfer.hosts import Host, Visit, chunked, head, sends, whole

HELLO = whole(b"hello")


class TestConnections:
    @pytest.mark.parametrize("answer", [HELLO, chunked(b"hel", b"lo")], ids=["length", "chunks"])
    def test_a_connection_is_used_again(self, answer: bytes) -> None:
        with Host(answer) as host, link_client() as client:
            for _ in range(5):
                assert body(client.get(host.url(), {})) == b"hello"
        assert host.connections == 1

    @pytest.mark.parametrize(
        "answer",
        [whole(b"hello", Connection="close"), sends(head() + b"hello", "close")],
        ids=["asked for", "no length"],
    )
    def test_a_connection_that_the_host_closes_is_not(self, answer: bytes) -> None:
        with Host(answer) as host, link_client() as client:
            for _ in range(2):
                assert body(client.get(host.url(), {})) == b"hello"
        assert host.connections == 2

    def test_a_connection_whose_body_was_not_read_to_its_end_is_not(self) -> None:
        with Host(whole(b"x" * 100_000)) as host, link_client() as client:
            for _ in range(2):
                response = client.get(host.url(), {})
                assert response.read_some(10) == b"x" * 10
                response.close()
        assert host.connections == 2

    @pytest.mark.parametrize(
        "more", [b"more", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse"], ids=["junk", "answer"]
    )
    def test_what_follows_an_answer_unasked_is_not_taken_for_the_next_one(self, more: bytes) -> None:
        read, sent = threading.Event(), threading.Event()

        def answer(visit: Visit) -> None:
            visit.send(HELLO)
            read.wait(10)  # or it would come along with the answer, and go with it
            visit.send(more)
            sent.set()

        with Host(answer, HELLO) as host, link_client() as client:
            assert body(client.get(host.url(), {})) == b"hello"
            read.set()
            assert sent.wait(10)
            time.sleep(0.05)
            assert body(client.get(host.url(), {})) == b"hello"
        assert [request.connection for request in host.requests] == [0, 1]

    def test_nor_is_what_was_decrypted_along_with_the_answer(self, certificate: Certificate) -> None:
        tls = ssl.create_default_context(cafile=str(certificate.chain))
        # In one record of TLS; http.client takes the first of it into its own buffer, and drops that after the answer.
        more = b"x" * (io.DEFAULT_BUFFER_SIZE - len(HELLO)) + whole(b"false")
        with Host(HELLO + more, HELLO, tls=certificate.server) as host, link_client(tls=tls) as client:
            for _ in range(2):
                assert body(client.get(host.url(), {})) == b"hello"
        assert [request.connection for request in host.requests] == [0, 1]

    def test_a_connection_that_died_while_it_lay_idle_is_replaced_unnoticed(self) -> None:
        with Host(sends(HELLO, "close")) as host, link_client() as client:
            for _ in range(3):
                assert body(client.get(host.url(), {})) == b"hello"
                time.sleep(0.05)
        assert host.connections == 3

    def test_a_new_connection_that_dies_is_no_secret(self) -> None:
        with Host(sends(b"", "close")) as host, link_client() as client, pytest.raises(ConnectionBroken):
            client.get(host.url(), {})
        assert host.connections == 1

    def test_many_threads_get_their_own_answers(self) -> None:
        with Host(by=lambda request: whole(request.target.encode())) as host, link_client() as client:
            wrong: list[bytes] = []

            def work(number: int) -> None:
                for turn in range(10):
                    target = f"/{number}/{turn}"
                    if (got := body(client.get(host.url(target), {}))) != target.encode():
                        wrong.append(got)

            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not wrong
        assert len(host.requests) == 80
        assert host.connections <= 8


def silent_body(fields: dict[str, object]) -> Callable[[Visit], None]:
    return sends(head(**fields) + b"x", "hang")


class TestClose:
    @pytest.mark.parametrize(
        "answer",
        [
            sends(b"", "hang"),
            silent_body({"Content_Length": 9}),
            silent_body({"Content_Length": 9, "Connection": "close"}),
            silent_body({"Transfer_Encoding": "chunked"}),
            silent_body({}),
        ],
        ids=["head", "length", "length then close", "chunks", "no length"],
    )
    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    def test_whoever_waits_wakes_at_once(
        self, answer: Callable[[Visit], None], secure: bool, certificate: Certificate
    ) -> None:
        tls = ssl.create_default_context(cafile=str(certificate.chain))
        with Host(answer, tls=certificate.server if secure else None) as host:
            self.wakes(host.url(), lambda: len(host.requests) == 1, tls=tls)

    def test_whoever_waits_on_a_used_connection_wakes_and_connects_no_more(self) -> None:
        with Host(HELLO, sends(b"", "hang")) as host:
            self.wakes(
                host.url(), lambda: len(host.requests) == 2, before=lambda client: body(client.get(host.url(), {}))
            )
        assert host.connections == 1

    def test_whoever_waits_for_a_handshake_wakes(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.wakes(f"https://127.0.0.1:{silent.getsockname()[1]}/", lambda: False)

    def test_whoever_waits_to_be_connected_wakes(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0), backlog=0) as full,
            socket.socket() as first,
            socket.socket() as next_,
        ):
            for sock in (first, next_):  # the queue is full: a third is not even refused
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            self.wakes(f"http://127.0.0.1:{full.getsockname()[1]}/", lambda: False)

    def test_a_closed_client_asks_nobody(self) -> None:
        with Host(HELLO) as host, link_client() as client:
            client.close()
            with pytest.raises(ConnectionBroken, match="stopped"):
                client.get(host.url(), {})
        assert host.connections == 0

    @staticmethod
    def wakes(
        url: str, waits: Callable[[], bool], tls: ssl.SSLContext | None = None,
        before: Callable[[LinkClient], object] = lambda client: None,
    ) -> None:  # fmt: skip
        ended: list[float] = []

        def ask() -> None:
            try:
                response = client.get(url, {})
                with closing(response):
                    while response.readinto(memoryview(bytearray(10))):
                        pass
            except ConnectionBroken:
                pass
            ended.append(time.monotonic())

        with link_client(timeout=20, tls=tls) as client:
            before(client)
            thread = threading.Thread(target=ask)
            thread.start()
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline and not waits():
                time.sleep(0.01)
            time.sleep(0.1)
            assert not ended, "it should be waiting by now"
            closed = time.monotonic()
            client.close()
            thread.join(5)
        assert ended
        assert ended[0] - closed < 1


class TestTls:
    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "localhost."])
    def test_a_trusted_certificate_is_taken(
        self, name: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tls, real = ssl.create_default_context(cafile=str(certificate.chain)), socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1", *a, **k))
        with Host(HELLO, tls=certificate.server) as host:
            assert get(host.url(host=name), tls=tls) == b"hello"
        assert host.requests[0].fields["host"] == f"{name}:{host.port}"

    def test_one_that_is_not_trusted_says_where_to_say_so(self, certificate: Certificate) -> None:
        with Host(HELLO, tls=certificate.server) as host, pytest.raises(UnsafeLinkError, match="'verify'") as caught:
            get(host.url(f"/f?sig={CANARY}"))
        assert not caught.value.retryable
        assert not host.requests
        assert_canary_free(caught.value)

    def test_one_for_another_name_is_refused(self, certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
        tls, real = ssl.create_default_context(cafile=str(certificate.chain)), socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1", *a, **k))
        with Host(HELLO, tls=certificate.server) as host, pytest.raises(UnsafeLinkError, match="not trusted"):
            get(host.url(host="other.example"), tls=tls)
        assert not host.requests

    def test_checking_can_be_switched_off(self, certificate: Certificate) -> None:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        with Host(HELLO, tls=certificate.server) as host:
            assert get(host.url(), tls=tls) == b"hello"

    def test_a_host_without_tls_is_a_broken_connection(self) -> None:
        with Host(HELLO) as host, pytest.raises(ConnectionBroken):
            get(f"https://127.0.0.1:{host.port}/", timeout=0.5)


class TestAddresses:
    def test_the_address_that_was_judged_is_the_one_connected_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name server that gives a public address first and a private one afterwards gains nothing."""
        asked: list[str] = []
        connected: list[Any] = []

        def rebinding(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
            asked.append(host)
            address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        class Recording(socket.socket):
            def connect(self, address: Any) -> None:
                connected.append(address)
                raise ConnectionRefusedError

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(socket, "socket", Recording)
        client = LinkClient(HostRules(), tls=ssl.create_default_context(), timeout=2)
        with pytest.raises(ConnectionBroken):
            client.get("http://rebind.example:8080/f", {})
        assert connected == [("93.184.216.34", 8080)]
        assert asked == ["rebind.example"]
        with pytest.raises(UnsafeLinkError):
            client.get("http://rebind.example:8080/f", {})
        assert len(connected) == 1

    def test_the_next_address_is_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Host(HELLO) as host:
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, host.port)) for a in ("127.0.0.9", "127.0.0.1")]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
            assert get(host.url(host="two.example"), allowed=["127.0.0.0/8"]) == b"hello"

    def test_an_address_of_a_kind_that_this_machine_does_not_speak_is_passed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class OldNetwork(socket.socket):
            def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
                if family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
                super().__init__(family, *args, **kwargs)

        with Host(HELLO) as host:
            found = [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", host.port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", host.port)),
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
            monkeypatch.setattr(socket, "socket", OldNetwork)
            assert get(host.url(host="two.example"), allowed=["::1", "127.0.0.1"]) == b"hello"
            found.pop()
            with pytest.raises(ConnectionBroken, match="family not supported"):
                get(host.url(host="two.example"), allowed=["::1"])

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
    def test_this_machine_is_out_of_reach(self, host: str) -> None:
        with Host(HELLO) as here, pytest.raises(UnsafeLinkError):
            get(here.url(host=host), allowed=())
        assert here.connections == 0
