"""What the parts of many files may cost, and what of an earlier try is not believed."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import TransferError
from airflow_provider_taskdl.testing import ChangeFile, Cut, Drip, Emulator, EmulatorServer, Header, Synthetic, Task
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.file_transfer import FileTransfer
from airflow_provider_taskdl.transfer.job import DownloadJob
from airflow_provider_taskdl.transfer.progress import Progress
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from tests.transfer.harness import job, leftovers, lists, published, split_finely, until

PART = 64 * 1024
SIZE = 10 * PART + 123
CONTENT = Synthetic(SIZE, seed=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split_finely(monkeypatch, PART)


def _job(server: EmulatorServer, task: Task, to: Path, **options: Any) -> DownloadJob:
    return job(lists(server, task), to, **{"concurrency": 4, "part_size": PART, **options})


def _cut_off_in_long_parts(server: EmulatorServer, emulator: Emulator, to: Path) -> Task:
    """Leave a file in parts of four times the length."""
    task = emulator.eo_task({"big.bin": CONTENT})
    emulator.fault("file:*", Cut(at=9 * PART))
    with pytest.raises(TransferError):
        _job(server, task, to, concurrency=1, part_size=4 * PART).run()
    emulator.clear_faults()
    return task


def _lengths(emulator: Emulator) -> list[int]:
    ranges = [seen.headers["range"].removeprefix("bytes=").split("-") for seen in emulator.seen("file")]
    return [int(last) - int(first) + 1 for first, last in ranges]


def test_no_more_connections_than_workers_while_many_big_files_begin(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = emulator.eo_task({f"{n}.bin": Synthetic(8 * PART, seed=n) for n in range(4)})
    emulator.fault("file:*", Drip(rate=8 * PART))
    most = 0
    real = LinkClient._watch

    def watch(client: LinkClient, *rest: Any) -> None:
        nonlocal most
        real(client, *rest)
        most = max(most, len(client._busy))

    monkeypatch.setattr(LinkClient, "_watch", watch)
    _job(server, task, tmp_path).run()
    assert most <= 4


def test_what_a_file_held_is_let_go_when_it_is_there(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while the main thread is busy with the checkpoint: a small file on its way to a bucket is held in memory."""
    task = emulator.eo_task({f"{n}": b"abc" for n in range(50)})
    sinks: list[weakref.ref[Any]] = []
    held: list[int] = []
    real = LocalStore.open

    def opened(store: LocalStore, *rest: Any, **options: Any) -> Any:
        sink = real(store, *rest, **options)
        sinks.append(weakref.ref(sink))
        return sink

    def busy(progress: Progress) -> None:
        if not held:
            until(lambda: len(published(tmp_path)) == 50 and threading.active_count() < before + 4)
            gc.collect()
            held.append(sum(sink() is not None for sink in sinks))

    monkeypatch.setattr(LocalStore, "open", opened)
    monkeypatch.setattr(Progress, "due_line", busy)
    before = threading.active_count()
    _job(server, task, tmp_path).run()
    assert held[0] <= 4


def test_longer_parts_of_an_earlier_try_are_not_held_in_memory(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = _cut_off_in_long_parts(server, emulator, tmp_path)
    emulator.requests.clear()
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert max(_lengths(emulator)) <= PART


def test_a_file_that_is_split_otherwise_now_is_gone_on_with(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = _cut_off_in_long_parts(server, emulator, tmp_path)
    before = emulator.bytes_sent("file")
    _job(server, task, tmp_path, concurrency=8, part_size=4 * PART).run()
    assert emulator.bytes_sent("file") - before < SIZE


def test_a_journal_that_outlived_its_file_publishes_nothing(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({"big.bin": b"\0" * SIZE})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "settle", lambda store, names: None)
        _job(server, task, tmp_path).run()
    assert leftovers(tmp_path) != set()
    (tmp_path / "big.bin").unlink()
    _job(server, task, tmp_path, overwrite="always").run()
    assert (tmp_path / "big.bin").read_bytes() == b"\0" * SIZE
    assert leftovers(tmp_path) == set()


def test_a_journal_goes_when_the_file_comes_in_one_piece(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    emulator.fault("file:*", Cut(at=6 * PART))
    with pytest.raises(TransferError):
        _job(server, task, tmp_path, concurrency=2).run()
    emulator.clear_faults()
    _job(server, task, tmp_path, part_size=20 * PART, concurrency=1).run()
    assert leftovers(tmp_path) == set()


def test_a_file_that_only_a_digest_tells_of_is_read_in_one_piece(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    """It is announced for the whole answer and not for the first part's."""
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    emulator.fault("file:*", Header("ETag"))
    emulator.fault("file:*", Header("Last-Modified"))
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256


def test_a_stop_while_a_file_starts_over_is_not_forgotten(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT})
    emulator.fault("file:*", ChangeFile(), times=1, after=3)
    real = FileTransfer._start_over

    def stopped(transfer: FileTransfer) -> None:
        if transfer._reading == 1:
            transfer.stop()
        real(transfer)
        if transfer._reading == 2:
            emulator.requests.clear()

    monkeypatch.setattr(FileTransfer, "_start_over", stopped)
    with pytest.raises(TransferError, match="cancelled"):
        _job(server, task, tmp_path).run()
    assert emulator.count("file") == 0
    assert published(tmp_path) == set()
