"""Create, wait, download, delete: one export for each run, whatever happens to the worker that asks for it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from airflow_provider_taskdl.testing import Emulator, Stall, Status, Task
from tests.deployment.living import Deployment, Run, ask, until

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(600)]

HOURS = [f"2025-11-01T0{hour}:00:00Z" for hour in range(4)]


def exports(emulator: Emulator) -> list[Task]:
    """Return the exports that exist at the service, in the order of their windows."""
    found = [task for (service, _), task in list(emulator.tasks.items()) if service == "bls"]
    return sorted(found, key=lambda task: str(task.request["queryStartTime"]))


def asking(runs: list[Run]) -> dict[str, tuple[psutil.Process, int]]:
    """Return the processes in which exports are being asked for, and which tries they are, by run."""
    tasks = {run.run_id: run.task("create") for run in runs}
    return {
        run_id: (psutil.Process(task["pid"]), task["try_number"])
        for run_id, task in tasks.items()
        if task["state"] == "running" and task["pid"]
    }


def test_workers_killed_after_they_asked_for_an_export_make_no_second_one(
    deployment: Deployment, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag_id, client = "chain_of_three_hours", deployment.client
    monkeypatch.setattr(emulator, "ready_after", 1e6)
    # The service acts, and two of the three workers never hear of it.
    held = emulator.fault("bls.create", Stall(3600), times=2)
    until(lambda: client.get(f"/dags/{dag_id}").status_code == 200, "the DAG")
    ask(client, "PATCH", f"/dags/{dag_id}", {"is_paused": False})
    until(lambda: len(exports(emulator)) == 3, "three exports")
    listed = ask(client, "GET", f"/dags/{dag_id}/dagRuns?order_by=logical_date")["dag_runs"]
    runs = [Run(client, dag_id, run["dag_run_id"]) for run in listed]
    assert len(runs) == 3
    until(lambda: [run.task("create")["state"] for run in runs].count("success") == 1, "the one that was answered")
    killed = until(lambda: len(found := asking(runs)) == 2 and found, "two processes")
    assert held.fired == 2

    (one, _), (other, _) = killed.values()
    one.kill()  # the task
    other.parent().kill()  # and here what watches over it as well: the whole worker is gone
    other.kill()
    until(lambda: [run.task("wait")["state"] for run in runs] == ["deferred"] * 3, "the waiting of all three")
    tries = {run.run_id: run.task("create")["try_number"] for run in runs}
    assert all(tries[run_id] == number + 1 for run_id, (_, number) in killed.items())
    assert emulator.count("bls.create") == 3
    tasks = exports(emulator)
    assert [run.xcom("create") for run in runs] == [task.id for task in tasks]
    windows = [(task.request["queryStartTime"], task.request["queryEndTime"]) for task in tasks]
    assert windows == list(pairwise(HOURS))

    for task in tasks:
        task.finish()
    assert [run.ends() for run in runs] == ["success"] * 3
    assert exports(emulator) == []
    assert emulator.count("bls.create") == emulator.count("bls.delete") == 3
    for run, task in zip(runs, tasks, strict=True):
        (path,) = run.xcom("download")
        assert Path(path.removeprefix("file://")).read_bytes() == b"".join(task.files[0].content.blocks())


def test_the_export_of_a_download_that_failed_is_kept_or_deleted_as_the_dag_says(
    deployment: Deployment, emulator: Emulator
) -> None:
    emulator.fault("file", Status(403))
    kept, deleted = (deployment.run(dag_id) for dag_id in ("chain_that_keeps", "chain_with_teardown"))
    assert [kept.ends(), deleted.ends()] == ["failed", "failed"]
    assert [task.id for task in exports(emulator)] == [kept.xcom("create")]
    assert [run.task("delete")["state"] for run in (kept, deleted)] == ["upstream_failed", "success"]
    emulator.clear_faults()
    # Cleared, the one goes on with the export that is there; the other makes it anew, as Airflow clears setups, too.
    for run in (kept, deleted):
        run.clear(downstream=True)
    until(lambda: kept.get()["state"] == deleted.get()["state"] == "success", "the end of what was cleared")
    assert exports(emulator) == []
    assert emulator.count("bls.create") == 3
