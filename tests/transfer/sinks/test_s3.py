"""The S3 sink on a real S3 server: what it publishes, when, and what it leaves behind."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
from airflow_provider_taskdl.transfer.sinks.s3_requests import Tries
from airflow_provider_taskdl.transfer.stop import Cancelled
from tests.s3 import Fault, S3Front, S3Server, Seen, uploads_in
from tests.transfer.harness import GoOn

pytestmark = pytest.mark.s3

PART = 1000
FAST = Tries(count=4, base=0.01, cap=0.02)
DATA = random.Random(1).randbytes(10 * PART + 123)
ORIGIN = Origin(len(DATA), '"e-1"', None)
ODD = ["a b", "ü雪", "a+b&c=d", "100%", "%41", "a'b(c)!", "~a", "a?b", "a#b", '"q"', "x@y:z", "a..b", "{}[]"]


class Rig:
    """A store on a bucket of its own, and a look behind its back."""

    def __init__(self, server: S3Server, front: S3Front, prefix: str = "pre fix") -> None:
        self.front, self.bucket, self.prefix = front, server.bucket(), prefix
        self.admin, self.client = server.client(), server.client(front.url)
        self.store = self.new()

    def new(self) -> S3Store:
        """A store as another process would make it."""
        return S3Store(self.client, self.bucket, self.prefix, min_part_size=1, tries=FAST)

    def names(self) -> set[str]:
        found = self.admin.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {entry["Key"].removeprefix(f"{self.prefix}/") for entry in found}

    def content(self, name: str) -> bytes:
        content: bytes = self.admin.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")["Body"].read()
        return content

    def uploads(self) -> list[str]:
        return uploads_in(self.admin, self.bucket)

    def put(self, name: str, data: bytes) -> None:
        self.admin.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=data)

    def open(self, name: str = "f", origin: Origin = ORIGIN, *, replace: bool = True) -> Any:
        return self.store.open(name, origin, part_size=PART, replace=replace)


@pytest.fixture
def rig(s3_server: S3Server, s3_front: S3Front) -> Iterator[Rig]:
    rig = Rig(s3_server, s3_front)
    yield rig
    rig.client.close()
    rig.admin.close()


def parts_of(data: bytes) -> list[tuple[int, memoryview]]:
    return [(start, memoryview(data)[start : start + PART]) for start in range(0, len(data), PART)]


def write_parts(sink: Any, data: bytes = DATA, threads: int = 1, only: range | None = None) -> None:
    parts = parts_of(data)
    parts = [parts[i] for i in only] if only else parts
    random.Random(2).shuffle(parts)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: sink.write(*part), parts))


@pytest.mark.parametrize("threads", [1, 8])
def test_parts_come_in_any_order_from_many_threads(rig: Rig, threads: int) -> None:
    sink = rig.open()
    assert not sink.ordered
    write_parts(sink, threads=threads)
    assert "f" not in rig.names()
    stored = sink.commit()
    assert rig.content("f") == DATA
    assert rig.front.parts == list(range(1, 12))
    assert stored == rig.store.find(["f"])["f"]
    assert stored.size == len(DATA)
    rig.store.settle(["f"])
    assert rig.names() == {"f"}
    assert rig.uploads() == []
    sink.abort()
    assert rig.names() == {"f"}


def test_connections_are_kept(rig: Rig) -> None:
    sink = rig.open()
    before = rig.front.connections
    write_parts(sink, threads=2)
    sink.commit()
    # Two for the parts, and what the client keeps for itself.
    assert rig.front.connections - before <= 4


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_a_small_file_is_one_request_at_the_commit(rig: Rig, size: int) -> None:
    data = DATA[:size]
    sink = rig.open(origin=Origin(size))
    rig.front.seen.clear()
    if data:
        sink.write(0, memoryview(data))
    assert rig.front.seen == []
    stored = sink.commit()
    assert [(seen.method, seen.key) for seen in rig.front.seen] == [("PUT", "pre fix/f")]
    assert rig.content("f") == data
    assert stored == rig.store.find(["f"])["f"]
    assert rig.front.seen[0].fields["x-amz-meta-sha256"] == hashlib.sha256(data).hexdigest()


def test_a_small_file_is_not_kept_in_the_callers_buffer(rig: Rig) -> None:
    buffer = bytearray(b"abc")
    sink = rig.open(origin=Origin(3))
    sink.write(0, memoryview(buffer))
    buffer[:] = b"xyz"
    sink.commit()
    assert rig.content("f") == b"abc"


@pytest.mark.parametrize("chunk", [1, 333, PART, 2500, len(DATA)])
@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART, 3 * PART + 7])
@pytest.mark.parametrize("known", [True, False])
def test_the_whole_comes_in_chunks_of_any_length(rig: Rig, size: int, chunk: int, known: bool) -> None:
    if chunk == 1 and size > 1:
        size = 17
    data = DATA[:size]
    sink = rig.open(origin=Origin(size if known else None))
    for start in range(0, size, chunk):
        sink.write(start, memoryview(data)[start : start + chunk])
    assert sink.commit().size == size
    rig.store.settle(["f"])
    assert rig.content("f") == data
    assert rig.names() == {"f"}
    assert rig.uploads() == []


@pytest.mark.parametrize("known", [True, False])
def test_a_host_that_begins_anew_is_followed(rig: Rig, known: bool) -> None:
    other = bytes(byte ^ 1 for byte in DATA)
    sink = rig.open(origin=Origin(2500 if known else None))
    for start in range(0, 2400, 300):
        sink.write(start, memoryview(other)[start : start + 300])
    for start in range(0, 2500, 500):
        sink.write(start, memoryview(DATA)[start : start + 500])
    sink.commit()
    assert rig.content("f") == DATA[:2500]


def test_bytes_out_of_order_or_beyond_the_end_are_a_mistake(rig: Rig) -> None:
    sink = rig.open(origin=Origin(PART))
    with pytest.raises(ValueError, match="offset 5 came at 0"):
        sink.write(5, memoryview(b"abc"))
    with pytest.raises(ValueError, match="beyond the end"):
        sink.write(0, memoryview(DATA)[: PART + 1])
    sink.abort()


@pytest.mark.parametrize("size", [10, 5 * PART])
def test_what_is_not_whole_is_not_published(rig: Rig, size: int) -> None:
    sink = rig.open(origin=Origin(size))
    sink.write(0, memoryview(DATA)[: min(size - 1, PART)])
    with pytest.raises(DestinationError, match=f"of {size} bytes were written"):
        sink.commit()
    sink.abort()
    assert rig.names() == set()
    assert rig.uploads() == []


def test_nothing_is_left_of_what_is_given_up(rig: Rig) -> None:
    sink = rig.open()
    write_parts(sink, only=range(3))
    assert len(rig.uploads()) == 1
    sink.abort()
    sink.abort()
    assert rig.names() == set()
    assert rig.uploads() == []
    with pytest.raises(DestinationError, match="given up"):
        sink.write(0, memoryview(DATA)[:PART])


def test_an_abort_stops_the_threads_that_still_write(rig: Rig) -> None:
    sink = rig.open()
    write_parts(sink, only=range(1))
    arrived, gate = threading.Event(), threading.Event()

    def hold(seen: Any) -> None:
        if seen.is_part:
            arrived.set()
            gate.wait(30)

    rig.front.rule = hold
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(sink.write, PART, memoryview(DATA)[PART : 2 * PART])
        assert arrived.wait(10)
        sink.abort()
        with pytest.raises(DestinationError, match="given up"):
            late.result(5)
        gate.set()
    assert rig.names() == set()


@pytest.mark.parametrize("size", [10, len(DATA)])
def test_what_is_there_is_replaced_only_where_that_is_asked_for(rig: Rig, size: int) -> None:
    rig.put("f", b"mine")
    for replace in (False, True):
        sink = rig.open(origin=Origin(size), replace=replace)
        write_parts(sink, DATA[:size])
        if replace:
            sink.commit()
        else:
            with pytest.raises(DestinationExistsError):
                sink.commit()
            sink.abort()
            assert rig.content("f") == b"mine"
    rig.store.settle(["f"])
    assert rig.content("f") == DATA[:size]
    assert rig.names() == {"f"}
    assert rig.uploads() == []


@pytest.mark.parametrize("size", [10, len(DATA)])
def test_who_comes_first_in_a_race_stays(rig: Rig, size: int) -> None:
    sink = rig.open(origin=Origin(size), replace=False)
    write_parts(sink, DATA[:size])
    # The server behind takes the condition without heed: here it is one that heeds it, and somebody was faster.
    rig.front.rule = lambda seen: (
        (412, b"<Error><Code>PreconditionFailed</Code></Error>") if seen.fields.get("if-none-match") == "*" else None
    )
    with pytest.raises(DestinationExistsError):
        sink.commit()
    sink.abort()
    assert rig.names() == set()
    assert rig.uploads() == []


@pytest.mark.parametrize("size", [10, len(DATA)])
@pytest.mark.parametrize(("status", "code"), [(501, b"NotImplemented"), (400, b"InvalidArgument")])
def test_a_store_without_conditions_is_asked_before(rig: Rig, size: int, status: int, code: bytes) -> None:
    rig.front.rule = lambda seen: (
        (status, b"<Error><Code>%b</Code></Error>" % code) if "if-none-match" in seen.fields else None
    )
    for name in ("f", "g"):
        sink = rig.open(name, Origin(size), replace=False)
        write_parts(sink, DATA[:size])
        sink.commit()
        assert rig.content(name) == DATA[:size]
    asked = [seen for seen in rig.front.seen if "if-none-match" in seen.fields]
    assert {seen.key for seen in asked} == {"pre fix/f"}  # it is not asked for again what it does not know


@pytest.mark.parametrize("name", ODD)
def test_names_mean_themselves(rig: Rig, name: str) -> None:
    for size in (5, 2 * PART + 1):
        sink = rig.open(name, Origin(size))
        write_parts(sink, DATA[:size])
        stored = sink.commit()
        assert rig.content(name) == DATA[:size]
        assert rig.store.find([name, "other"]) == {name: stored}
        assert rig.store.sha256(name) == hashlib.sha256(DATA[:size]).hexdigest()
    assert rig.uploads() == []


@pytest.mark.parametrize("count", [3, 15, 16, 40])
def test_files_are_found_by_question_and_by_list(rig: Rig, count: int) -> None:
    names = [f"n-{i}" for i in range(count)]
    for name in [*names[::2], "n", "n-", "sub/n-1"]:
        rig.put(name, name.encode())
    found = rig.store.find([*names, "sub/n-1"])
    assert set(found) == {*names[::2], "sub/n-1"}
    assert found["n-0"] == Stored(3, "etag:" + hashlib.md5(b"n-0").hexdigest())


def test_a_whole_bucket_is_a_place_too(s3_server: S3Server, s3_front: S3Front) -> None:
    rig = Rig(s3_server, s3_front, prefix="")
    sink = rig.open()
    write_parts(sink)
    stored = sink.commit()
    rig.store.write_small("_taskdl/x.json", b"{}")
    names = ["f", *(f"g{i}" for i in range(20))]
    assert rig.store.find(names) == {"f": stored}
    assert rig.store.read_small("_taskdl/x.json") == b"{}"


def test_small_objects_are_found_by_their_beginning(rig: Rig) -> None:
    assert list(rig.store.small_names("_taskdl/t.")) == []
    for name in ("_taskdl/t.a.json", "_taskdl/t.b.json", "_taskdl/u.json", "_taskdl/uploads/t.d.json", "t.c.json"):
        rig.put(name, b"{}")
    assert sorted(rig.store.small_names("_taskdl/t.")) == ["_taskdl/t.a.json", "_taskdl/t.b.json"]


def test_small_objects(rig: Rig) -> None:
    assert rig.store.read_small("_taskdl/a b.json") is None
    rig.store.write_small("_taskdl/a b.json", b"{}")
    rig.store.write_small("_taskdl/a b.json", b"[1]")
    assert rig.store.read_small("_taskdl/a b.json") == b"[1]"
    rig.store.write_small("_taskdl/empty", b"")
    assert rig.store.read_small("_taskdl/empty") == b""
    for _ in range(2):
        rig.store.remove_small("_taskdl/a b.json")
        rig.store.remove_small("_taskdl/empty")
    assert rig.names() == set()


def test_a_digest_is_of_the_bytes_that_are_there(rig: Rig) -> None:
    rig.put("f", DATA)
    assert rig.store.sha256("f") == hashlib.sha256(DATA).hexdigest()
    with pytest.raises(DestinationError) as caught:
        rig.store.sha256("missing")
    assert caught.value.code == "NoSuchKey"


class Breaking:
    """An object's bytes, of which each answer gives some and then breaks."""

    def __init__(self, start: int, each: int) -> None:
        self.start, self.each = start, each

    def iter_chunks(self, _: int) -> Iterator[bytes]:
        yield from filter(None, [DATA[self.start : self.start + self.each]])
        if self.start + self.each < len(DATA):
            raise OSError("IncompleteRead")


