"""Tasks that begin in the triggerer.

Run with ``conf={"remote_task_id": ..., "destination": ...}``; the mapped one with ``conf={"remote_task_ids": [...]}``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

COMMON: dict[str, Any] = {
    "schedule": None,
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=1)},
    "params": {"remote_task_id": "", "destination": "", "remote_task_ids": []},
}
WAIT: dict[str, Any] = {"conn_id": "eo_analysis_default", "deferrable": True, "start_from_trigger": True}
REMOTE_TASK_ID = "{{ params.remote_task_id }}"


@task
def give(key: str, **context: Any) -> Any:
    """Return a parameter of the run."""
    return context["params"][key]


with DAG("sensor_from_trigger", **COMMON):
    DownloadLinkSensor(task_id="wait", remote_task_id=REMOTE_TASK_ID, poke_interval=1, timeout=3600, **WAIT)

with DAG("sensor_from_trigger_not_for_ever", **COMMON):
    DownloadLinkSensor(task_id="wait", remote_task_id=REMOTE_TASK_ID, poke_interval=1, timeout=60, **WAIT)

with DAG("sensor_from_trigger_mapped", **COMMON):
    DownloadLinkSensor.partial(task_id="wait", poke_interval=1, timeout=3600, **WAIT).expand(
        remote_task_id=give("remote_task_ids")
    )

with DAG("download_from_trigger", **COMMON):
    DownloadToObjectStorageOperator(
        task_id="download",
        remote_task_id=give("remote_task_id"),  # type: ignore[arg-type]
        destination="{{ params.destination }}",
        wait_for_link=True,
        poll_interval=1,
        wait_timeout=3600,
        execution_timeout=timedelta(seconds=4000),  # a shorter one than the wait's would go through a worker
        **WAIT,
    )
