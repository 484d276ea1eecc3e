"""A running Airflow, and its REST API as a person at the UI uses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

# Generous: a machine may be slow, and what is waited for is a condition.
PATIENCE = 120.0


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for something, and return what it gives."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.1)
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

    def clear(self, task_id: str = "download") -> None:
        """Let a task begin again, as a click in the UI does."""
        what = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False}
        ask(self.client, "POST", f"/dags/{self.dag_id}/clearTaskInstances", what)

    def mark_failed(self, task_id: str = "download") -> None:
        """Say that a task has failed, as a click in the UI does."""
        ask(self.client, "PATCH", f"{self.address}/taskInstances/{task_id}", {"new_state": "failed"})

    def ends(self) -> str:
        """Wait for its end and return how it ended."""
        return str(
            until(lambda: (s := self.get()["state"]) in ("success", "failed") and s, f"the end of {self.dag_id}")
        )


@dataclass
class Deployment:
    """A running Airflow.

    :param airflow: Its processes.
    :param client: Its REST API.
    """

    airflow: Any
    client: httpx.Client

    def run(self, dag_id: str, **conf: Any) -> Run:
        """Start a run."""
        until(lambda: self.client.get(f"/dags/{dag_id}").status_code == 200, f"the DAG {dag_id}")
        started = ask(self.client, "POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return Run(self.client, dag_id, started["dag_run_id"])


def ask(client: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    """Ask the API; again while its database is busy: two writers at once are one too many for SQLite."""
    answer: list[httpx.Response] = []

    def answered() -> bool:
        answer[:] = [client.request(method, path, json=body)]
        return answer[0].status_code < 500

    until(answered, f"an answer to {method} {path}")
    assert answer[0].is_success, answer[0].text
    return answer[0].json()