@pytest.mark.parametrize("each", [1000, 0])
def test_a_digest_outlasts_breaks_as_long_as_bytes_come(rig: Rig, monkeypatch: pytest.MonkeyPatch, each: int) -> None:
    asked: list[int] = []

    def call(operation: str, **params: Any) -> Any:
        start = int(params.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        asked.append(start)
        return {"ContentLength": len(DATA) - start, "ETag": '"x"', "Body": Breaking(start, each)}

    monkeypatch.setattr(rig.store.requests, "call", call)
    if each:
        assert rig.store.sha256("f") == hashlib.sha256(DATA).hexdigest()
        assert asked == list(range(0, len(DATA), each))
    else:
        with pytest.raises(DestinationError, match="cannot be read"):
            rig.store.sha256("f")
        assert len(asked) == 4


def test_a_bucket_that_wants_a_digest_with_all_bytes_gets_it(rig: Rig) -> None:
    def locked(seen: Seen) -> Fault | None:
        wants = seen.method == "PUT" and not {"content-md5", "x-amz-checksum-crc32"} & seen.fields.keys()
        return (
            (400, b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 is required</Message></Error>")
            if wants
            else None
        )

    rig.front.rule = locked
    rig.store.requests._md5 = False  # as with TLS
    sink = rig.open()
    write_parts(sink, threads=8)  # all of which learn it
    sink.commit()
    assert rig.content("f") == DATA
    rig.front.seen.clear()
    rig.store.write_small("_taskdl/t.json", b"")
    assert [seen.method for seen in rig.front.seen] == ["PUT"], "what it wants is known by then"


def test_an_object_that_is_read_for_its_digest_is_let_go_when_told_to_stop(rig: Rig) -> None:
    rig.put("f", bytes(3 * 1024 * 1024))
    rig.front.seen.clear()
    go_on = GoOn()
    with pytest.raises(Cancelled):
        rig.store.sha256("f", go_on=go_on)
    assert go_on.asked == 2
    assert [seen.method for seen in rig.front.seen] == ["GET"]


def test_parts_grow_where_there_would_be_too_many(rig: Rig) -> None:
    store = S3Store(rig.client, rig.bucket, "x")
    mib = 1024 * 1024
    for size, asked, longest in [(1, 1, 5 * mib), (100 * mib, 16 * mib, 16 * mib), (10**12, 16 * mib, 10**8)]:
        sink = store.open("f", Origin(size), part_size=asked, replace=True)
        assert sink.part_size == longest
        assert -(-size // sink.part_size) <= 10_000
