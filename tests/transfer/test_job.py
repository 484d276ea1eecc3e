"""A task's files end up at the destination whole, recorded, and once."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    DestinationError,
    DestinationExistsError,
    DownloadFailedError,
    IntegrityError,
    LinkRefusedError,
    ServiceUnavailableError,
    TaskNotReadyError,
    UnsafeFileNameError,
)
from airflow_provider_taskdl.testing import Cut, Emulator, EmulatorServer, Hide, Stall, Status, Synthetic, Task
from airflow_provider_taskdl.transfer.job import Result
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from tests.canary import assert_canary_free, secrets_of
from tests.transfer.harness import Lister, job, leftovers, lists, published
from tests.transfer.sinks.conftest import Bucket, bucket, memory, s3, s3_server

__all__ = ["bucket", "memory", "s3", "s3_server"]

BIG = Synthetic(6 * 1024 * 1024 + 5)
FILES: dict[str, Any] = {"b ig.tif": BIG, "empty.csv": b"", "a.json": b'{"a": 1}'}


@pytest.fixture
def task(emulator: Emulator) -> Task:
    """Three files, one of them empty."""
    return emulator.eo_task(FILES)


@pytest.fixture
def run(server: EmulatorServer, task: Task, tmp_path: Path) -> Any:
    """Runs the task's job."""

    def run(**options: Any) -> Result:
        return job(lists(server, task), tmp_path, **options).run()

    return run


def manifest(root: Path, task: Task) -> dict[str, Any] | None:
    path = root / "_taskdl" / f"{task.id}.json"
    return json.loads(path.read_bytes()) if path.exists() else None


def checkpoint(root: Path, task: Task) -> list[str] | None:
    path = root / "_taskdl" / f"{task.id}.partial.json"
    return [file["name"] for file in json.loads(path.read_bytes())["files"]] if path.exists() else None


def fetched(emulator: Emulator) -> dict[str, int]:
    """How often the host was asked for each file since the last call."""
    counts: dict[str, int] = {}
    for seen in emulator.seen("file"):
        counts[seen.names[0]] = counts.get(seen.names[0], 0) + 1
    emulator.requests.clear()
    return counts


class TestSuccess:
    def test_the_files_are_there_byte_for_byte_and_in_order(self, run: Any, tmp_path: Path, emulator: Emulator) -> None:
        result = run()
        assert [entry.name for entry in result.entries] == list(FILES)
        assert (tmp_path / "b ig.tif").read_bytes() == BIG.read(0, BIG.size)
        assert (tmp_path / "empty.csv").read_bytes() == b""
        assert (tmp_path / "a.json").read_bytes() == FILES["a.json"]
        assert published(tmp_path) == set(FILES)
        assert leftovers(tmp_path) == set()
        assert fetched(emulator) == dict.fromkeys(FILES, 1)
        assert not emulator.leaks

    def test_the_manifest_says_what_is_there(self, run: Any, tmp_path: Path, task: Task) -> None:
        before = datetime.now(timezone.utc)
        result = run()
        assert result.manifest == f"{tmp_path}/_taskdl/{task.id}.json"
        assert result.summary() == {
            "files": 3, "bytes": BIG.size + 8, "skipped": 0, "seconds": round(result.seconds, 3),
        }  # fmt: skip
        written = manifest(tmp_path, task)
        assert written is not None
        assert (written["version"], written["remote_task_id"]) == (1, task.id)
        for file, entry in zip(task.files, written["files"], strict=True):
            assert entry["name"] == file.name
            assert entry["size"] == file.content.size
            assert entry["sha256"] == file.content.sha256
            assert entry["source_etag"] == file.etag
            assert entry["path"] == f"{tmp_path}/{file.name}"
            assert entry["outcome"] == "fetched"
            assert before <= datetime.fromisoformat(entry["time"].replace("Z", "+00:00")) <= datetime.now(timezone.utc)
        assert checkpoint(tmp_path, task) is None

    def test_the_record_shows_no_link(self, server: EmulatorServer, run: Any, tmp_path: Path, task: Task) -> None:
        run()
        assert_canary_free(tmp_path / "_taskdl", secrets=secrets_of(lists(server, task)()))

    def test_any_store_will_do(self, bucket: Bucket, server: EmulatorServer, task: Task) -> None:
        store = ObjectStore(bucket.fs, bucket.root, part_size=5 * 1024 * 1024)
        job(lists(server, task), store).run()
        assert bucket.names() == {*FILES, f"_taskdl/{task.id}.json"}
        assert bucket.content("b ig.tif") == BIG.read(0, BIG.size)
        assert bucket.content("empty.csv") == b""
        assert bucket.uploads() == []
        again = job(lists(server, task), store).run()
        assert [entry.outcome for entry in again.entries] == ["skipped"] * 3
        bucket.put("a.json", b'{"a": 2}')
        third = job(lists(server, task), store).run()
        assert [entry.outcome for entry in third.entries] == ["skipped", "skipped", "fetched"]
        assert bucket.content("a.json") == FILES["a.json"]

    def test_sizes_need_not_be_declared(self, server: EmulatorServer, emulator: Emulator, tmp_path: Path) -> None:
        task = emulator.eo_task(FILES, declare_sizes=False)
        result = job(lists(server, task), tmp_path).run()
        assert [entry.size for entry in result.entries] == [BIG.size, 0, 8]

    @pytest.mark.parametrize(
        ("options", "names"),
        [
            ({"pattern": "*.json"}, {"a.json"}),
            ({"pattern": ["*.csv", "b*"], "expected": 2}, {"b ig.tif", "empty.csv"}),
            ({"expected": ["a.json"]}, set(FILES)),
        ],
    )
    def test_only_what_is_wanted_is_fetched(
        self, options: dict[str, Any], names: set[str], run: Any, tmp_path: Path, emulator: Emulator
    ) -> None:
        run(**options)
        assert published(tmp_path) == names
        assert set(fetched(emulator)) == names


