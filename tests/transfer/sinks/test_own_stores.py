"""Azure's and Google's stores: no byte that was found wrong is ever believed again, in this process or a later one."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    DestinationError,
    DestinationExistsError,
    DownloadFailedError,
    IntegrityError,
    TransferError,
)
from airflow_provider_taskdl.testing import Corrupt, Cut, Emulator, EmulatorServer, Status, Synthetic
from airflow_provider_taskdl.transfer.sinks import async_store, azure_requests, gcs_requests, parted
from airflow_provider_taskdl.transfer.sinks.async_store import Body
from airflow_provider_taskdl.transfer.sinks.azure import AzureStore
from airflow_provider_taskdl.transfer.sinks.azure_requests import AzureRequests
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.gcs import GcsStore
from airflow_provider_taskdl.transfer.sinks.gcs_requests import GcsRequests
from airflow_provider_taskdl.transfer.sinks.gcs_sink import GcsSink
from airflow_provider_taskdl.transfer.stop import Cancelled
from tests.transfer.harness import GoOn, Killed, job, killed, lists, split_finely
from tests.transfer.sinks.fakes import AzureAccount, GoogleBucket, HttpError, Refused, loop_in_a_thread

MIB = 1024 * 1024
LENGTH = 64 * 1024
CONTENT = Synthetic(10 * LENGTH + 123, seed=3)
WHOLE = CONTENT.read(0, CONTENT.size)
ORIGIN = Origin(3 * LENGTH, etag='"x"')


class Place:
    """One of the two, and what it has shown under a file's name."""

    def __init__(self, service: AzureAccount | GoogleBucket) -> None:
        self.service = service

    def store(self) -> AzureStore | GcsStore:
        """A new process's view of it."""
        azure = isinstance(self.service, AzureAccount)
        store = AzureStore(self.service, "c", "p") if azure else GcsStore(self.service, "b", "p")
        store.prepare(0)
        return store

    def shown(self, name: str) -> list[bytes]:
        return [data for path, data in self.service.shown if path == f"p/{name}"]

    def put(self, name: str, data: bytes) -> None:
        put = self.service.publish if isinstance(self.service, AzureAccount) else self.service.put
        put(f"p/{name}", data)

    def content(self, name: str) -> bytes | None:
        """What is there now."""
        content: bytes | None = self._fact(name, "data")
        return content

    def metadata(self, name: str) -> dict[str, str]:
        """What it bears."""
        metadata: dict[str, str] = self._fact(name, "metadata")
        return metadata

    def _fact(self, name: str, fact: str) -> Any:
        service = self.service
        if isinstance(service, AzureAccount):
            return getattr(service.blobs.get(f"p/{name}"), fact, None)
        return service.objects.get(f"p/{name}", {}).get(fact)


