"""Downloads that are interrupted, and sensors that wait while the triggerer dies.

Run with ``conf={"remote_task_id": ..., "destination": ...}``; the sensors with ``conf={"remote_task_ids": [...]}``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

MIB = 1024 * 1024
CONN_ID = "eo_analysis_default"
COMMON: dict[str, Any] = {
    "schedule": None,
    "max_active_tasks": 200,
    "default_args": {"retries": 5, "retry_delay": timedelta(seconds=1)},
}


def download(part_size: int, **more: Any) -> None:
    """Add the task that downloads."""
    DownloadToObjectStorageOperator(
        task_id="download",
        conn_id=CONN_ID,
        remote_task_id="{{ params.remote_task_id }}",
        destination="{{ params.destination }}",
        concurrency=8,
        part_size=part_size,
        **more,
    )


DOWNLOAD = {**COMMON, "params": {"remote_task_id": "", "destination": ""}}

with DAG("small_parts", **DOWNLOAD):
    download(1 * MIB)

with DAG("big_parts", **DOWNLOAD):
    download(5 * MIB)

with DAG("limited_time", **DOWNLOAD):
    download(1 * MIB, execution_timeout=timedelta(seconds=20))

with DAG("waiting", params={"remote_task_ids": [], "timeout": 3600}, **COMMON):

    @task
    def ids(**context: Any) -> list[str]:
        """Return the ids to wait for."""
        found: list[str] = context["params"]["remote_task_ids"]
        return found

    DownloadLinkSensor.partial(task_id="wait", conn_id=CONN_ID, deferrable=True, poke_interval=5, timeout=3600).expand(
        remote_task_id=ids()
    )

with DAG("waiting_not_for_ever", params={"remote_task_id": ""}, **COMMON):
    DownloadLinkSensor(
        task_id="wait",
        conn_id=CONN_ID,
        remote_task_id="{{ params.remote_task_id }}",
        deferrable=True,
        poke_interval=1,
        timeout=45,
    )
