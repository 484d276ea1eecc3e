"""Tasks that begin in the triggerer: no worker before the links exist, and all else as if there had been one."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Status
from tests.deployment.living import Deployment, Run, guests, until

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(600)]

NEVER = 1e6
LIMIT = 60.0  # of the sensor that does not wait for ever; see its DAG


def no_worker_ran(deployment: Deployment, run: Run, task_id: str) -> None:
    """Check that a task waits, and that no process of a worker has been there for it."""
    task = run.task(task_id)
    assert (task["state"], task["pid"], task["hostname"], task["try_number"]) == ("deferred", None, "", 1)
    assert task["queued_when"] is None, "the scheduler gave it to an executor"
    logs = deployment.airflow.home.glob(f"logs/dag_id={run.dag_id}/run_id={run.run_id}/task_id={task_id}/*")
    assert {".trigger." in log.name for log in logs} == {True}


def test_no_worker_is_taken_before_the_links_exist_and_the_triggerer_may_die(
    deployment: Deployment, emulated: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    seen, fetched, never = (emulator.eo_task({"a.bin": b"abc"}, ready_after=NEVER) for _ in range(3))
    waiting = deployment.run("sensor_from_trigger", remote_task_id=seen.id)
    download = deployment.run("download_from_trigger", remote_task_id=fetched.id, destination=str(tmp_path / "out"))
    for task in (seen, fetched):
        until(lambda task=task: emulator.count("eo.status", task.id) > 1, "looks of the triggerer")  # type: ignore[misc]
    # The last: its time is limited, and is to last until here.
    limited = deployment.run("sensor_from_trigger_not_for_ever", remote_task_id=never.id)
    # With it they are three, who share a list.
    until(
        lambda: emulator.count("eo.list") or emulator.count("eo.status", never.id) > 1,
        "looks of the triggerer at the last",
    )
    tasks = [(limited, "wait", never), (waiting, "wait", seen), (download, "download", fetched)]
    for run, task_id, _ in tasks:
        no_worker_ran(deployment, run, task_id)

    deployment.airflow.kill("triggerer")
    until(lambda: not guests(emulated), "the end of the triggerer's connections")
    emulator.requests.clear()
    began = datetime.fromisoformat(limited.task("wait")["start_date"]).timestamp()
    until(lambda: time.time() > began + LIMIT, "the deadline")
    seen.finish()
    deployment.airflow.start("triggerer")

    assert limited.ends() == "failed"
    assert waiting.ends() == "success"
    # One look each: at what is there now, and at what was not there in time.
    assert [emulator.count("eo.status", task.id) for task in (never, seen)] == [1, 1]
    assert waiting.xcom("wait")["file_names"] == ["a.bin"]
    no_worker_ran(deployment, download, "download")
    fetched.finish()
    assert download.ends() == "success"
    assert download.xcom() == [f"file://{tmp_path}/out/a.bin"]
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"abc"
    assert {run.task(task_id)["try_number"] for run, task_id, _ in tasks} == {1}


def test_it_ends_as_it_does_behind_a_worker(deployment: Deployment, emulator: Emulator, tmp_path: Path) -> None:
    broken = emulator.eo_task({"a.bin": b"abc"}, ends="failed", reason="disk full")
    stormy, *several = (emulator.eo_task({f"{number}.bin": b"abc"}) for number in range(3))
    # The link and a fresh one are refused: that ends a try.
    refusal = emulator.fault(f"file:{stormy.files[0].path}", Status(403), times=2)
    runs = {
        "failed": deployment.run("sensor_from_trigger", remote_task_id=broken.id),
        "wrong": deployment.run("sensor_from_trigger", remote_task_id="not a task id"),
        "mapped": deployment.run("sensor_from_trigger_mapped", remote_task_ids=[task.id for task in several]),
        "retried": deployment.run("download_from_trigger", remote_task_id=stormy.id, destination=str(tmp_path)),
    }
    ends = {name: run.ends() for name, run in runs.items()}
    assert ends == {"failed": "failed", "wrong": "failed", "mapped": "success", "retried": "success"}
    # What waiting cannot mend is not tried again; what a retry can mend begins in the triggerer once more.
    assert [runs[name].task("wait")["try_number"] for name in ("failed", "wrong")] == [1, 1]
    assert (refusal.fired, runs["retried"].task()["try_number"]) == (2, 2)
    assert [runs["mapped"].xcom("wait", number)["remote_task_id"] for number in range(2)] == [t.id for t in several]
