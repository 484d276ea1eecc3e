"""A file is read whole, in order and unmixed, whatever the host and the network do to single answers."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    IntegrityError,
    LinkExpiredError,
    LinkRefusedError,
    ServiceUnavailableError,
    SourceChangedError,
    TransferError,
)
from airflow_provider_taskdl.transfer.reader import RetryPolicy
from tests.canary import CANARY, assert_canary_free
from tests.transfer.harness import DATA, FAST, Lister, listing, read, remote
from tests.transfer.hosts import Answer, Host, Once, Request, Visit, chunked, head, ranged, sends, whole

SIZE = len(DATA)
TAG = '"one"'
Script = Callable[[Request], Answer]


def good(request: Request) -> bytes:
    return ranged(DATA, request, ETag=TAG)


def cut(at: int, end: str, data: bytes = DATA, **fields: object) -> Script:
    """Answers truly, but ends before the byte ``at`` of the file."""

    def answer(request: Request) -> Answer:
        honest = ranged(data, request, **{"ETag": TAG, **fields})
        return sends(honest[: len(honest) - (len(data) - max(at, request.start))], end)

    return answer


def says(*parts: bytes, then: str = "close") -> Script:
    return lambda request: sends(b"".join(parts), then)


class TestResume:
    @pytest.mark.parametrize("end", ["close", "reset"])
    @pytest.mark.parametrize("at", [0, 1, SIZE // 2, SIZE - 1])
    def test_a_cut_is_mended_with_the_bytes_that_are_missing(self, at: int, end: str) -> None:
        with Host(by=Once(cut(at, end), good)) as host:
            assert read(host.url(), size=SIZE).data == DATA
        # A reset throws away what the other side has not read yet.
        assert host.starts[0] == 0
        assert host.starts[1] == at if end == "close" else host.starts[1] <= at
        assert len(host.starts) == 2
        if at and end == "close":
            assert host.requests[1].fields["range"] == f"bytes={at}-"
            assert host.requests[1].fields["if-range"] == TAG

    @pytest.mark.parametrize("at", [0, 1, SIZE // 2, SIZE - 1])
    def test_a_cut_at_the_same_place_for_ever_is_given_up(self, at: int) -> None:
        onto = bytearray()
        with (
            Host(by=cut(at, "close")) as host,
            pytest.raises(TransferError, match=f"gave up at byte {at} of") as caught,
        ):
            read(host.url(), size=SIZE, onto=onto)
        assert bytes(onto) == DATA[:at]
        assert type(caught.value) is TransferError
        assert len(host.requests) == 1 + FAST.failures

    def test_the_budget_is_for_failures_without_a_new_byte(self) -> None:
        def one_more_byte(request: Request) -> Answer:
            return cut(request.start + 1, "close", DATA[:40])(request)

        with Host(by=one_more_byte) as host:
            got = read(host.url(), size=40, retry=RetryPolicy(failures=1, base=0.001, cap=0.001))
        assert got.data == DATA[:40]
        assert host.starts == list(range(40))
        assert got.reader.retries == 39

    def test_bytes_that_came_before_a_silence_are_not_asked_for_again(self) -> None:
        with Host(by=Once(cut(700, "hang"), good)) as host:
            assert read(host.url(), size=SIZE, timeout=0.3).data == DATA
        assert host.starts == [0, 700]

    def test_bytes_of_chunks_before_a_cut_are_not_asked_for_again(self) -> None:
        with Host(by=Once(says(chunked(DATA[:500], end=False, ETag=TAG)), good)) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert host.starts == [0, 500]

    def test_a_date_proves_the_rest_where_there_is_no_tag(self) -> None:
        date: dict[str, Any] = {"ETag": None, "Last_Modified": "Tue, 01 Apr 2025 00:00:00 GMT"}
        with Host(by=Once(cut(9, "close", **date), lambda r: ranged(DATA, r, **date))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert "if-range" not in host.requests[1].fields

    @pytest.mark.parametrize("tag", [None, 'W/"weak"'])
    def test_without_a_strong_validator_nothing_is_joined(self, tag: str | None) -> None:
        with (
            Host(by=Once(cut(9, "close", ETag=tag), lambda r: ranged(DATA, r, ETag=tag))) as host,
            pytest.raises(SourceChangedError, match="no ETag or date"),
        ):
            read(host.url(), size=SIZE)

    def test_without_a_validator_a_cut_before_the_first_byte_is_mended(self) -> None:
        with Host(by=Once(cut(0, "close", ETag=None), lambda r: ranged(DATA, r))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert host.starts == [0, 0]

    def test_an_answer_whose_end_mark_is_missing_is_complete_if_its_bytes_are(self) -> None:
        with Host(by=says(chunked(DATA, end=False, ETag=TAG))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert host.starts == [0]

    def test_the_host_may_give_the_rest_in_several_ranges(self) -> None:
        def in_pieces(request: Request) -> Answer:
            if not request.start:
                return cut(10, "close", ETag=TAG)(request)
            end = min(request.start + 600, SIZE)
            return whole(
                DATA[request.start : end], "206 Partial Content", ETag=TAG,
                Content_Range=f"bytes {request.start}-{end - 1}/{SIZE}",
            )  # fmt: skip

        with Host(by=in_pieces) as host:
            assert read(host.url()).data == DATA

    def test_the_last_of_several_ranges_is_not_guessed_at(self) -> None:
        piece = whole(DATA[500:900], "206 Partial Content", ETag=TAG, Content_Range="bytes 500-899/*")
        first = says(chunked(DATA[:500], end=False, ETag=TAG))
        with Host(by=Once(first, lambda r: piece)) as host, pytest.raises(IntegrityError, match="how long"):
            read(host.url())


class TestRangeAnswers:
    def test_the_whole_file_instead_of_a_range_is_skipped_to_the_place(self) -> None:
        with Host(by=Once(cut(777, "close"), lambda r: whole(DATA, ETag=TAG))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert host.starts == [0, 777]

    def test_skipping_is_no_progress(self) -> None:
        cut_again = says(whole(DATA, ETag=TAG)[: -SIZE + 500])
        with (
            Host(by=Once(cut(777, "close"), cut_again)) as host,
            pytest.raises(TransferError, match="gave up at byte 777"),
        ):
            read(host.url(), size=SIZE)
        assert len(host.requests) == 1 + FAST.failures

    @pytest.mark.parametrize(
        "answer",
        [
            whole(DATA[::-1], ETag='"two"'),
            whole(DATA[::-1]),
            whole(DATA[:-1], ETag=TAG),
            chunked(DATA[:500], ETag='"two"'),
            whole(DATA[777:], "206 Partial Content", ETag='"two"', Content_Range=f"bytes 777-{SIZE - 1}/{SIZE}"),
            whole(DATA[777:], "206 Partial Content", Content_Range=f"bytes 777-{SIZE - 1}/{SIZE}"),
            whole(DATA[777:], "206 Partial Content", ETag=TAG, Content_Range=f"bytes 777-{SIZE - 1}/{SIZE + 1}"),
            whole(b"", "416 Range Not Satisfiable", Content_Range="bytes */700"),
        ],
        ids=["200 other tag", "200 no tag", "200 other size", "200 chunked other tag", "206 other tag", "206 no tag",
             "206 other size", "416"],
    )  # fmt: skip
    def test_another_file_is_never_joined(self, answer: bytes) -> None:
        onto = bytearray()
        with Host(by=Once(cut(777, "close"), lambda r: answer)) as host, pytest.raises(SourceChangedError):
            read(host.url(), size=SIZE, onto=onto)
        assert bytes(onto) == DATA[:777]
        assert len(host.requests) == 2

    @pytest.mark.parametrize(
        ("type_", "content_range"),
        [
            (None, f"bytes 778-{SIZE - 1}/{SIZE}"),
            (None, f"bytes 776-{SIZE - 1}/{SIZE}"),
            (None, f"bytes 0-{SIZE - 1}/{SIZE}"),
            (None, f"bytes 777-5/{SIZE}"),
            (None, "bytes 777-"),
            (None, "777-2047/2048"),
            (None, ""),
            (None, None),
            ("multipart/byteranges; boundary=x", None),
        ],
    )
    def test_a_range_that_was_not_asked_for_is_not_taken(self, type_: str | None, content_range: str | None) -> None:
        bad = whole(DATA[777:], "206 Partial Content", ETag=TAG, Content_Type=type_, Content_Range=content_range)
        onto = bytearray()
        with Host(by=Once(cut(777, "close"), lambda r: bad)) as host, pytest.raises(TransferError, match="another one"):
            read(host.url(), size=SIZE, onto=onto)
        assert bytes(onto) == DATA[:777]
        assert len(host.requests) == 1 + FAST.failures

    def test_a_wrong_range_that_comes_once_is_mended(self) -> None:
        bad = whole(DATA[778:], "206 Partial Content", ETag=TAG, Content_Range=f"bytes 778-{SIZE - 1}/{SIZE}")
        with Host(by=Once(cut(777, "close"), Once(lambda r: bad, good))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert host.starts == [0, 777, 777]


class TestLength:
    @pytest.mark.parametrize("size", [None, SIZE], ids=["size unknown", "size declared"])
    @pytest.mark.parametrize("answer", [whole(DATA), chunked(DATA[:9], DATA[9:])], ids=["length", "chunks"])
    def test_an_answer_that_marks_its_end_is_enough(self, answer: bytes, size: int | None) -> None:
        with Host(answer) as host:
            got = read(host.url(), size=size)
        assert got.data == DATA
        assert got.reader.retries == 0

    def test_a_file_whose_end_nothing_marks_is_refused_before_its_bytes(self) -> None:
        onto = bytearray()
        with Host(sends(head() + DATA, "close")) as host, pytest.raises(IntegrityError, match="how long the file is"):
            read(host.url(), onto=onto)
        assert not onto

    def test_a_declared_size_marks_the_end_where_the_host_does_not(self) -> None:
        with Host(sends(head() + DATA, "close")) as host:
            assert read(host.url(), size=SIZE).data == DATA

    @pytest.mark.parametrize("wrong", [SIZE - 1, SIZE + 1, 0, 1])
    def test_a_length_other_than_the_declared_size_is_refused(self, wrong: int) -> None:
        onto = bytearray()
        with Host(whole(DATA)) as host, pytest.raises(IntegrityError, match=f"announced {wrong} bytes.* {SIZE}"):
            read(host.url(), size=wrong, onto=onto)
        assert not onto

    @pytest.mark.parametrize("size", [0, 1, SIZE - 1])
    @pytest.mark.parametrize("body", [chunked(DATA), head() + DATA], ids=["chunks", "until it closes"])
    def test_more_than_was_declared_is_refused(self, body: bytes, size: int) -> None:
        onto = bytearray()
        with Host(sends(body, "close")) as host, pytest.raises(IntegrityError, match=f"more than the {size} bytes"):
            read(host.url(), size=size, onto=onto)
        assert len(onto) <= size

    def test_less_than_was_declared_is_never_complete(self) -> None:
        with Host(chunked(DATA[:-1], ETag=TAG)) as host, pytest.raises(TransferError):
            read(host.url(), size=SIZE)

    @pytest.mark.parametrize("size", [None, 0])
    @pytest.mark.parametrize("answer", [whole(b""), chunked()], ids=["length", "chunks"])
    def test_an_empty_file_is_a_file(self, answer: bytes, size: int | None) -> None:
        with Host(answer) as host:
            assert read(host.url(), size=size).data == b""
        assert len(host.requests) == 1

    def test_no_content_is_an_empty_file_if_an_empty_one_was_declared(self) -> None:
        with Host(head("204 No Content")) as host:
            assert read(host.url(), size=0).data == b""

    @pytest.mark.parametrize("size", [None, 1])
    def test_no_content_is_no_file_otherwise(self, size: int | None) -> None:
        with Host(head("204 No Content")) as host, pytest.raises(TransferError, match="HTTP 204"):
            read(host.url(), size=size)


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
        assert 1.0 <= time.monotonic() - started < 3

    @pytest.mark.parametrize("status", ["304 Not Modified", "501 Not Implemented", "206 Partial Content"])
    def test_any_other_status_is_no_file(self, status: str) -> None:
        with Host(head(status, Content_Length=0)) as host, pytest.raises(TransferError, match=f"HTTP {status[:3]}"):
            read(host.url())


class TestNetwork:
    def test_a_host_that_falls_silent_is_asked_again(self) -> None:
        with Host(by=Once(lambda r: Visit.hang, good)) as host:
            started = time.monotonic()
            assert read(host.url(), timeout=0.3).data == DATA
        assert 0.3 <= time.monotonic() - started < 3

    def test_a_host_that_is_always_silent_is_given_up(self) -> None:
        with Host(by=cut(500, "hang")) as host, pytest.raises(TransferError, match="no bytes arrived in time"):
            read(host.url(), size=SIZE, timeout=0.1)
        assert len(host.requests) == 1 + FAST.failures

    def test_a_slow_host_is_let_finish(self) -> None:
        def drip(visit: Visit) -> None:
            visit.send(head(Content_Length=10))
            for byte in DATA[:10]:
                time.sleep(0.1)
                visit.send(bytes([byte]))

        with Host(drip) as host:
            assert read(host.url(), timeout=0.5).data == DATA[:10]

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
        "junk",
        [b"", b"\0\1\2\r\n\r\n", b"HTTP/9.9 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
         b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", b"SSH-2.0-server\r\n"],
        ids=["nothing", "bytes", "version", "fields", "long field", "other protocol"],
    )  # fmt: skip
    def test_what_is_not_http_is_a_broken_connection(self, junk: bytes) -> None:
        with Host(sends(junk, "close")) as host, pytest.raises(TransferError, match="gave up at byte 0") as caught:
            read(host.url(f"/f?sig={CANARY}"))
        assert_canary_free(caught.value)
