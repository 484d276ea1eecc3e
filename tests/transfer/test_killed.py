"""A kill between the moment in which a file gets its name and the one in which the checkpoint tells of it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError, TransferError
from airflow_provider_taskdl.testing import Cut, Emulator, EmulatorServer, IgnoreRange, Status, Synthetic, Task
from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint
from airflow_provider_taskdl.transfer.engine import Engine
from airflow_provider_taskdl.transfer.job import DownloadJob
from airflow_provider_taskdl.transfer.manifest import Entry, checkpoint_name, write_entries
from airflow_provider_taskdl.transfer.sinks import local
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from tests.transfer.harness import Killed, job, killed, leftovers, lists, published, split_finely, until

PART = 64 * 1024
CONTENT = Synthetic(10 * PART + 123, seed=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split_finely(monkeypatch, PART)


@pytest.fixture
def task(emulator: Emulator) -> Task:
    return emulator.eo_task({"big.bin": CONTENT})


def _job(server: EmulatorServer, task: Task, to: Path, overwrite: str = "verified") -> DownloadJob:
    return job(lists(server, task), to, concurrency=4, part_size=PART, overwrite=overwrite)


def _killed_before(method: str, of: object, server: EmulatorServer, task: Task, to: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, method, killed)
        patch.setattr(local.LocalSink, "abort", lambda sink, *, keep=False: sink._close())
        with pytest.raises(Killed):
            _job(server, task, to).run()


@pytest.mark.parametrize("overwrite", ["verified", "always"])
def test_a_published_file_is_not_fetched_again(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, overwrite: str
) -> None:
    _killed_before("save", StoreCheckpoint, server, task, tmp_path)
    before = os.stat(tmp_path / "big.bin")
    emulator.requests.clear()
    (entry,) = _job(server, task, tmp_path, overwrite).run().entries
    # One, by which it is seen that the file at the host is still the same.
    assert len(emulator.seen("file")) == 1
    assert entry.sha256 == CONTENT.sha256
    assert os.path.samestat(before, os.stat(tmp_path / "big.bin"))
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("moment", ["replace", "sync_directory"])
def test_a_kill_about_the_renaming_costs_nothing(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, moment: str
) -> None:
    _killed_before(moment, os if moment == "replace" else local, server, task, tmp_path)
    assert published(tmp_path) == (set() if moment == "replace" else {"big.bin"})
    emulator.requests.clear()
    (entry,) = _job(server, task, tmp_path).run().entries
    assert len(emulator.seen("file")) == 1
    assert entry.sha256 == CONTENT.sha256
    assert (tmp_path / "big.bin").read_bytes() == CONTENT.read(0, CONTENT.size)
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("cut", [0, 1, 5 * PART])
def test_a_file_that_was_changed_since_is_not_taken_for_the_published_one(
    server: EmulatorServer, task: Task, tmp_path: Path, cut: int
) -> None:
    _killed_before("save", StoreCheckpoint, server, task, tmp_path)
    (tmp_path / "big.bin").write_bytes(b"x" * (CONTENT.size - cut))
    _job(server, task, tmp_path).run()
    assert (tmp_path / "big.bin").read_bytes() == CONTENT.read(0, CONTENT.size)


def test_a_published_file_that_rotted_unseen_is_fetched_anew(
    server: EmulatorServer, task: Task, tmp_path: Path
) -> None:
    _killed_before("save", StoreCheckpoint, server, task, tmp_path)
    path = tmp_path / "big.bin"
    times = os.stat(path)
    with path.open("r+b") as file:
        file.seek(3 * PART)
        file.write(b"?")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    _job(server, task, tmp_path).run()
    assert path.read_bytes() == CONTENT.read(0, CONTENT.size)
    assert leftovers(tmp_path) == set()


def test_a_new_version_at_the_host_replaces_the_published_one(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    _killed_before("save", StoreCheckpoint, server, task, tmp_path)
    other = Synthetic(CONTENT.size, seed=4)
    task.files[0].content = other
    _job(server, task, tmp_path).run()
    assert (tmp_path / "big.bin").read_bytes() == other.read(0, other.size)
    assert leftovers(tmp_path) == set()


def test_what_a_checkpoint_tells_of_needs_no_journal(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.LocalStore, "settle", lambda store, names: killed() if names else None)
        with pytest.raises(Killed):
            _job(server, task, tmp_path).run()
    assert leftovers(tmp_path) != set()
    emulator.requests.clear()
    _job(server, task, tmp_path).run()
    assert emulator.seen("file") == []
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("big", [True, False])
def test_where_nothing_may_be_replaced_a_killed_try_is_no_obstacle_to_the_next(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, big: bool
) -> None:
    files = {"a": CONTENT if big else b"12345", "b": b"123"}
    task = emulator.eo_task(files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreCheckpoint, "save", _save_only_what_is_empty)
        with pytest.raises(Killed):
            _job(server, task, tmp_path, "never").run()
    assert published(tmp_path) == {"a", "b"}
    result = _job(server, task, tmp_path, "never").run()
    assert [entry.name for entry in result.entries] == ["a", "b"]
    assert leftovers(tmp_path) == set()
    with pytest.raises(DestinationExistsError, match="2 of the files"):
        _job(server, task, tmp_path, "never").run()


@pytest.mark.parametrize("theirs", [b"54321", b"1234", b""])
def test_a_file_of_others_stays_although_a_try_of_ours_was_killed(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, theirs: bytes
) -> None:
    task = emulator.eo_task({"a": b"12345", "b": b"123"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreCheckpoint, "save", _save_only_what_is_empty)
        with pytest.raises(Killed):
            _job(server, task, tmp_path, "never").run()
    (tmp_path / "a").write_bytes(theirs)
    with pytest.raises(DestinationExistsError) as caught:
        _job(server, task, tmp_path, "never").run()
    assert caught.value.file == "a"
    assert (tmp_path / "a").read_bytes() == theirs
    assert leftovers(tmp_path) == set()


def _save_only_what_is_empty(checkpoint: StoreCheckpoint, task: str, entries: Sequence[Entry]) -> None:
    if entries:
        until(lambda: len(checkpoint._store.find(["a", "b"])) == 2)  # a stop might leave one
        killed()
    write_entries(checkpoint._store, checkpoint_name(task), task, entries)


def test_a_kill_between_two_names_of_one_file_does_not_touch_it_again(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({"a": b"12345"})
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        if target.name == "a":
            killed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", link)
        patch.setattr(local.LocalSink, "abort", lambda sink, *, keep=False: sink._close())
        with pytest.raises(Killed):
            _job(server, task, tmp_path, "never").run()
    before = os.stat(tmp_path / "a")
    assert before.st_nlink == 2
    sink = local.LocalStore(tmp_path).open("a", Origin(3), part_size=PART, replace=True)
    sink.write(0, memoryview(b"xyz"))
    assert (tmp_path / "a").read_bytes() == b"12345"
    sink.abort()
    _job(server, task, tmp_path, "never").run()
    assert os.stat(tmp_path / "a").st_ino == before.st_ino
    assert os.stat(tmp_path / "a").st_nlink == 1
    assert leftovers(tmp_path) == set()


def test_a_published_file_whose_host_knows_no_ranges_any_more_is_fetched_anew(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    _killed_before("save", StoreCheckpoint, server, task, tmp_path)
    emulator.fault("file:*", IgnoreRange())
    _job(server, task, tmp_path).run()
    assert (tmp_path / "big.bin").read_bytes() == CONTENT.read(0, CONTENT.size)
    assert leftovers(tmp_path) == set()


def test_room_that_a_killed_try_has_taken_is_room_for_the_next(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.fault("file:*", Cut(at=9 * PART))
    with pytest.raises(TransferError):
        _job(server, task, tmp_path).run()
    emulator.clear_faults()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": PART}))
    _job(server, task, tmp_path).run()
    assert (tmp_path / "big.bin").read_bytes() == CONTENT.read(0, CONTENT.size)


def test_a_checkpoint_that_cannot_be_written_is_tried_again_and_leaves_no_journal(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    tried, work = threading.Event(), Engine._work

    def refuse(checkpoint: StoreCheckpoint, task: str, entries: Sequence[Entry]) -> None:
        tries.append(len(entries))
        tried.set()
        raise DestinationError("the disk refused")

    def work_on(engine: Engine) -> None:  # or all is over before a checkpoint is due
        work(engine)
        assert tried.wait(60)

    monkeypatch.setattr(Engine, "_work", work_on)
    monkeypatch.setattr(StoreCheckpoint, "save", refuse)
    _job(server, task, tmp_path).run()
    assert tries == [1, 1]
    assert leftovers(tmp_path) == set()


def test_the_mark_of_a_first_try_is_written_where_folders_must_be_made(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({"a": b"12345"})
    store = ObjectStore(LocalFileSystem(), str(tmp_path / "new"))
    emulator.fault("file:*", Status(404))
    with pytest.raises(TransferError):
        job(lists(server, task), store, overwrite="never").run()
    assert StoreCheckpoint(store).load(task.id) == {}
