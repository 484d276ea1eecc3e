"""Files are fetched side by side, each verified, and a stop at any moment leaves none half-published."""

from __future__ import annotations

import hashlib
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    DownloadFailedError,
    IntegrityError,
    SourceChangedError,
    TaskDownloadError,
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
    Status,
    Synthetic,
    Task,
    WrongMd5,
)
from airflow_provider_taskdl.testing.exchange import Reply, Request
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.sinks.local import LocalSink, LocalStore
from tests.canary import assert_canary_free, recorded_links
from tests.transfer.harness import job, leftovers, lists, published

MIB = 1024 * 1024
BIG = Synthetic(3 * MIB + 17)


@pytest.fixture
def many(emulator: Emulator) -> Task:
    """Twenty files of different sizes."""
    return emulator.eo_task({f"f{n:02}.bin": Synthetic(n * 40_000, seed=n) for n in range(20)})


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
        now, most, begun, lock = [0], [0], [0], threading.Lock()
        meeting = threading.Barrier(concurrency)

        monkeypatch.setattr(LocalStore, "write_small", lambda *_: None)  # a checkpoint is no transfer

        class Counting(LocalSink):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                    begun[0] += 1
                    is_early = begun[0] <= concurrency
                super().__init__(*args, **kwargs)
                if is_early:
                    meeting.wait(60)  # else the first may be done before the last begins

            def abort(self, *, keep: bool = False) -> None:
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

    @pytest.mark.parametrize(
        ("status", "kind", "most"),
        # An outage of 2 s: each further pause is at least 0.25 s.
        [(503, TransferError, 1 + 3 + 8 + 1), (401, AuthenticationError, 1 + 1)],
        ids=["down", "credentials refused"],
    )
    def test_a_service_that_gives_no_fresh_links_is_asked_no_more_often_for_many_files_than_for_one(
        self,
        status: int,
        kind: type[TaskDownloadError],
        most: int,
        server: EmulatorServer,
        emulator: Emulator,
        many: Task,
        tmp_path: Path,
    ) -> None:
        emulator.fault("eo.link", Status(status), after=1)
        emulator.fault("file", Status(403))
        patient = RetryPolicy(failures=2, base=0.2, cap=0.5)
        with pytest.raises(DownloadFailedError) as caught:
            job(lists(server, many), tmp_path, retry=patient).run()
        assert [error.file for error in caught.value.errors] == [file.name for file in many.files]
        assert {type(error) for error in caught.value.errors} == {kind}
        assert emulator.count("eo.link") <= most

    def test_a_service_that_starts_again_costs_no_file_however_often_it_refuses_meanwhile(
        self, server: EmulatorServer, emulator: Emulator, many: Task, tmp_path: Path
    ) -> None:
        class RefusedMeanwhile(Status):
            def applies(self, request: Request, reply: Reply | None) -> bool:
                return emulator.count("eo.link") < 1 + 5

        emulator.fault("file", RefusedMeanwhile(403))
        emulator.fault("eo.link", Status(503), after=1, times=5)
        patient = RetryPolicy(failures=2, base=0.05, cap=5.0)
        job(lists(server, many), tmp_path, retry=patient).run()
        assert published(tmp_path) == {file.name for file in many.files}
        assert emulator.count("eo.link") in (1 + 5, 1 + 5 + 1)

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
