"""A watcher tells of each task once, however often its triggerer ends, and whatever happens meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.testing.tasks import Task
from airflow_provider_taskdl.triggers.memory import key_of
from tests.canary import assert_canary_free, recorded_links
from tests.deployment.living import Deployment, ask, guests, until

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(900)]

NEVER = 1e6
EO = "eo_analysis_default"
DAGS = ("on_ready", "bls_on_ready")


class Watched:
    """What Airflow's database has of the watchers' assets."""

    def __init__(self, deployment: Deployment) -> None:
        self._database = deployment.airflow.home / "airflow.db"

    def announced(self) -> Counter[str]:
        """Return how often each task was announced."""
        rows = self._rows("SELECT extra FROM asset_event WHERE extra LIKE '%from_trigger%'")
        return Counter(json.loads(extra)["payload"]["remote_task_id"] for (extra,) in rows)

    def remembers(self, task: Task | None = None) -> int:
        """Tell whether it is remembered that a task was announced; without one, how much is remembered."""
        rows = self._rows("SELECT key || value FROM asset_state_store WHERE key LIKE 'taskdl.%'")
        mark = "" if task is None else key_of(EO, "task", task.id) if task.service == "eo" else task.id
        return sum(mark in row for (row,) in rows)

    def _rows(self, query: str) -> list[tuple[str]]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(query).fetchall()


@pytest.fixture
def watching(deployment: Deployment, emulated: EmulatorServer, emulator: Emulator) -> Iterator[Watched]:
    """The DAGs of the watchers are there, and they watch; afterwards they are gone."""
    watched = Watched(deployment)
    switch(deployment, is_paused=False)
    until(lambda: emulator.count("eo.status") and watched.remembers() >= 2, "the beginning of all watches")
    yield watched
    switch(deployment, is_paused=True)
    until(lambda: not guests(emulated), "the end of all watches")


def switch(deployment: Deployment, *, is_paused: bool) -> None:
    """Have the watchers come or go, and at once, not when Airflow next reads the DAGs' file."""
    for dag_id in DAGS:
        deployment.knows(dag_id)
        ask(deployment.client, "PATCH", f"/dags/{dag_id}", {"is_paused": is_paused})
    token = ask(deployment.client, "GET", f"/dags/{DAGS[0]}/details")["file_token"]
    until(lambda: deployment.client.put(f"/parseDagFile/{token}").status_code in (201, 409), "the file's being read")


def test_each_task_is_told_of_once_over_three_ends_of_the_triggerer(
    deployment: Deployment, emulated: EmulatorServer, emulator: Emulator, watching: Watched
) -> None:
    airflow = deployment.airflow
    tasks: list[Task] = []

    def export(project: str = "watched", **course: float) -> Task:
        tasks.append(emulator.bls_task(b"line\n", request={"project": project}, **course))  # type: ignore[arg-type]
        return tasks[-1]

    def analysis(task_id: str) -> Task:
        tasks.append(emulator.eo_task({f"{task_id}.tif": b"12345"}, id=task_id))
        return tasks[-1]

    def told(*these: Task) -> None:
        ids = {task.id for task in these}
        until(lambda: ids <= set(watching.announced()), "the events")
        until(lambda: all(map(watching.remembers, these)), "their being remembered")

    def killed() -> None:
        airflow.kill("triggerer")
        until(lambda: not guests(emulated), "the end of the triggerer's connections")

    def terminated() -> None:
        triggerer = airflow.parts.pop("triggerer")
        psutil.Process(triggerer.pid).terminate()
        assert triggerer.wait(60) == 0
        until(lambda: not guests(emulated), "the end of the triggerer's connections")

    with recorded_links() as secrets:
        before, example, slow = export(), export("default"), export(ready_after=NEVER)
        told(before, example)

        killed()
        meanwhile = export()
        slow.finish()
        airflow.start("triggerer")
        told(meanwhile, slow)

        terminated()
        meanwhile, named = export(), analysis("7001")
        airflow.start("triggerer")
        told(meanwhile, named)

        at_that_moment = export(ready_after=NEVER)
        seen = emulator.count("bls.list")
        until(lambda: emulator.count("bls.list") > seen, "a look")
        at_that_moment.finish()
        killed()
        airflow.start("triggerer")
        told(at_that_moment)

        after = export(), export("default"), analysis("7002")
        told(*after)
        emulator.requests.clear()
        until(lambda: emulator.count("bls.list") >= 6, "some more looks")

        assert watching.announced() == Counter(task.id for task in tasks)
        runs = until(lambda: all_that_ended(deployment, len(tasks)), "the end of all runs")
        assert {state for state, _ in runs} == {"success"}
        assert sorted(fetched for _, ids in runs for fetched in ids) == sorted(task.id for task in tasks)
        store = airflow.home / "store"
        there = {path.name for place in ("on_ready/*", "on-ready/*/*") for path in store.glob(place)}
        assert {task.files[0].name for task in tasks} <= there
        secrets |= {emulator.secret_access_key, emulator.token}
        assert_canary_free(airflow.home / "airflow.db", airflow.home / "triggerer.log", secrets=secrets)


def all_that_ended(deployment: Deployment, tasks: int) -> list[tuple[str, list[str]]]:
    """Return each run's end and the tasks that it was for, once they are for so many and have ended; else nothing."""
    runs = [run for dag_id in DAGS for run in deployment.runs(dag_id)]
    ends = [run.get()["state"] for run in runs]
    if not {*ends} <= {"success", "failed"}:
        return []
    found = [[one if isinstance(one, str) else one["remote_task_id"] for one in run.xcom("ready")] for run in runs]
    return list(zip(ends, found, strict=True)) if sum(map(len, found)) >= tasks else []
