"""A running Airflow, and its REST API as a person at the UI uses it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psutil

from airflow_provider_taskdl.testing import EmulatorServer

ROOT = Path(__file__).resolve().parents[2]
# Generous: a machine may be slow, and what is waited for is a condition.
PATIENCE = 120.0
SETTINGS = {
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    # How soon a task hears that it was cleared or failed by hand.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    # How soon a worker that is gone is missed.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    # How soon the triggers of a triggerer that died are given to another.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE, pause: float = 0.1) -> Any:
    """Wait for something, and return what it gives.

    :param true: Gives it.
    :param what: How it is called if it does not come.
    :param seconds: How long to wait.
    :param pause: Seconds between two looks.
    """
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(pause)
    return found


@dataclass
class Run:
    """A run of a DAG.

    :param client: The REST API.
    :param dag_id: The DAG.
    :param run_id: The run.
    """

    client: httpx.Client
    dag_id: str
    run_id: str

    @property
    def address(self) -> str:
        """Its address in the API."""
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}"

    def get(self, path: str = "") -> Any:
        """Ask the API about it."""
        return ask(self.client, "GET", f"{self.address}{path}")

    def tasks(self, task_id: str) -> list[dict[str, Any]]:
        """Return a task's instances."""
        found: list[dict[str, Any]] = self.get(f"/taskInstances?limit=100&task_id={task_id}")["task_instances"]
        return found

    def task(self, task_id: str = "download") -> dict[str, Any]:
        """Return a task's one instance."""
        (found,) = self.tasks(task_id)
        return found

    def xcom(self, task_id: str = "download", map_index: int = -1) -> Any:
        """Return what a task returned."""
        path = f"/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true&map_index={map_index}"
        return self.get(path)["value"]

    def process(self) -> psutil.Process:
        """Return the process in which the download runs now."""
        return psutil.Process(until(lambda: self.task()["pid"], "a process"))

    def clear(self, task_id: str = "download", *, downstream: bool = False) -> None:
        """Let a task begin again, and what comes after it if asked for, as a click in the UI does."""
        what = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False}
        what["include_downstream"] = downstream
        ask(self.client, "POST", f"/dags/{self.dag_id}/clearTaskInstances", what)

    def mark_failed(self, task_id: str = "download") -> None:
        """Say that a task has failed, as a click in the UI does."""
        ask(self.client, "PATCH", f"{self.address}/taskInstances/{task_id}", {"new_state": "failed"})

    def ends(self, seconds: float = PATIENCE) -> str:
        """Wait so long at most for its end and return how it ended."""

        def state() -> Any:
            return (found := self.get()["state"]) in ("success", "failed") and found

        return str(until(state, f"the end of {self.dag_id}", seconds))


@dataclass
class Deployment:
    """A running Airflow.

    :param airflow: Its processes.
    :param client: Its REST API.
    """

    airflow: Any
    client: httpx.Client

    def knows(self, dag_id: str) -> None:
        """Wait until a DAG is there."""
        until(lambda: self.client.get(f"/dags/{dag_id}").status_code == 200, f"the DAG {dag_id}")

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's runs begin."""
        self.knows(dag_id)
        ask(self.client, "PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def runs(self, dag_id: str) -> list[Run]:
        """Return a DAG's runs."""
        found = ask(self.client, "GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=run_after")["dag_runs"]
        return [Run(self.client, dag_id, run["dag_run_id"]) for run in found]

    def tasks(self, dag_id: str, **filters: str) -> list[dict[str, Any]]:
        """Return the task instances of all runs of a DAG, or some of them, such as ``state="deferred"``."""
        query = urlencode({"limit": 100, **filters})
        path = f"/dags/{dag_id}/dagRuns/~/taskInstances?{query}"
        found: list[dict[str, Any]] = ask(self.client, "GET", path)["task_instances"]
        return found

    def run(self, dag_id: str, **conf: Any) -> Run:
        """Start a run."""
        self.knows(dag_id)
        started = ask(self.client, "POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return Run(self.client, dag_id, started["dag_run_id"])


@contextmanager
def deployed(
    home: Path,
    dags: Path,
    connections: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, str],
    more: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Deployment]:
    """Run an Airflow.

    :param home: Its AIRFLOW_HOME.
    :param dags: Its DAGs.
    :param connections: Its connections.
    :param settings: What else is to stand in its environment, besides ``SETTINGS``.
    :param more: Further parts, as for ``parts.Airflow``; not started yet.
    """
    import sandbox
    from parts import COMPONENTS, Airflow

    env = sandbox.settings(home, dags, home / "store", {})
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    airflow = Airflow(
        home, {**env, **SETTINGS, **settings, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}, more, port=0
    )
    airflow.prepare(connections)
    try:
        airflow.start(*COMPONENTS)
        with httpx.Client(base_url=airflow.url, timeout=60, trust_env=False) as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            client.base_url = httpx.URL(f"{airflow.url}/api/v2")
            yield Deployment(airflow, client)
    finally:
        airflow.stop()


def ask(client: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    """Ask the API; again while its database is busy: two writers at once are one too many for SQLite."""
    answer: list[httpx.Response] = []

    def answered() -> bool:
        answer[:] = [client.request(method, path, json=body)]
        return answer[0].status_code < 500

    until(answered, f"an answer to {method} {path}")
    assert answer[0].is_success, answer[0].text
    return answer[0].json()


def guests(server: EmulatorServer) -> list[Any]:
    """Return the connections that others hold to a server of this process."""
    port = int(server.base_url.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return [c for c in connections if c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED]
