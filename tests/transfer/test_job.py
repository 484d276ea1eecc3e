"""A task's files end up at the destination whole, recorded, and once."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    DestinationError,
    IntegrityError,
    ServiceUnavailableError,
    TaskNotReadyError,
    UnsafeFileNameError,
)
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Hide, Task
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from tests.canary import assert_canary_free, secrets_of
from tests.transfer.harness import BIG, FILES, Lister, checkpoint, fetched, job, leftovers, lists, manifest, published
from tests.transfer.sinks.conftest import Bucket, bucket, files, memory, s3

__all__ = ["bucket", "files", "memory", "s3"]


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
        store = ObjectStore(bucket.fs, bucket.root)
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
