"""What failed is named, what arrived stays, and the next run fetches only the rest."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import (
    DestinationError,
    DestinationExistsError,
    DownloadFailedError,
    LinkRefusedError,
)
from airflow_provider_taskdl.testing import Cut, Emulator, EmulatorServer, Stall, Status, Task
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from tests.transfer.harness import FILES, checkpoint, fetched, job, leftovers, lists, manifest, published


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

        def late(store: LocalStore, name: str, *facts: Any, **options: Any) -> Any:
            sink = real(store, name, *facts, **options)
            if name == "a.json":
                (tmp_path / name).write_bytes(b"theirs")
            return sink

        monkeypatch.setattr(LocalStore, "open", late)
        with pytest.raises(DestinationExistsError):
            run(overwrite="never")
        assert (tmp_path / "a.json").read_bytes() == b"theirs"
        assert leftovers(tmp_path) == set()

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
