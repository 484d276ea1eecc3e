"""A whole transfer into S3: what an earlier try has left there, and a stop while the store is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import DestinationExistsError, TransferError
from airflow_provider_taskdl.testing import Corrupt, Cut, Emulator, EmulatorServer, IgnoreRange, Synthetic, Task
from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint
from airflow_provider_taskdl.transfer.connection import ConnectionBroken
from airflow_provider_taskdl.transfer.sinks import parted, s3_uploads
from airflow_provider_taskdl.transfer.sinks.s3_line import Line
from tests.s3 import S3Front, S3Server, Seen
from tests.transfer.harness import Killed, job, killed, lists, split_finely
from tests.transfer.sinks.test_s3 import Rig

pytestmark = pytest.mark.s3
LENGTH = 64 * 1024
CONTENT = Synthetic(10 * LENGTH + 123, seed=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split_finely(monkeypatch, LENGTH)
    monkeypatch.setattr(parted, "ONE_REQUEST", LENGTH)


@pytest.fixture
def rig(s3_server: S3Server, s3_front: S3Front) -> Iterator[Rig]:
    rig = Rig(s3_server, s3_front)
    yield rig
    rig.client.close()
    rig.admin.close()


def _fail(server: EmulatorServer, emulator: Emulator, task: Task, rig: Rig, part_size: int) -> None:
    """Leave an upload of all but the last parts."""
    emulator.fault("file:big.bin", Cut(at=9 * LENGTH))
    with pytest.raises(TransferError):
        job(lists(server, task), rig.store, concurrency=1, part_size=part_size).run()
    emulator.clear_faults()
    assert rig.uploads() == [f"{rig.prefix}/big.bin"]
    rig.store = rig.new()


def test_a_file_that_would_be_split_finer_now_is_gone_on_with(
    server: EmulatorServer, emulator: Emulator, rig: Rig
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    _fail(server, emulator, task, rig, 4 * LENGTH)
    before = emulator.bytes_sent("file")
    job(lists(server, task), rig.store, concurrency=8, part_size=4 * LENGTH).run()
    assert emulator.bytes_sent("file") - before < CONTENT.size
    assert rig.content("big.bin") == CONTENT.read(0, CONTENT.size)


@pytest.mark.parametrize("overwrite", ["verified", "never"])
def test_a_wrong_byte_that_an_earlier_try_had_brought_shows(
    server: EmulatorServer, emulator: Emulator, rig: Rig, overwrite: str
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    emulator.fault("file:big.bin", Corrupt(at=2 * LENGTH + 5), times=1)
    _fail(server, emulator, task, rig, LENGTH)
    result = job(lists(server, task), rig.store, part_size=LENGTH, overwrite=overwrite).run()
    assert result.entries[0].sha256 == CONTENT.sha256
    assert rig.content("big.bin") == CONTENT.read(0, CONTENT.size)
    assert rig.uploads() == []


def test_a_wrong_byte_leaves_nothing_if_it_cannot_be_mended(
    server: EmulatorServer, emulator: Emulator, rig: Rig
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    emulator.fault("file:big.bin", Corrupt(at=2 * LENGTH + 5), times=1)
    _fail(server, emulator, task, rig, LENGTH)
    emulator.fault("file:big.bin", Corrupt(at=9 * LENGTH + 5))
    with pytest.raises(TransferError, match="announced"):
        job(lists(server, task), rig.store, part_size=LENGTH).run()
    assert "big.bin" not in rig.names()


@pytest.mark.parametrize("keeps_the_mark", [True, False])
def test_a_file_that_was_published_just_before_a_kill_is_not_fetched_again(
    server: EmulatorServer, emulator: Emulator, rig: Rig, monkeypatch: pytest.MonkeyPatch, keeps_the_mark: bool
) -> None:
    if not keeps_the_mark:
        monkeypatch.setattr(s3_uploads, "_MARK", "")
    task = emulator.eo_task({"big.bin": CONTENT})
    with monkeypatch.context() as patch:
        patch.setattr(StoreCheckpoint, "save", killed)
        with pytest.raises(Killed):
            job(lists(server, task), rig.store, part_size=LENGTH).run()
    if not keeps_the_mark:
        monkeypatch.setattr(s3_uploads, "_MARK", "taskdl-upload")
    assert rig.content("big.bin") == CONTENT.read(0, CONTENT.size)
    rig.store = rig.new()
    emulator.requests.clear()
    (entry,) = job(lists(server, task), rig.store, part_size=LENGTH).run().entries
    assert len(emulator.seen("file")) == (1 if keeps_the_mark else 11)
    assert entry.sha256 == CONTENT.sha256
    assert rig.content("big.bin") == CONTENT.read(0, CONTENT.size)
    assert rig.uploads() == []
    assert not [name for name in rig.names() if name.startswith("_taskdl/uploads/")]


def test_a_published_file_whose_host_knows_no_ranges_any_more_is_fetched_anew(
    server: EmulatorServer, emulator: Emulator, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    with monkeypatch.context() as patch:
        patch.setattr(StoreCheckpoint, "save", killed)
        with pytest.raises(Killed):
            job(lists(server, task), rig.store, part_size=LENGTH).run()
    emulator.fault("file:*", IgnoreRange())
    rig.store = rig.new()
    job(lists(server, task), rig.store, part_size=LENGTH).run()
    assert rig.content("big.bin") == CONTENT.read(0, CONTENT.size)
    assert rig.uploads() == []
    assert not [name for name in rig.names() if name.startswith("_taskdl/uploads/")]


@pytest.mark.parametrize("size", [CONTENT.size, 2 * LENGTH])
def test_an_object_that_others_put_in_its_place_is_not_taken_for_it(
    server: EmulatorServer, emulator: Emulator, rig: Rig, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    with monkeypatch.context() as patch:
        patch.setattr(StoreCheckpoint, "save", killed)
        with pytest.raises(Killed):
            job(lists(server, task), rig.store, part_size=LENGTH).run()
    rig.put("big.bin", b"x" * size)
    rig.store = rig.new()
    job(lists(server, task), rig.store, part_size=LENGTH).run()
    assert rig.content("big.bin") == CONTENT.read(0, CONTENT.size)
    assert rig.uploads() == []


def test_a_stop_does_not_wait_for_a_slow_store(
    server: EmulatorServer, emulator: Emulator, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    sending = threading.Event()
    real = Line.send

    def slow(line: Line, client: Any, operation: str, *rest: Any) -> Any:
        if operation != "upload_part":
            return real(line, client, operation, *rest)
        sending.set()
        rest[-1].wait(20)
        raise ConnectionBroken("it was woken")

    monkeypatch.setattr(Line, "send", slow)
    running = job(lists(server, task), rig.store, concurrency=2, part_size=LENGTH)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            running.run()
        except TransferError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert sending.wait(10)
    stopped = time.monotonic()
    running.cancel()
    thread.join(30)
    assert time.monotonic() - stopped < 5
    assert "cancelled" in str(errors[0])
    assert rig.uploads() == [f"{rig.prefix}/big.bin"]


def test_a_name_that_is_taken_while_a_file_is_gone_on_with_leaves_no_upload(
    server: EmulatorServer, emulator: Emulator, rig: Rig
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    _fail(server, emulator, task, rig, LENGTH)

    def take_the_name(seen: Seen) -> None:
        if seen.is_part:
            rig.put("big.bin", b"another")

    rig.front.rule = take_the_name
    with pytest.raises(DestinationExistsError):
        job(lists(server, task), rig.store, part_size=LENGTH, overwrite="never").run()
    assert rig.content("big.bin") == b"another"
    assert rig.uploads() == []
