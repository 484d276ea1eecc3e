"""Several jobs at once: at one destination they do no harm, and many in one process leave nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import pytest

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Stall, Synthetic, Task
from airflow_provider_taskdl.transfer.job import DownloadJob, Result
from airflow_provider_taskdl.transfer.sinks import s3_uploads
from airflow_provider_taskdl.transfer.sinks.base import Store
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
from tests.s3 import S3Server
from tests.transfer.harness import job, lists, until
from tests.transfer.sinks.conftest import Bucket

MIB = 1024 * 1024
PART = 5 * MIB  # the smallest that S3 takes
FILES: dict[str, Any] = {"big.bin": Synthetic(3 * PART + 17), "small.bin": Synthetic(100_003), "empty.bin": b""}


@dataclass
class Place:
    """A destination, with a look behind the store's back.

    :param store: Makes the store, a new one for each job, as for each task.
    :param bucket: What is there.
    :param blinks: Whether what is being replaced there is gone for a moment, as only on rclone's server.
    """

    store: Callable[[], Store]
    bucket: Bucket
    blinks: bool = False

    def check(self, task: Task, *also: str) -> None:
        """Check that all of a task's files are there, and their manifest, and nothing else but ``also``."""
        manifest = f"_taskdl/{task.id}.json"
        assert self.bucket.names() == {manifest, *also, *(file.name for file in task.files)}
        assert self.bucket.uploads() == []
        wanted = {file.name: b"".join(file.content.blocks()) for file in task.files}
        assert {name: self.bucket.content(name) for name in wanted} == wanted
        recorded = json.loads(self.bucket.content(manifest))["files"]
        assert [(file["name"], file["size"], file["sha256"]) for file in recorded] == [
            (name, len(content), hashlib.sha256(content).hexdigest()) for name, content in wanted.items()
        ]


@pytest.fixture(
    params=["disk", "memory", pytest.param("s3", marks=pytest.mark.s3), pytest.param("s3fs", marks=pytest.mark.s3)]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A destination in each kind of store."""
    if request.param == "disk":
        yield Place(lambda: LocalStore(tmp_path), Bucket(fsspec.filesystem("file"), str(tmp_path)))
    elif request.param == "memory":
        memory = Bucket(fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}")
        yield Place(lambda: ObjectStore(memory.fs, memory.root), memory)
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        fs, client = fsspec.filesystem("s3", skip_instance_cache=True, **server.options), server.client()
        name = server.bucket()
        own = request.param == "s3"
        yield Place(
            lambda: S3Store(client, name, "x") if own else ObjectStore(fs, f"{name}/x"),
            Bucket(fs, f"{name}/x"),
            blinks=True,
        )
        client.close()
        fs.close_session(fs.loop, fs.s3)


class Running(threading.Thread):
    """A job in a thread of its own.

    :param work: The job.
    :ivar result: What it gave.
    :ivar error: Why it failed.
    """

    def __init__(self, work: DownloadJob) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work.run()
        except BaseException as error:  # noqa: BLE001 - it is looked at
            self.error = error

    def ended(self) -> Running:
        """Wait for its end."""
        self.join(60)
        assert not self.is_alive(), "the job did not end"
        return self


def together(ask: Callable[[], FileListing], count: int = 2) -> Callable[[], FileListing]:
    """Return what lists files to ``count`` jobs at the same moment, so that none sees what another one did."""
    meeting = threading.Barrier(count)

    def wait_for_others() -> FileListing:
        listing = ask()
        meeting.wait(30)
        return listing

    return wait_for_others


def settle(jobs: Sequence[Running], again: Callable[[], Result]) -> None:
    """Wait for jobs; for those that failed, as they may, do what Airflow does then."""
    for error in [one.ended().error for one in jobs]:
        if error is None:
            continue
        assert isinstance(error, TaskDownloadError), error
        assert error.retryable
        # By then what a dead process has left is known to be: nothing came for minutes.
        with patch.object(s3_uploads, "_QUIET", timedelta(days=-1)):
            assert len(again().entries) == len(FILES)


@pytest.mark.parametrize("number", range(3))
def test_two_jobs_for_one_destination_from_the_same_moment_on(
    server: EmulatorServer, emulator: Emulator, place: Place, number: int
) -> None:
    task = emulator.eo_task(FILES)
    ask = together(lists(server, task))
    jobs = [Running(job(ask, place.store(), part_size=PART)) for _ in range(2)]
    settle(jobs, lambda: job(lists(server, task), place.store(), part_size=PART).run())
    place.check(task)


def test_a_job_that_comes_in_the_middle_of_another_for_the_same_destination(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task(FILES)
    hung = emulator.fault("file:big.bin", Stall(60, at=2 * PART + 1), times=1)
    # It asks again when the stall has lasted for its timeout, by which time the other one is under way or done.
    first = Running(job(lists(server, task), place.store(), part_size=PART, timeout=2.0))
    until(lambda: hung.fired)
    second = Running(job(lists(server, task), place.store(), part_size=PART))
    settle([first, second], lambda: job(lists(server, task), place.store(), part_size=PART).run())
    place.check(task)


def test_of_two_jobs_that_may_not_replace_anything_both_tell_the_truth(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task(FILES)
    ask = together(lists(server, task))
    options: dict[str, Any] = {"part_size": PART, "overwrite": "never"}
    errors = [one.ended().error for one in [Running(job(ask, place.store(), **options)) for _ in range(2)]]
    assert all(error is None or isinstance(error, TaskDownloadError) for error in errors), errors
    wanted = {file.name: b"".join(file.content.blocks()) for file in task.files}
    own = {f"_taskdl/{task.id}{kind}" for kind in (".json", ".partial.json")}
    if place.blinks and any(errors):  # one who sees its file gone keeps the record of its upload for the next try
        own |= {name for name in place.bucket.names() if name.startswith("_taskdl/uploads/")}
    assert place.bucket.names() - own == set(wanted)
    assert {name: place.bucket.content(name) for name in wanted} == wanted
    assert place.bucket.uploads() == []


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_a_hundred_jobs_at_once_leave_neither_threads_nor_sockets(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    count = 100
    tasks = [emulator.eo_task({"a.bin": Synthetic(300_000, number), "b.bin": b"b"}) for number in range(count)]
    job(lists(server, tasks[0]), tmp_path / "first", concurrency=2).run()
    before = set(threading.enumerate())
    until(lambda: not server._server or not server._server.server_state.connections)
    files = open_files()
    meeting = threading.Barrier(count)

    def ask(task: Task) -> Callable[[], FileListing]:
        return lambda: (meeting.wait(60), lists(server, task)())[1]

    jobs = [Running(job(ask(task), tmp_path / task.id, concurrency=2, timeout=60.0)) for task in tasks]
    for one in jobs:
        assert one.ended().error is None
    for task in tasks:
        assert [(tmp_path / task.id / file.name).read_bytes() for file in task.files] == [
            b"".join(file.content.blocks()) for file in task.files
        ]
    assert set(threading.enumerate()) <= before
    until(lambda: open_files() <= files)
