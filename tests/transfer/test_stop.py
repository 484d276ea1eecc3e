"""A stop at any moment ends a transfer at once and leaves nothing half-published."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    DestinationError,
    DownloadFailedError,
)
from airflow_provider_taskdl.testing import (
    Emulator,
    EmulatorServer,
    Stall,
    Status,
    Synthetic,
)
from airflow_provider_taskdl.transfer.job import DownloadJob
from airflow_provider_taskdl.transfer.sinks.local import LocalSink
from tests.transfer.harness import checkpoint, job, leftovers, listing, lists, published, remote, until

MIB = 1024 * 1024
BIG = Synthetic(3 * MIB + 17)


def start(running: DownloadJob) -> Callable[[], BaseException | None]:
    """Run a job in a thread; returns what waits for its end and gives its error."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            running.run()
        except BaseException as error:  # noqa: BLE001 - it is looked at
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def ended() -> BaseException | None:
        thread.join(30)
        assert not thread.is_alive(), "the job did not end"
        return errors[0] if errors else None

    return ended


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("taskdl_")])


class TestStop:
    def test_a_cancelled_job_ends_at_once_and_leaves_nothing_half(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"small.bin": b"abc", "slow.bin": BIG, "late.bin": BIG})
        emulator.fault("file:slow.bin", Stall(60, at=MIB))
        emulator.fault("file:late.bin", Stall(60))
        running = job(lists(server, task), tmp_path, timeout=60.0)
        ended = start(running)
        until(lambda: emulator.count("file") == 3 and published(tmp_path) == {"small.bin"})
        stopped = time.monotonic()
        running.cancel()
        error = ended()
        assert time.monotonic() - stopped < 20
        assert isinstance(error, DownloadFailedError)
        assert error.retryable
        assert "cancelled" in error.message
        assert published(tmp_path) == {"small.bin"}
        assert leftovers(tmp_path) == set()
        assert set(checkpoint(tmp_path, task) or ()) == {"small.bin"}
        emulator.clear_faults()
        result = job(lists(server, task), tmp_path).run()
        assert [entry.outcome for entry in result.entries] == ["skipped", "fetched", "fetched"]

    def test_a_job_that_is_cancelled_before_it_begins_fetches_nothing(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"a": b"abc"})
        running = job(lists(server, task), tmp_path)
        running.cancel()
        with pytest.raises(DownloadFailedError, match="cancelled"):
            running.run()
        assert emulator.count("file") == 0
        assert published(tmp_path) == leftovers(tmp_path) == set()

    def test_a_job_that_is_cancelled_while_it_lists_fetches_nothing(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"a": b"abc"})

        def cancelling() -> Any:
            running.cancel()
            return lists(server, task)()

        running = job(cancelling, tmp_path)
        with pytest.raises(DownloadFailedError, match="cancelled"):
            running.run()
        assert emulator.count("file") == 0

    def test_a_wait_for_the_host_ends_with_the_job(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"a": b"abc"})
        emulator.fault("file", Status(503, retry_after="600"))
        running = job(lists(server, task), tmp_path)
        ended = start(running)
        until(lambda: emulator.count("file") == 1)
        running.cancel()
        assert isinstance(ended(), DownloadFailedError)

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_what_interrupts_the_main_thread_stops_the_others(
        self, kind: type[BaseException], server: EmulatorServer, emulator: Emulator, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        task = emulator.eo_task({"small.bin": b"abc", "slow.bin": BIG})
        emulator.fault("file:slow.bin", Stall(60, at=MIB))

        def interrupt(progress: Any) -> str | None:
            if published(tmp_path) and emulator.count("file") == 2:
                raise kind
            return None

        monkeypatch.setattr("airflow_provider_taskdl.transfer.progress.Progress.due_line", interrupt)
        began = time.monotonic()
        with pytest.raises(kind):
            job(lists(server, task), tmp_path, timeout=60.0).run()
        assert time.monotonic() - began < 20
        assert published(tmp_path) == {"small.bin"}
        assert leftovers(tmp_path) == set()
        assert set(checkpoint(tmp_path, task) or ()) == {"small.bin"}

    def test_what_arrives_while_the_others_stop_is_in_the_checkpoint(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise ``never`` would find, at the next try, a file that nobody seems to have put there."""
        task = emulator.eo_task({"first": b"abc", "second": b"def"})
        reached, go = threading.Event(), threading.Event()
        real = LocalSink.commit

        def slow(sink: LocalSink) -> Any:
            if sink._target.name == "second":
                reached.set()
                assert go.wait(60)
            return real(sink)

        def interrupt(progress: Any) -> str | None:
            assert reached.wait(10)
            until(lambda: "first" in published(tmp_path))  # else the stop may find it unread
            threading.Timer(0.2, go.set).start()
            raise KeyboardInterrupt

        monkeypatch.setattr(LocalSink, "commit", slow)
        monkeypatch.setattr("airflow_provider_taskdl.transfer.progress.Progress.due_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            job(lists(server, task), tmp_path, overwrite="never").run()
        monkeypatch.undo()
        assert set(checkpoint(tmp_path, task) or ()) == published(tmp_path) == {"first", "second"}
        result = job(lists(server, task), tmp_path, overwrite="never").run()
        assert [entry.outcome for entry in result.entries] == ["skipped", "skipped"]

    def test_a_mistake_in_the_code_stops_everything_and_is_not_hidden(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = emulator.eo_task({"a": b"abc", "slow.bin": BIG})
        emulator.fault("file:slow.bin", Stall(60, at=MIB))

        def broken(sink: LocalSink) -> Any:
            until(lambda: emulator.count("file") == 2)
            raise ZeroDivisionError

        monkeypatch.setattr(LocalSink, "commit", broken)
        with pytest.raises(ZeroDivisionError):
            job(lists(server, task), tmp_path, timeout=60.0).run()
        assert published(tmp_path) == leftovers(tmp_path) == set()

    def test_a_destination_that_refuses_is_one_files_failure(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = emulator.eo_task({"a": b"abc", "b": b"def"})
        real = LocalSink.commit

        def refuses(sink: LocalSink) -> Any:
            if sink._target.name == "a":
                raise DestinationError("the disk refused: no space")
            return real(sink)

        monkeypatch.setattr(LocalSink, "commit", refuses)
        with pytest.raises(DestinationError, match="no space") as caught:
            job(lists(server, task), tmp_path).run()
        assert caught.value.file == "a"
        assert published(tmp_path) == {"b"}
        assert emulator.count("file", "a") == 1

    def test_a_signal_may_stop_what_is_just_being_stopped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = job(lambda: listing(remote("http://127.0.0.1:1/")), tmp_path)
        told = running._cancelled._cond
        real, calls = told.notify_all, 0

        def interrupted() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                running.cancel()  # as a handler does, on the same thread, with the event's lock taken
            real()

        monkeypatch.setattr(told, "notify_all", interrupted)
        thread = threading.Thread(target=running.cancel, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        assert calls == 2
