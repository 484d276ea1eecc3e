"""A file is read whole, in order and unmixed, whatever the host and the network do to single answers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    IntegrityError,
    SourceChangedError,
    TransferError,
)
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from tests.transfer.answers import SIZE, TAG, cut, good, says
from tests.transfer.harness import DATA, FAST, read
from tests.transfer.hosts import Answer, Host, Once, Request, chunked, head, ranged, sends, whole


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
            assert read(host.url(), size=SIZE, timeout=2.0).data == DATA
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

    def test_a_tag_without_quotes_is_no_condition_but_proves_the_rest(self) -> None:
        tag = "9e107d9d"
        with Host(by=Once(cut(9, "close", ETag=tag), lambda r: ranged(DATA, r, ETag=tag))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert "if-range" not in host.requests[1].fields
        assert host.starts == [0, 9]

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

    @pytest.mark.parametrize("last", [1000, SIZE - 2])
    def test_a_body_of_another_length_than_its_range_is_not_taken(self, last: int) -> None:
        answered = f"bytes 777-{last}/{SIZE}"
        bad = whole(DATA[777:], "206 Partial Content", ETag=TAG, Content_Range=answered)
        onto = bytearray()
        with Host(by=Once(cut(777, "close"), lambda r: bad)) as host, pytest.raises(TransferError, match="another one"):
            read(host.url(), size=SIZE, onto=onto)
        assert bytes(onto) == DATA[:777]
        assert len(host.requests) == 1 + FAST.failures

    def test_of_a_body_without_length_only_its_range_is_taken(self) -> None:
        false = chunked(DATA[777:1000], b"false" * 1000, ETag=TAG, Content_Range=f"bytes 777-999/{SIZE}")
        bad = false.replace(b"200 OK", b"206 Partial Content", 1)
        with Host(by=Once(cut(777, "close"), Once(lambda r: bad, good))) as host:
            assert read(host.url(), size=SIZE).data == DATA
        assert host.starts == [0, 777, 1000]

    def test_a_range_that_is_packed_on_its_way_is_refused(self) -> None:
        fields: dict[str, Any] = {
            "ETag": TAG,
            "Content_Encoding": "gzip",
            "Content_Range": f"bytes 777-{SIZE - 1}/{SIZE}",
        }
        packed = chunked(gzip.compress(DATA[777:]), **fields).replace(b"200 OK", b"206 Partial Content", 1)
        with Host(by=Once(cut(777, "close"), lambda r: packed)) as host, pytest.raises(TransferError, match="gzip"):
            read(host.url(), size=SIZE)
        assert len(host.requests) == 2

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