class TestNothingBegun:
    @pytest.mark.parametrize("names", [["ok", "../../x"], ["ok", "a/b"], ["ok", "ok"], ["ok", ""], ["ok", "x" * 300]])
    def test_a_bad_name_stops_it_before_any_byte(
        self, names: list[str], server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task()
        for name in names:
            emulator.add_file(task, name, b"abc")
        kinds = (UnsafeFileNameError, Exception) if "" in names else UnsafeFileNameError  # no name: no listing either
        with pytest.raises(kinds):
            job(lists(server, task), tmp_path / "to").run()
        assert emulator.count("file") == 0
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({"expected": 4}, TaskNotReadyError),
            ({"expected": 2}, IntegrityError),
            ({"expected": ["missing"]}, TaskNotReadyError),
            ({"pattern": "*.pdf"}, ConnectionConfigError),
        ],
    )
    def test_what_is_not_as_expected_stops_it_before_any_byte(
        self, options: dict[str, Any], kind: type[Exception], run: Any, tmp_path: Path, emulator: Emulator
    ) -> None:
        with pytest.raises(kind):
            run(**options)
        assert emulator.count("file") == 0
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("how", ["empty", "null", "blank", "first"])
    def test_a_task_without_its_links_is_not_ready(
        self, how: Any, run: Any, tmp_path: Path, emulator: Emulator
    ) -> None:
        emulator.fault("eo.link", Hide(how))
        with pytest.raises(TaskNotReadyError):
            run()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "options", [{"overwrite": "maybe"}, {"on_error": "ignore"}, {"concurrency": 0}, {"concurrency": 257}]
    )
    def test_a_parameter_that_is_none_of_its_values_is_refused(self, options: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(ConnectionConfigError, match=next(iter(options))):
            job(Lister([]), tmp_path, **options)

    def test_a_service_that_fails_is_the_error(self, tmp_path: Path) -> None:
        with pytest.raises(ServiceUnavailableError):
            job(Lister([ServiceUnavailableError("busy")]), tmp_path).run()

    def test_too_little_room_is_said_first(
        self, run: Any, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = type("Usage", (), {"free": 1000})
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(DestinationError, match="the disk has 1000 free"):
            run()
        assert emulator.count("file") == 0


class TestFailure:
    @pytest.fixture
    def two_fail(self, emulator: Emulator) -> None:
        emulator.fault("file:b ig.tif", Cut(at=1000))
        emulator.fault("file:a.json", Status(404))

    @pytest.mark.usefixtures("two_fail")
    def test_all_that_can_be_fetched_is_and_the_rest_is_listed(self, run: Any, tmp_path: Path, task: Task) -> None:
        with pytest.raises(DownloadFailedError, match="2 of 3 files failed") as caught:
            run()
        assert {error.file for error in caught.value.errors} == {"b ig.tif", "a.json"}
        assert all(error.remote_task_id == task.id for error in caught.value.errors)
        assert "b ig.tif: gave up" in str(caught.value)
        assert "a.json: the file host refused" in str(caught.value)
        assert caught.value.retryable
        assert published(tmp_path) == {"empty.csv"}
        assert leftovers(tmp_path) == set()
        assert manifest(tmp_path, task) is None
        assert checkpoint(tmp_path, task) == ["empty.csv"]
        copy = pickle.loads(pickle.dumps(caught.value))
        assert str(copy) == str(caught.value)
        assert [str(error) for error in copy.errors] == [str(error) for error in caught.value.errors]

    @pytest.mark.usefixtures("two_fail")
    def test_the_next_run_fetches_only_the_rest(self, run: Any, tmp_path: Path, task: Task, emulator: Emulator) -> None:
        with pytest.raises(DownloadFailedError):
            run()
        emulator.clear_faults()
        fetched(emulator)
        result = run()
        assert fetched(emulator) == {"b ig.tif": 1, "a.json": 1}
        assert [entry.outcome for entry in result.entries] == ["fetched", "skipped", "fetched"]
        assert manifest(tmp_path, task) is not None
        assert checkpoint(tmp_path, task) is None
        run()
        assert fetched(emulator) == {}

    def test_one_failure_is_its_own_error(self, run: Any, emulator: Emulator, task: Task) -> None:
        emulator.fault("file:a.json", Status(404))
        with pytest.raises(LinkRefusedError, match="HTTP 404") as caught:
            run()
        assert (caught.value.file, caught.value.remote_task_id) == ("a.json", task.id)
        assert emulator.count("file", "a.json") == 2
        assert emulator.count("eo.link") == 2

    def test_fail_fast_stops_the_others(
        self, server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
    ) -> None:
        emulator.fault("file:a.json", Status(404))
        emulator.fault("file:b ig.tif", Stall(60, at=1000))
        with pytest.raises(LinkRefusedError):
            job(lists(server, task), tmp_path, on_error="fail_fast", timeout=60.0).run()
        assert "b ig.tif" not in published(tmp_path)
        assert leftovers(tmp_path) == set()
        assert manifest(tmp_path, task) is None

    def test_many_failures_are_not_all_spelled_out(
        self, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        task = emulator.eo_task({f"f{n}": b"x" for n in range(25)})
        emulator.fault("file", Status(404))
        with pytest.raises(DownloadFailedError, match=r"25 of 25 files failed.*and 15 more") as caught:
            job(lists(server, task), tmp_path).run()
        assert len(caught.value.errors) == 25

    def test_a_manifest_that_cannot_be_written_loses_nothing(
        self, run: Any, tmp_path: Path, task: Task, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = LocalStore.write_small

        def refuses(store: LocalStore, name: str, data: bytes) -> None:
            if name.endswith(f"{task.id}.json"):
                raise DestinationError("no")
            real(store, name, data)

        monkeypatch.setattr(LocalStore, "write_small", refuses)
        with pytest.raises(DestinationError):
            run()
        monkeypatch.undo()
        assert manifest(tmp_path, task) is None
        fetched(emulator)
        run()
        assert fetched(emulator) == {}
        assert manifest(tmp_path, task) is not None

    def test_a_checkpoint_that_cannot_be_written_is_no_failure(
        self, run: Any, tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        real = LocalStore.write_small

        def refuses(store: LocalStore, name: str, data: bytes) -> None:
            if name.endswith(".partial.json"):
                raise DestinationError("no")
            real(store, name, data)

        monkeypatch.setattr(LocalStore, "write_small", refuses)
        run()
        assert manifest(tmp_path, task) is not None
        assert "The checkpoint could not be written" in caplog.text


class TestOverwrite:
    def test_what_was_tampered_with_is_fetched_anew(
        self, run: Any, tmp_path: Path, emulator: Emulator, task: Task
    ) -> None:
        run()
        (tmp_path / "a.json").write_bytes(b'{"a": 2}')
        (tmp_path / "empty.csv").unlink()
        fetched(emulator)
        result = run()
        assert fetched(emulator) == {"a.json": 1, "empty.csv": 1}
        assert [entry.outcome for entry in result.entries] == ["skipped", "fetched", "fetched"]
        assert (tmp_path / "a.json").read_bytes() == FILES["a.json"]

    def test_a_manifest_is_withdrawn_while_not_everything_is_there(
        self, run: Any, tmp_path: Path, emulator: Emulator, task: Task
    ) -> None:
        run()
        (tmp_path / "a.json").unlink()
        emulator.fault("file:a.json", Status(404))
        with pytest.raises(LinkRefusedError):
            run()
        assert manifest(tmp_path, task) is None
        assert checkpoint(tmp_path, task) == ["b ig.tif", "empty.csv"]
        emulator.clear_faults()
        fetched(emulator)
        run()
        assert fetched(emulator) == {"a.json": 1}
        assert manifest(tmp_path, task) is not None

    def test_what_no_record_names_is_replaced(self, run: Any, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_bytes(b"somebody else's")
        run()
        assert (tmp_path / "a.json").read_bytes() == FILES["a.json"]

    def test_always_fetches_everything(self, run: Any, emulator: Emulator) -> None:
        run()
        fetched(emulator)
        result = run(overwrite="always")
        assert fetched(emulator) == dict.fromkeys(FILES, 1)
        assert {entry.outcome for entry in result.entries} == {"fetched"}

    def test_never_fetches_into_a_free_place(self, run: Any, tmp_path: Path, emulator: Emulator) -> None:
        run(overwrite="never")
        assert published(tmp_path) == set(FILES)
        fetched(emulator)
        with pytest.raises(DestinationExistsError, match="3 of the files"):
            run(overwrite="never")
        assert fetched(emulator) == {}

    def test_never_goes_on_after_its_own_failed_try(self, run: Any, tmp_path: Path, emulator: Emulator) -> None:
        emulator.fault("file:a.json", Status(404))
        with pytest.raises(LinkRefusedError):
            run(overwrite="never")
        emulator.clear_faults()
        fetched(emulator)
        run(overwrite="never")
        assert fetched(emulator) == {"a.json": 1}
        assert published(tmp_path) == set(FILES)

    def test_never_does_not_replace_what_comes_meanwhile(
        self, run: Any, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = LocalStore.open

        def late(store: LocalStore, name: str, **options: Any) -> Any:
            sink = real(store, name, **options)
            if name == "a.json":
                (tmp_path / name).write_bytes(b"theirs")
            return sink

        monkeypatch.setattr(LocalStore, "open", late)
        with pytest.raises(DestinationExistsError):
            run(overwrite="never")
        assert (tmp_path / "a.json").read_bytes() == b"theirs"
        assert leftovers(tmp_path) == set()

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        damage=st.binary(max_size=50)
        | st.sampled_from(["version", "remote_task_id", "files", "sha256", "size", "stored_version", "name"]).flatmap(
            lambda place: st.tuples(st.just(place), st.none() | st.integers() | st.text(max_size=5) | st.just([]))
        )
    )
    def test_a_record_that_is_damaged_foreign_or_of_a_later_version_only_costs_time(
        self, damage: Any, server: EmulatorServer, emulator: Emulator, tmp_path: Path
    ) -> None:
        emulator.tasks.clear()
        emulator.objects.clear()
        task = emulator.eo_task({"a.json": FILES["a.json"]}, id="77")
        job(lists(server, task), tmp_path).run()
        path = tmp_path / "_taskdl" / "77.json"
        if isinstance(damage, bytes):
            path.write_bytes(damage)
        else:
            document = json.loads(path.read_bytes())
            place, value = damage
            (document if place in document else document["files"][0])[place] = value
            path.write_text(json.dumps(document))
        fetched(emulator)
        result = job(lists(server, task), tmp_path).run()
        assert (tmp_path / "a.json").read_bytes() == FILES["a.json"]
        assert [entry.name for entry in result.entries] == ["a.json"]
        assert manifest(tmp_path, task) is not None
