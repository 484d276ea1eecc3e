"""Files are fetched side by side, each verified, and a stop at any moment leaves none half-published."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    DestinationError,
    DownloadFailedError,
    IntegrityError,
    SourceChangedError,
    TransferError,
)
from airflow_provider_taskdl.testing import (
    ChangeFile,
    Corrupt,
    Cut,
    Emulator,
    EmulatorServer,
    Header,
    IgnoreIfRange,
    Stall,
    Status,
    Synthetic,
    Task,
    WrongMd5,
)
from airflow_provider_taskdl.transfer.job import DownloadJob
from airflow_provider_taskdl.transfer.manifest import read_entries
from airflow_provider_taskdl.transfer.sinks.local import LocalSink, LocalStore
from tests.canary import assert_canary_free, recorded_links
from tests.transfer.harness import job, leftovers, lists, published

MIB = 1024 * 1024
BIG = Synthetic(3 * MIB + 17)


@pytest.fixture
def many(emulator: Emulator) -> Task:
    """Twenty files of different sizes."""
    return emulator.eo_task({f"f{n:02}.bin": Synthetic(n * 40_000, seed=n) for n in range(20)})


def checkpoint(root: Path, task: Task) -> set[str]:
    return set(read_entries(LocalStore(root), f"_taskdl/{task.id}.partial.json", task.id))


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
        thread.join(10)
        assert not thread.is_alive(), "the job did not end"
        return errors[0] if errors else None

    return ended


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("taskdl_")])


class TestConcurrency:
    @pytest.mark.parametrize("concurrency", [1, 3, 32])
    def test_many_files_arrive_whole_and_in_order(
        self, concurrency: int, server: EmulatorServer, many: Task, tmp_path: Path
    ) -> None:
        result = job(lists(server, many), tmp_path, concurrency=concurrency).run()
        assert [entry.name for entry in result.entries] == [file.name for file in many.files]
        for file, entry in zip(many.files, result.entries, strict=True):
            assert entry.sha256 == file.content.sha256
            assert hashlib.sha256((tmp_path / file.name).read_bytes()).hexdigest() == file.content.sha256

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_never_more_at_once_than_allowed(
        self, concurrency: int, server: EmulatorServer, many: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now, most, lock = [0], [0], threading.Lock()

        class Counting(LocalSink):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                super().__init__(*args, **kwargs)
                time.sleep(0.01)

            def abort(self) -> None:
                raise AssertionError("nothing fails here")

            def commit(self) -> Any:
                with lock:
                    now[0] -= 1
                return super().commit()

        monkeypatch.setattr("airflow_provider_taskdl.transfer.sinks.local.LocalSink", Counting)
        job(lists(server, many), tmp_path, concurrency=concurrency).run()
        assert most[0] == concurrency

    def test_a_link_that_ends_is_renewed_once_for_all(
        self, server: EmulatorServer, emulator: Emulator, many: Task, tmp_path: Path
    ) -> None:
        listed: list[int] = []

        def listing_then_expiry() -> Any:
            listing = lists(server, many)()
            listed.append(1)
            if len(listed) == 1:
                emulator.expire_links()
            return listing

        result = job(listing_then_expiry, tmp_path, concurrency=16).run()
        assert len(result.entries) == 20
        assert emulator.count("eo.link") == 2

    def test_a_link_that_ends_in_the_middle_is_renewed_and_the_rest_fetched(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"big.bin": BIG})
        emulator.fault("file:big.bin", Cut(at=2 * MIB), times=1)
        emulator.fault("file:big.bin", Status(403, error="RequestExpired"), times=1, after=1)
        job(lists(server, task), tmp_path).run()
        assert hashlib.sha256((tmp_path / "big.bin").read_bytes()).hexdigest() == BIG.sha256
        assert emulator.count("eo.link") == 2
        assert [seen.headers.get("range") for seen in emulator.seen("file")] == [None, *["bytes=2097152-"] * 2]


class TestVerification:
    @pytest.mark.parametrize(
        "lie",
        [
            WrongMd5(),
            Corrupt(at=MIB),
            Header("x-bce-content-crc32", "1"),
            Header("x-amz-checksum-crc32", "AAAAAQ=="),
            Header("x-amz-checksum-sha256", "A" * 43 + "="),
            Header("Repr-Digest", f"sha-256=:{'A' * 43}=:"),
        ],
        ids=lambda lie: getattr(lie, "name", type(lie).__name__),
    )
    @pytest.mark.parametrize("times", [1, 2])
    def test_a_wrong_digest_is_read_once_more_and_then_an_error(
        self, lie: Any, times: int, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"big.bin": BIG}, checksums=True)
        emulator.fault("file:big.bin", lie, times=times)
        if times == 1:
            job(lists(server, task), tmp_path).run()
            assert published(tmp_path) == {"big.bin"}
        else:
            with pytest.raises(IntegrityError, match="the file host announced") as caught:
                job(lists(server, task), tmp_path).run()
            assert (caught.value.file, caught.value.remote_task_id) == ("big.bin", task.id)
            assert published(tmp_path) == set()
        assert leftovers(tmp_path) == set()
        assert emulator.count("file") == 2

    def test_a_length_other_than_declared_is_read_once_more_and_then_an_error(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task()
        emulator.add_file(task, "a", b"abc", declared_size=4)
        with pytest.raises(IntegrityError, match="announced 4 bytes, the file host has 3"):
            job(lists(server, task), tmp_path).run()
        assert emulator.count("file") == 2
        assert published(tmp_path) == set()

    @pytest.mark.parametrize("honest", [True, False], ids=["if-range kept", "if-range ignored"])
    def test_a_file_that_changes_while_it_is_read_is_read_again_from_its_start(
        self, honest: bool, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"big.bin": BIG})
        emulator.fault("file:big.bin", Cut(at=MIB), times=1)
        emulator.fault("file:big.bin", ChangeFile(), times=1, after=1)
        if not honest:
            emulator.fault("file:big.bin", IgnoreIfRange())
        result = job(lists(server, task), tmp_path).run()
        assert result.entries[0].sha256 == BIG.sha256
        assert result.entries[0].source_etag == task.files[0].etag
        assert [seen.headers.get("range") for seen in emulator.seen("file")] == [None, "bytes=1048576-", None]

    def test_a_file_that_changes_all_the_time_is_given_up(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({"big.bin": BIG})
        emulator.fault("file:big.bin", Cut(at=MIB))
        emulator.fault("file:big.bin", ChangeFile())
        with pytest.raises(SourceChangedError, match="changed after 1048576 bytes"):
            job(lists(server, task), tmp_path).run()
        assert emulator.count("file") == 4
        assert published(tmp_path) == leftovers(tmp_path) == set()

    def test_a_cut_for_ever_leaves_nothing(self, server: EmulatorServer, emulator: Emulator, tmp_path: Path) -> None:
        task = emulator.eo_task({"big.bin": BIG})
        emulator.fault("file:big.bin", Cut(at=MIB))
        with pytest.raises(TransferError, match="gave up at byte 1048576"):
            job(lists(server, task), tmp_path).run()
        assert emulator.count("file") == 5
        assert published(tmp_path) == leftovers(tmp_path) == set()


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
        assert time.monotonic() - stopped < 2
        assert isinstance(error, DownloadFailedError)
        assert error.retryable
        assert "cancelled" in error.message
        assert published(tmp_path) == {"small.bin"}
        assert leftovers(tmp_path) == set()
        assert checkpoint(tmp_path, task) == {"small.bin"}
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
        assert time.monotonic() - began < 5
        assert published(tmp_path) == {"small.bin"}
        assert leftovers(tmp_path) == set()
        assert checkpoint(tmp_path, task) == {"small.bin"}

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
                assert go.wait(10)
            return real(sink)

        def interrupt(progress: Any) -> str | None:
            assert reached.wait(10)
            threading.Timer(0.2, go.set).start()
            raise KeyboardInterrupt

        monkeypatch.setattr(LocalSink, "commit", slow)
        monkeypatch.setattr("airflow_provider_taskdl.transfer.progress.Progress.due_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            job(lists(server, task), tmp_path, overwrite="never").run()
        monkeypatch.undo()
        assert checkpoint(tmp_path, task) == published(tmp_path) == {"first", "second"}
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


@pytest.mark.parametrize(
    "fault",
    [
        None, Cut(at=MIB), Cut(at=0, reset=True), Corrupt(at=5), WrongMd5(), Status(403, error="RequestExpired"),
        Status(404), Status(503), ChangeFile(),
    ],
    ids=lambda fault: type(fault).__name__,
)  # fmt: skip
def test_no_link_shows_however_it_ends(
    fault: Any, server: EmulatorServer, emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = emulator.eo_task({"big.bin": BIG, "other.bin": b"abc"}, checksums=True)
    if fault is not None:
        emulator.fault("file:big.bin", fault)
    error: BaseException | None = None
    with recorded_links() as secrets, caplog.at_level(logging.DEBUG):
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("airflow_provider_taskdl"):
                logging.getLogger(name).setLevel(logging.DEBUG)
        # The service itself is asked by another part, whose own tests watch its log.
        list_files = lists(server, task)
        listing = list_files()
        caplog.clear()
        try:
            job(lambda: listing, tmp_path).run()
        except TransferError as caught:
            error = caught
    assert (error is None) == (fault is None or isinstance(fault, ChangeFile))
    assert secrets
    assert any(record.name.startswith("airflow_provider_taskdl") for record in caplog.records)
    assert_canary_free(error, caplog.records, caplog.text, tmp_path, secrets=secrets)
    assert not emulator.leaks
