"""One task's files brought by several mapped tasks, run by Airflow itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.testing import Emulator, Status, Synthetic, Task
from tests.integration.conftest import Run
from tests.s3 import S3Server

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]

RunDag = Callable[..., Run]
FILES: dict[str, Any] = {
    "z first.tif": Synthetic(300_000), "empty.bin": b"", "ü #1.csv": b"a;b\n", "b.tif": b"b" * 9, "a.tif": b"a",
}  # fmt: skip


@pytest.fixture
def task(taskdl_emulator: Emulator) -> Task:
    return taskdl_emulator.eo_task(FILES, checksums=True)


def check(run: Run, task: Task, destination: str) -> None:
    """Check all that a run must leave behind."""
    names = [file.name for file in task.files]
    assert run.state == "success", run
    joined = run.xcom["join"]
    assert joined["return_value"] == [f"{destination}/{name}" for name in names]
    assert joined["manifest"] == f"{destination}/_taskdl/{task.id}.json"
    assert {**joined["summary"], "seconds": 0} == {
        "files": len(names), "bytes": sum(file.content.size for file in task.files), "skipped": 0, "seconds": 0,
    }  # fmt: skip
    assert joined["_link_DestinationLink"]
    assert len(run.assets) == len(names), "one event for each file, from the join alone"
    assert {extra["sha256"] for extra in run.assets.values()} == {file.content.sha256 for file in task.files}


@pytest.mark.parametrize("dag_id", ["eo_shards_of_the_dag", "eo_shards_of_a_task"])
def test_mapped_shards_end_as_one_task_would(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, task: Task, dag_id: str
) -> None:
    run = run_dag(dag_id, remote_task_id=task.id, destination=f"{tmp_path}/a b")
    check(run, task, f"file://{tmp_path}/a b")
    for file in task.files:
        assert (tmp_path / "a b" / file.name).read_bytes() == b"".join(file.content.blocks())
    assert taskdl_emulator.count("file") == len(FILES)
    assert {path.name for path in (tmp_path / "a b" / "_taskdl").iterdir()} == {
        f"{task.id}.json", *(f"{task.id}.shard-{index}-of-3.json" for index in range(3)),
    }  # fmt: skip


@pytest.mark.s3
def test_each_mapped_shard_has_its_own_memory_and_its_next_try_fetches_only_the_rest(
    taskdl_emulator: Emulator, run_dag: RunDag, s3: S3Server, bucket: str, task: Task
) -> None:
    # The link and a fresh one are refused: that ends a try of the shard that has the file.
    refusal = taskdl_emulator.fault("file:b.tif", Status(403), times=2)
    destination = f"s3://live_store@{bucket}/x"
    run = run_dag("eo_shards_of_the_dag", remote_task_id=task.id, destination=destination)
    assert refusal.fired == 2
    check_after_retry(run, task, destination)
    assert sorted(number for key, (_, number) in run.tasks.items() if key.startswith("download")) == [1, 1, 2]
    assert taskdl_emulator.count("file") == len(FILES) + 2
    own = s3.directory / bucket / "x" / "_taskdl"
    assert not list(own.glob("*.partial.json"))
    assert len(json.loads((own / f"{task.id}.json").read_bytes())["files"]) == len(FILES)


def check_after_retry(run: Run, task: Task, destination: str) -> None:
    skipped = run.xcom["join"]["summary"]["skipped"]
    run.xcom["join"]["summary"]["skipped"] = 0
    check(run, task, destination)
    assert skipped < len(FILES) - 2, "what the retried shard had before, and nothing of the others"


def test_shards_can_wait_for_themselves(taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task({"a": b"1", "b": b"2"}, ready_after=1.0, starts="asked")
    run = run_dag("eo_shards_that_wait", remote_task_id=task.id, destination=str(tmp_path))
    check(run, task, f"file://{tmp_path}")


def test_without_one_of_its_shards_there_is_no_join(
    taskdl_emulator: Emulator, run_dag: RunDag, tmp_path: Path, task: Task
) -> None:
    taskdl_emulator.fault("file:b.tif", Status(403))
    run = run_dag("eo_shards_of_the_dag", remote_task_id=task.id, destination=str(tmp_path))
    assert run.state == "failed"
    assert run.tasks["join"][0] == "upstream_failed"
    assert not (tmp_path / "_taskdl" / f"{task.id}.json").exists()
    assert len(list((tmp_path / "_taskdl").glob("*.shard-*-of-3.json"))) == 2