@pytest.fixture(params=[AzureAccount, GoogleBucket], ids=["azure", "google"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with loop_in_a_thread() as loop:
        yield Place(request.param(loop))


@pytest.fixture
def bucket() -> Iterator[GoogleBucket]:
    with loop_in_a_thread() as loop:
        yield GoogleBucket(loop)


@pytest.fixture
def google(bucket: GoogleBucket) -> Place:
    return Place(bucket)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split_finely(monkeypatch, LENGTH)
    monkeypatch.setattr(parted, "ONE_REQUEST", LENGTH)


def _held(sink: Any) -> list[bool]:
    return [sink.holds(at, at + LENGTH) for at in range(0, 3 * LENGTH, LENGTH)]


def test_a_bit_that_turned_on_the_way_is_fetched_again_before_anything_shows(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    place.put("big.bin", b"good")
    emulator.fault("file:big.bin", Corrupt(at=2 * LENGTH + 5), times=1)
    result = job(lists(server, task), place.store(), part_size=LENGTH, overwrite="always").run()
    assert result.entries[0].sha256 == CONTENT.sha256
    assert place.shown("big.bin") == [b"good", WHOLE]


def test_wrong_bytes_never_take_the_place_of_a_good_file(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    place.put("big.bin", b"good")
    emulator.fault("file:big.bin", Corrupt(at=2 * LENGTH + 5))
    for _ in range(2):  # another process comes after the first
        with pytest.raises(IntegrityError):
            job(lists(server, task), place.store(), part_size=LENGTH, overwrite="always").run()
    assert place.shown("big.bin") == [b"good"]
    assert place.content("big.bin") == b"good"
    emulator.clear_faults()
    job(lists(server, task), place.store(), part_size=LENGTH, overwrite="always").run()
    assert place.shown("big.bin") == [b"good", WHOLE]


def test_a_wrong_part_of_an_earlier_try_is_not_believed_a_second_time(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    emulator.fault("file:big.bin", Corrupt(at=2 * LENGTH + 5), times=1)
    emulator.fault("file:big.bin", Cut(at=9 * LENGTH))
    with pytest.raises(TransferError):
        job(lists(server, task), place.store(), concurrency=1, part_size=LENGTH).run()
    emulator.clear_faults()
    result = job(lists(server, task), place.store(), part_size=LENGTH).run()
    assert result.entries[0].sha256 == CONTENT.sha256
    assert place.content("big.bin") == WHOLE


def test_where_a_part_of_an_earlier_try_was_wrong_and_nothing_can_take_its_place_nothing_stays(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    options: dict[str, Any] = {"concurrency": 1, "part_size": LENGTH, "overwrite": "always"}
    place.put("big.bin", b"good")
    emulator.fault("file:big.bin", Corrupt(at=2 * LENGTH + 5), times=1)
    emulator.fault("file:big.bin", Cut(at=9 * LENGTH))
    with pytest.raises(TransferError):
        job(lists(server, task), place.store(), **options).run()
    assert place.content("big.bin") == b"good"
    emulator.clear_faults()
    # The look at the file and its last two parts; then the host gives no more.
    emulator.fault("file:big.bin", Status(403), after=3)
    with pytest.raises(TransferError):
        job(lists(server, task), place.store(), **options).run()
    assert len(place.shown("big.bin")) == 2, "what replaced the good one was read back only then"
    assert place.content("big.bin") is None
    emulator.clear_faults()
    job(lists(server, task), place.store(), **options).run()
    assert place.content("big.bin") == WHOLE


def test_a_job_that_is_cancelled_while_a_resumed_file_is_read_back_reads_no_further(
    server: EmulatorServer, emulator: Emulator, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    options: dict[str, Any] = {"concurrency": 1, "part_size": LENGTH}
    emulator.fault("file:big.bin", Cut(at=9 * LENGTH))
    with pytest.raises(TransferError):
        job(lists(server, task), place.store(), **options).run()
    emulator.clear_faults()
    monkeypatch.setattr(async_store, "_READ", LENGTH)
    store, reads = place.store(), 0
    really = store.requests.read

    def read(name: str, *args: Any, **facts: Any) -> Any:
        nonlocal reads
        if name == "big.bin":
            reads += 1
            running.cancel()
        return really(name, *args, **facts)

    monkeypatch.setattr(store.requests, "read", read)
    running = job(lists(server, task), store, **options)
    with pytest.raises(DownloadFailedError, match="cancelled"):
        running.run()
    assert reads == 1
    result = job(lists(server, task), place.store(), **options).run()
    assert result.entries[0].sha256 == CONTENT.sha256


def test_an_object_that_is_read_for_its_digest_is_let_go_when_told_to_stop(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_store, "_READ", 4)
    place.put("f", b"some bytes")
    go_on = GoOn()
    with pytest.raises(Cancelled):
        place.store().sha256("f", go_on=go_on)
    assert go_on.asked == 2


def test_what_was_given_up_is_held_by_nobody_and_what_was_broken_off_by_the_next(place: Place) -> None:
    for keep in (True, False):
        store = place.store()
        sink = store.open("f", ORIGIN, part_size=LENGTH, replace=True)
        sink.write(LENGTH, memoryview(bytes(LENGTH)))
        sink.abort(keep=keep)
        for other in (place.store(), *([] if keep else [store])):
            found = other.open("f", ORIGIN, part_size=LENGTH, replace=True)
            assert _held(found) == [False, keep, False]


def test_a_killed_try_of_the_same_file_is_no_obstacle_where_nothing_may_be_replaced(
    server: EmulatorServer,
    emulator: Emulator,
    google: Place,
    bucket: GoogleBucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = emulator.eo_task({"a.txt": b"a", "big.bin": CONTENT})
    options: dict[str, Any] = {"part_size": LENGTH, "overwrite": "never", "concurrency": 1}
    monkeypatch.setattr(GcsSink, "_discard", killed)
    monkeypatch.setattr(GcsSink, "abort", lambda *_, **__: None)
    with pytest.raises(Killed):
        job(lists(server, task), google.store(), **options).run()
    monkeypatch.undo()
    split_finely(monkeypatch, LENGTH)
    monkeypatch.setattr(parted, "ONE_REQUEST", LENGTH)
    assert google.content("big.bin") == WHOLE
    assert bucket.parts(), "so that the next try finds them"
    result = job(lists(server, task), google.store(), **options).run()
    assert {entry.sha256 for entry in result.entries} >= {CONTENT.sha256}
    assert google.shown("big.bin") == [WHOLE]
    assert bucket.parts() == []


def test_anothers_file_stays_where_nothing_may_be_replaced_though_parts_are_held(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task({"a.txt": b"a", "big.bin": CONTENT}, checksums=True)
    options: dict[str, Any] = {"part_size": LENGTH, "overwrite": "never", "concurrency": 1}
    emulator.fault("file:big.bin", Cut(at=9 * LENGTH))
    with pytest.raises(TransferError):
        job(lists(server, task), place.store(), **options).run()
    emulator.clear_faults()
    place.put("big.bin", b"somebody's")
    with pytest.raises(DestinationExistsError):
        job(lists(server, task), place.store(), **options).run()
    assert place.shown("big.bin") == [b"somebody's"]


@pytest.mark.parametrize("given", [0, 3])
def test_a_store_that_gives_fewer_bytes_than_it_says_is_no_endless_question(place: Place, given: int) -> None:
    place.put("f", b"some bytes")
    place.service.given = given
    with pytest.raises(DestinationError, match=f"gives {given} of 10 bytes back") as short:
        place.store().sha256("f")
    assert short.value.retryable


def test_a_small_object_that_is_replaced_while_it_is_read_is_the_one_or_the_other(place: Place) -> None:
    place.put("s", b"old")
    place.service.then["p/s"] = b"newer, and longer"
    assert place.store().read_small("s") == b"old"
    assert place.store().read_small("s") == b"newer, and longer"


def test_no_small_object_is_missed_or_too_long(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (azure_requests, gcs_requests):
        monkeypatch.setattr(module, "MAX_SMALL", 5)
    for name, data in {"empty": b"", "most": b"12345", "long": b"123456"}.items():
        place.put(name, data)
    found = [place.store().read_small(name) for name in ("none", "empty", "most", "long")]
    assert found == [None, b"", b"12345", None]


def test_a_file_in_one_request_goes_out_as_it_lies_in_memory(google: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parted, "ONE_REQUEST", 4 * MIB)
    monkeypatch.setattr(GcsRequests, "upload", lambda *_, **__: {"size": 4 * MIB, "generation": "1"})
    sink = google.store().open("f", Origin(4 * MIB), part_size=4 * MIB, replace=True)
    sink.write(0, memoryview(bytes(4 * MIB)))
    tracemalloc.start()
    try:
        sink.commit()
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunk", [LENGTH, LENGTH // 2], ids=["as long as a part", "shorter"])
def test_a_file_that_comes_in_one_piece_bears_its_digest_however_its_chunks_fall(place: Place, chunk: int) -> None:
    data = CONTENT.read(0, 2 * LENGTH + chunk)
    sink = place.store().open("f", Origin(len(data)), part_size=LENGTH, replace=True)
    for at in range(0, len(data), chunk):
        sink.write(at, memoryview(data[at : at + chunk]))
    sink.commit()
    assert place.metadata("f")["sha256"] == hashlib.sha256(data).hexdigest()
    assert place.shown("f") == [data]


def test_the_reason_of_google_for_a_refusal_is_told(google: Place, bucket: GoogleBucket) -> None:
    google.put("s", b"small")
    bucket.fixed.add("p/s")
    with pytest.raises(DestinationError, match=r"^the store refused, with HTTP 403: no right to remove \[") as refused:
        google.store().remove_small("s")
    assert refused.value.code == "403"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError("Forbidden: b/x/o/y\nuser@x does not have\nstorage.objects.create"), "403",
         ", with HTTP 403: user@x does not have storage.objects.create"),
        (OSError("Forbidden: b/x/o/y\n"), "403", ", with HTTP 403: Forbidden: b/x/o/y"),
        (ValueError("Bad Request: b/x/o/y\ninvalid name"), "400", ", with HTTP 400: invalid name"),
        (HttpError(429, "slow down, 429"), "429", ", with HTTP 429: slow down, 429"),
        (FileNotFoundError("b/x/o/y"), "404", ", with HTTP 404: it knows no such bucket, or no such object in it"),
        (OSError("[Errno 101] Network is unreachable"), "OSError", ": [Errno 101] Network is unreachable"),
        (TimeoutError(), "TimeoutError", ": TimeoutError"),
    ],
)  # fmt: skip
def test_what_googles_client_says_of_a_refusal_is_understood(error: Exception, code: str, said: str) -> None:
    ours = GcsRequests._as_error(error, "gs://b/f")
    assert (ours.message, ours.code) == (f"the store refused{said}", code)


def test_what_azure_does_not_say_of_anothers_blocks_is_told() -> None:
    ours = AzureRequests._as_error(Refused(400, "InvalidBlobOrBlock"), "abfs://c/f")
    assert "another program has left unfinished blocks" in ours.message
    assert "Azure drops them after a week" in ours.message


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_parts_that_could_not_be_removed_go_with_the_next_checkpoint(
    google: Place, bucket: GoogleBucket, end: str
) -> None:
    store, other = google.store(), google.store()
    anothers = other.open("f", Origin(3 * LENGTH, etag='"y"'), part_size=LENGTH, replace=True)
    sink = store.open("f", ORIGIN, part_size=LENGTH, replace=True)
    for at in range(0, 3 * LENGTH, LENGTH):
        sink.write(at, memoryview(bytes(LENGTH)))
    bucket.fixed.update(bucket.parts())
    getattr(sink, end)()
    assert len(bucket.parts()) == 3
    bucket.fixed.clear()
    anothers.write(LENGTH, memoryview(bytes(LENGTH)))
    store.settle(["f"])
    assert len(bucket.parts()) == 1, "what somebody else is sending stays"


def test_parts_that_cannot_be_removed_are_no_obstacle_and_tried_twice(google: Place, bucket: GoogleBucket) -> None:
    store = google.store()
    sink = store.open("f", ORIGIN, part_size=LENGTH, replace=True)
    for at in range(0, 3 * LENGTH, LENGTH):
        sink.write(at, memoryview(bytes(LENGTH)))
    bucket.fixed.update(bucket.parts())
    sink.commit()
    store.settle(["f"])
    bucket.fixed.clear()
    store.settle(["f"])
    assert len(bucket.parts()) == 3
    assert google.content("f") == bytes(3 * LENGTH)


def test_parts_of_an_older_version_go_when_the_new_one_came_in_one_request(google: Place, bucket: GoogleBucket) -> None:
    sink = google.store().open("f", ORIGIN, part_size=LENGTH, replace=True)
    sink.write(0, memoryview(bytes(LENGTH)))
    sink.abort(keep=True)
    assert len(bucket.parts()) == 1
    new = google.store().open("f", Origin(5, etag='"y"'), part_size=LENGTH, replace=True)
    new.write(0, memoryview(b"short"))
    new.commit()
    assert google.content("f") == b"short"
    assert bucket.parts() == []


def test_google_is_not_waited_for_in_vain_unless_somebody_said_how_long(google: Place, bucket: GoogleBucket) -> None:
    google.store()
    told: Any = bucket.requests_timeout
    assert (told.total, told.sock_connect, told.sock_read) == (None, 30, 120)
    bucket.requests_timeout = 7
    google.store()
    assert bucket.requests_timeout == 7


def test_a_store_that_takes_no_more_bytes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_store, "PATIENCE", 0.1)
    body, ended = Body(bytes(MIB)), []

    async def takes_a_little() -> None:
        try:
            async for _ in body:
                await asyncio.Event().wait()
        finally:
            ended.append("and its request with it")

    async def tries() -> None:
        with pytest.raises(TimeoutError, match="no more bytes"):
            await body.while_taken(takes_a_little)

    asyncio.run(tries())
    assert ended


def test_a_store_that_has_all_bytes_may_think_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_store, "PATIENCE", 0.01)
    body = Body(bytes(MIB), b"the rest")

    async def thinks() -> bytes:
        taken = b"".join([part async for part in body])
        await asyncio.sleep(0.2)
        return taken

    assert asyncio.run(body.while_taken(thinks)) == bytes(MIB) + b"the rest"
