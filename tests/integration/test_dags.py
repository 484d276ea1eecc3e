"""Sensor, operator and a reader of the paths, run by Airflow itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest

from airflow_provider_taskdl.testing import Content, Emulator, Status, Synthetic, Task
from tests.airflow_versions import AIRFLOW
from tests.integration.conftest import Run, link_of
from tests.s3 import S3Server

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(90)]

Service = Literal["bls", "eo"]
RunDag = Callable[..., Run]
WAYS = ("poke", "reschedule", "deferrable", "one_task_waits_in_worker", "one_task_waits_in_triggerer")

FILES: dict[str, Content | bytes] = {"z first.tif": Synthetic(300_000), "empty.bin": b"", "ü #1 100%.csv": b"a;b\n"}


def _task(emulator: Emulator, service: Service, **course: Any) -> Task:
    if service == "bls":
        return emulator.bls_task(b'{"status": 200}\n' * 1000, name="access #1.json", checksums=True, **course)
    return emulator.eo_task(FILES, checksums=True, **course)


def _contents(task: Task) -> list[bytes]:
    return [b"".join(file.content.blocks()) for file in task.files]


def _check(run: Run, task: Task, destination: str) -> None:
    """Check all that a run must leave behind, whichever way it waited."""
    names = [file.name for file in task.files]
    sizes = [file.content.size for file in task.files]
    assert run.state == "success", run
    downloaded = run.xcom["download"]
    assert downloaded["return_value"] == [f"{destination}/{name}" for name in names]
    assert run.xcom["read"]["return_value"] == [
        [len(content), hashlib.sha256(content).hexdigest()] for content in _contents(task)
    ]
    assert downloaded["manifest"] == f"{destination}/_taskdl/{task.id}.json"
    assert {**downloaded["summary"], "seconds": 0} == {
        "files": len(names), "bytes": sum(sizes), "skipped": 0, "seconds": 0,
    }  # fmt: skip
    if "wait" in run.tasks:
        assert run.xcom["wait"]["return_value"]["file_names"] == names
    scheme, _, place = destination.partition("://")
    outside = f"{scheme}://{quote(place.rpartition('@')[2], safe='/=')}"
    assert set(run.assets) == {f"{outside}/{quote(name)}" for name in names}
    assert {(extra["size"], extra["sha256"]) for extra in run.assets.values()} == {
        (file.content.size, file.content.sha256) for file in task.files
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", ["bls", "eo"])
def test_links_that_come_later_end_as_files_on_a_disk(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, service: Service, way: str
) -> None:
    task = _task(taskdl_emulator, service, ready_after=1.0, starts="asked")
    run = run_dag(f"{service}_{way}", remote_task_id=task.id, destination=f"{tmp_path}/a b")
    _check(run, task, f"file://{tmp_path}/a b")
    assert [(tmp_path / "a b" / file.name).read_bytes() for file in task.files] == _contents(task)
    assert {state for state, _ in run.tasks.values()} == {"success"}
    assert {number for _, number in run.tasks.values()} == {1}
    assert taskdl_emulator.count(f"{service}.status") >= 2
    assert [taskdl_emulator.count("file", quote_pattern(file.path)) for file in task.files] == [1] * len(task.files)
    assert taskdl_emulator.leaks == []


def quote_pattern(path: str) -> str:
    """Return a pattern that matches ``path`` only."""
    return path.replace("[", "[[]")


@pytest.mark.parametrize("way", ["poke", "deferrable"])
def test_an_order_of_the_market_ends_as_files_with_their_hosts_names(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, way: str
) -> None:
    order = taskdl_emulator.market_order(FILES, ready_after=1.0, starts="asked")
    run = run_dag(f"market_{way}", remote_task_id=order.id, destination=str(tmp_path))
    numbers = [file.path.rpartition("/")[2] for file in order.files]
    assert run.xcom["wait"]["return_value"]["file_names"] == numbers
    run.xcom["wait"]["return_value"]["file_names"] = list(FILES)
    _check(run, order, f"file://{tmp_path}")
    assert taskdl_emulator.leaks == []


@pytest.mark.parametrize("taskdl_emulator_options", [{"status_endpoint": False}], ids=["links alone"])
@pytest.mark.parametrize(("service", "unready"), [("bls", "empty"), ("bls", "null"), ("eo", "empty"), ("eo", "null")])
def test_the_link_endpoint_alone_suffices(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, service: Service, unready: str
) -> None:
    task = _task(taskdl_emulator, service, ready_after=1.0, starts="asked", unready=unready)
    run = run_dag(f"{service}_deferrable", remote_task_id=task.id, destination=str(tmp_path))
    _check(run, task, f"file://{tmp_path}")
    assert taskdl_emulator.count("*.status") == 0


@pytest.mark.s3
@pytest.mark.parametrize(
    ("service", "way"), [("bls", "deferrable"), ("eo", "poke"), ("eo", "one_task_waits_in_triggerer")]
)
def test_links_that_come_later_end_as_objects_in_a_store(
    taskdl_emulator: Emulator, run_dag: RunDag, s3: S3Server, bucket: str, service: Service, way: str
) -> None:
    task = _task(taskdl_emulator, service, ready_after=1.0, starts="asked")
    place = f"{bucket}/a b/day=1"
    run = run_dag(f"{service}_{way}", remote_task_id=task.id, destination=f"s3://live_store@{place}")
    _check(run, task, f"s3://live_store@{place}")
    assert [(s3.directory / place / file.name).read_bytes() for file in task.files] == _contents(task)
    assert {path.name for path in (s3.directory / place).iterdir()} == {"_taskdl", *(file.name for file in task.files)}
    manifest = json.loads((s3.directory / place / "_taskdl" / f"{task.id}.json").read_bytes())
    assert [file["path"] for file in manifest["files"]] == run.xcom["download"]["return_value"]
    if AIRFLOW >= (3, 0):  # in older ones it is the web server that makes the link
        assert run.xcom["download"]["_link_DestinationLink"] == f"{s3.url}/{quote(place)}"


@pytest.mark.s3
def test_a_connection_of_the_store_that_is_missing_writes_nothing_anywhere(
    taskdl_emulator: Emulator, run_dag: RunDag, bucket: str
) -> None:
    task = _task(taskdl_emulator, "eo")
    run = run_dag("eo_poke", remote_task_id=task.id, destination=f"s3://stoer@{bucket}/x")
    assert run.tasks["download"] == ("failed", 1)
    assert taskdl_emulator.count("file") == 0


def test_a_path_object_is_a_destination(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH_OBJECT", f"file://{tmp_path}/p #1")
    task = _task(taskdl_emulator, "eo")
    _check(run_dag("eo_to_a_path_object", remote_task_id=task.id), task, f"file://{tmp_path}/p #1")


def test_the_second_try_fetches_only_what_the_first_did_not(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path
) -> None:
    task = _task(taskdl_emulator, "eo")
    # The link and a fresh one are refused: that ends a try.
    refusal = taskdl_emulator.fault("file:empty.bin", Status(403), times=2)
    run = run_dag("eo_poke", remote_task_id=task.id, destination=str(tmp_path))
    assert (run.state, refusal.fired) == ("success", 2)
    assert run.tasks == {"wait": ("success", 1), "download": ("success", 2), "read": ("success", 1)}
    gets = {file.name: taskdl_emulator.count("file", quote_pattern(file.path)) for file in task.files}
    assert gets == {"z first.tif": 1, "empty.bin": 3, "ü #1 100%.csv": 1}
    assert run.xcom["download"]["summary"]["skipped"] == 2
    assert [file[0] for file in run.xcom["read"]["return_value"]] == [300_000, 0, 4]


def test_between_tries_the_memory_is_airflows_where_it_has_one(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path
) -> None:
    task = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("file:empty.bin", Status(403))
    run = run_dag("eo_poke", remote_task_id=task.id, destination=str(tmp_path))
    assert run.tasks["download"] == ("failed", 2)
    assert [taskdl_emulator.count("file", name) for name in ("z first.tif", "ü #1 100%.csv")] == [1, 1]
    assert (tmp_path / "_taskdl" / f"{task.id}.partial.json").exists() is (AIRFLOW < (3, 3))


@pytest.mark.parametrize("way", WAYS[:3])
def test_a_task_that_failed_fails_the_sensor_without_a_retry(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, way: str
) -> None:
    task = _task(taskdl_emulator, "eo", ends="failed", reason="disk full", ready_after=0.5, starts="asked")
    run = run_dag(f"eo_{way}", remote_task_id=task.id, destination=str(tmp_path))
    assert run.state == "failed"
    assert run.tasks["wait"] == ("failed", 1)
    assert taskdl_emulator.count("file") == 0


@pytest.mark.parametrize("place", ["worker", "triggerer"])
def test_a_task_that_failed_fails_the_operator_without_a_retry(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, place: str
) -> None:
    task = _task(taskdl_emulator, "bls", ends="expired", ready_after=0.5, starts="asked")
    run = run_dag(f"bls_one_task_waits_in_{place}", remote_task_id=task.id, destination=str(tmp_path))
    assert run.state == "failed"
    assert run.tasks["download"] == ("failed", 1)


def test_the_tasks_page_has_a_link_to_the_files(taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path) -> None:
    task = _task(taskdl_emulator, "bls")
    run = run_dag("bls_poke", remote_task_id=task.id, destination=f"{tmp_path}/a b")
    assert link_of("bls_poke", run, "download", "Destination") == f"file://{tmp_path}/a%20b"


def test_an_analysis_is_made_once_and_its_files_are_brought(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path
) -> None:
    taskdl_emulator.ready_after = 1.0
    lost = taskdl_emulator.fault("eo.create lose times=1")
    taskdl_emulator.fault("eo.list", Status(503), times=1)  # nor can it be looked for in the same try
    run = run_dag("eo_from_the_request_on", destination=str(tmp_path))
    assert run.state == "success"
    assert (run.tasks["create"], lost.fired) == (("success", 2), 1)
    (task,) = taskdl_emulator.tasks.values()
    assert str(run.xcom["create"]["return_value"]) == task.id  # looked up here, digits become a number
    assert run.xcom["download"]["return_value"] == [f"file://{tmp_path}/{name}" for name in ("ndvi.tif", "roads.tif")]
    assert _contents(task) == [(tmp_path / file.name).read_bytes() for file in task.files]
