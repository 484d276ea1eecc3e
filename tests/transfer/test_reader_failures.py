"""A reader waits out weather, renews a refused link once, and takes nothing that is not the file."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable

import pytest

from airflow_provider_taskdl.exceptions import (
    LinkExpiredError,
    LinkRefusedError,
    ServiceUnavailableError,
    TransferError,
)
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.reader import RangeReader
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.source import Source
from tests.canary import CANARY, assert_canary_free
from tests.transfer.answers import SIZE, cut, good
from tests.transfer.harness import DATA, FAST, Lister, link_client, listing, read, remote
from tests.transfer.hosts import Answer, Host, Once, Request, Visit, chunked, head, sends, whole


class TestWrongContent:
    def test_a_compressed_answer_is_refused(self) -> None:
        packed = gzip.compress(DATA)
        with Host(whole(packed, Content_Encoding="gzip")) as host, pytest.raises(TransferError, match="gzip") as caught:
            read(host.url())
        assert not caught.value.retryable
        assert host.requests[0].fields["accept-encoding"] == "identity"

    def test_a_file_that_is_itself_compressed_is_known_by_its_size(self) -> None:
        packed = gzip.compress(DATA)
        with Host(whole(packed, Content_Encoding="gzip")) as host:
            assert read(host.url(), size=len(packed)).data == packed

    @pytest.mark.parametrize("page", [whole, chunked], ids=["length", "chunks"])
    def test_a_page_in_the_files_place_is_refused(self, page: Callable[..., bytes]) -> None:
        html = b"<html><h1>Please log in</h1></html>"
        with Host(by=Once(lambda r: page(html, Content_Type="text/html"), good)) as host, pytest.raises(TransferError):
            read(host.url(), size=SIZE)


class TestRefusals:
    @pytest.mark.parametrize("status", ["401 No", "403 Forbidden", "404 Not Found", "410 Gone", "400 Bad Request"])
    def test_a_refusal_is_answered_with_exactly_one_fresh_link(self, status: str) -> None:
        with Host(whole(b"<Error><Code>SomeCode</Code></Error>", status)) as host:
            lister = Lister([listing(remote(host.url("/g?sig=new")))])
            with pytest.raises(LinkRefusedError, match=f"HTTP {status[:3]}") as caught:
                read(host.url("/f?sig=old"), lister=lister)
        assert [request.target for request in host.requests] == ["/f?sig=old", "/g?sig=new"]
        assert lister.calls == 1
        assert caught.value.code == "SomeCode"

    @pytest.mark.parametrize("body", [b"<Error><Code>RequestExpired</Code></Error>", b'{"code": "RequestExpired"}'])
    def test_a_link_that_the_host_calls_expired_is_an_expired_one(self, body: bytes) -> None:
        with Host(whole(body, "403 Forbidden")) as host, pytest.raises(LinkExpiredError) as caught:
            read(host.url())
        assert caught.value.code == "RequestExpired"
        assert caught.value.retryable

    @pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden"])
    def test_an_expired_link_costs_no_file_its_parts(self, status: str) -> None:
        def answer(request: Request) -> bytes:
            return (
                good(request)
                if "fresh" in request.target
                else whole(b"<Error><Code>ExpiredToken</Code></Error>", status)
            )

        with Host(by=answer) as host, link_client() as client:
            first = listing(remote(host.url("/f?old"), size=SIZE))
            links = LinkSource(first, Lister([listing(remote(host.url("/f?fresh"), size=SIZE))]), FAST)
            reader = RangeReader(Source(first.files[0]), links, client, FAST, threading.Event(), 0, SIZE)
            reader.open()
            reader.close()
        assert host.requests[-1].fields["range"] == f"bytes=0-{SIZE - 1}"

    def test_a_service_that_has_no_link_for_a_while_is_waited_for_as_one_that_is_down(self) -> None:
        def answer(request: Request) -> bytes:
            return good(request) if "fresh" in request.target else whole(b"", "403 Forbidden")

        with Host(by=answer) as host:
            fresh = listing(remote(host.url("/f?fresh"), size=SIZE))
            retry = RetryPolicy(failures=2, base=0.01, cap=0.5)  # and so two seconds for the service
            assert read(host.url("/f?old"), size=SIZE, renewed=[*[listing()] * 6, fresh], retry=retry).data == DATA

    def test_a_link_that_is_refused_whenever_there_is_one_is_given_up(self) -> None:
        with Host(whole(b"", "403 Forbidden")) as host, pytest.raises(LinkRefusedError):
            read(host.url(), size=SIZE, renewed=[listing(), listing(remote(host.url(), size=SIZE))] * 100)
        # Neither of the two bounds alone would end it: no listing lacks the link twice in a row.
        assert len(host.requests) <= FAST.failures + 2

    def test_a_fresh_link_goes_on_where_the_old_one_ended(self) -> None:
        def host_by_link(request: Request) -> Answer:
            if "sig=new" in request.target:
                return good(request)
            return whole(b"over", "403 Forbidden") if request.start else cut(500, "close")(request)

        with Host(by=host_by_link) as host:
            lister = Lister([listing(remote(host.url("/f?sig=new"), size=SIZE))])
            assert read(host.url("/f?sig=old"), size=SIZE, lister=lister).data == DATA
        assert host.starts == [0, 500, 500]
        assert lister.calls == 1

    def test_a_service_that_fails_once_does_not_use_up_the_renewal(self) -> None:
        with Host(by=lambda r: good(r) if "new" in r.target else whole(b"over", "403 Forbidden")) as host:
            weather = ServiceUnavailableError("try again")
            lister = Lister([weather, weather, listing(remote(host.url("/f?sig=new")))])
            assert read(host.url("/f?sig=old"), lister=lister).data == DATA
        assert lister.calls == 3

    @pytest.mark.parametrize("status", ["408 Timeout", "429 Too Many", "500 Oops", "502 Bad", "503 Busy", "504 Late"])
    def test_weather_is_waited_out(self, status: str) -> None:
        with Host(by=Once(lambda r: whole(b"", status), good, times=FAST.failures)) as host:
            got = read(host.url(), size=SIZE)
        assert got.data == DATA
        assert got.reader.retries == FAST.failures
        assert got.listings == 0

    def test_weather_for_ever_is_given_up(self) -> None:
        with Host(whole(b"", "503 Busy")) as host, pytest.raises(TransferError, match="HTTP 503") as caught:
            read(host.url())
        assert caught.value.retryable
        assert len(host.requests) == 1 + FAST.failures

    @pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Busy"])
    def test_the_host_says_when_to_come_back(self, status: str) -> None:
        with Host(by=Once(lambda r: whole(b"", status, Retry_After=1), good)) as host:
            started = time.monotonic()
            read(host.url())
        assert 1.0 <= time.monotonic() - started < 20

    @pytest.mark.parametrize("status", ["304 Not Modified", "501 Not Implemented", "206 Partial Content"])
    def test_any_other_status_is_no_file(self, status: str) -> None:
        with Host(head(status, Content_Length=0)) as host, pytest.raises(TransferError, match=f"HTTP {status[:3]}"):
            read(host.url())


class TestNetwork:
    def test_a_host_that_falls_silent_is_asked_again(self) -> None:
        with Host(by=Once(lambda r: Visit.hang, good)) as host:
            started = time.monotonic()
            assert read(host.url(), timeout=0.3).data == DATA
        assert 0.3 <= time.monotonic() - started < 20

    def test_a_host_that_is_always_silent_is_given_up(self) -> None:
        with Host(by=cut(500, "hang")) as host, pytest.raises(TransferError, match="no bytes arrived in time"):
            read(host.url(), size=SIZE, timeout=1.0)
        assert len(host.requests) == 1 + FAST.failures

    def test_a_slow_host_is_let_finish(self) -> None:
        def drip(visit: Visit) -> None:
            visit.send(head(Content_Length=30))
            for byte in DATA[:30]:
                time.sleep(0.1)
                visit.send(bytes([byte]))

        with Host(drip) as host:
            assert read(host.url(), timeout=2.0).data == DATA[:30]

    def test_a_refused_connection_is_tried_again_and_then_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with pytest.raises(TransferError, match=r"after 5 failures.*refused") as caught:
            read(f"http://127.0.0.1:{port}/f?sig={CANARY}")
        assert caught.value.retryable
        assert_canary_free(caught.value)

    def test_a_name_that_is_not_known_for_a_moment_is_waited_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, failures = socket.getaddrinfo, [socket.gaierror(socket.EAI_AGAIN, "try again")] * 2

        def flaky(*args: object, **kwargs: object) -> object:
            if failures:
                raise failures.pop()
            return real(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", flaky)
        with Host(by=good) as host:
            assert read(host.url(), size=SIZE).data == DATA

    def test_a_name_that_is_never_known_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*args: object, **kwargs: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(TransferError, match=r"'files\.example', cannot be resolved") as caught:
            read(f"http://files.example/f?sig={CANARY}")
        assert_canary_free(caught.value)

    @pytest.mark.parametrize(
        ("start", "endless"),
        [
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
            (b"HTTP/1.1 ", b"2"),
            (chunked(end=False) + b"0\r\n", b"X: y\r\n"),
            (chunked(end=False), b"0"),
        ],
        ids=["provisional answers", "fields", "status line", "trailers", "length of a chunk"],
    )
    def test_lines_without_end_are_a_broken_connection(self, start: bytes, endless: bytes) -> None:
        sent = 0

        def answer(visit: Visit) -> None:
            nonlocal sent
            visit.send(start)
            while True:
                visit.send(endless * 1000)
                sent += len(endless) * 1000

        with Host(answer) as host, pytest.raises(TransferError, match="gave up at byte 0"):
            read(host.url(), retry=RetryPolicy(failures=1, base=0.001, cap=0.001))
        assert len(host.requests) == 2
        assert sent < 2 * 32 * 2**20  # what was read, and what the machine's own buffers took

    @pytest.mark.parametrize(
        "junk",
        [b"", b"\0\1\2\r\n\r\n", b"HTTP/9.9 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
         b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", b"SSH-2.0-server\r\n"],
        ids=["nothing", "bytes", "version", "fields", "long field", "other protocol"],
    )  # fmt: skip
    def test_what_is_not_http_is_a_broken_connection(self, junk: bytes) -> None:
        with Host(sends(junk, "close")) as host, pytest.raises(TransferError, match="gave up at byte 0") as caught:
            read(host.url(f"/f?sig={CANARY}"))
        assert_canary_free(caught.value)
