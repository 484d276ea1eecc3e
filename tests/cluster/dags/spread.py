"""One remote task's files, brought by one task or spread over several."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator, shards
from airflow_provider_taskdl.operators.join import JoinManifestsOperator

MIB = 1024 * 1024
TASK: dict[str, Any] = {"remote_task_id": "{{ params.remote_task_id }}", "destination": "{{ params.destination }}"}
DOWNLOAD: dict[str, Any] = {
    **TASK,
    "task_id": "download",
    "conn_id": "eo_analysis_default",
    "concurrency": 4,
    "part_size": 5 * MIB,
    # Held in a worker until the links exist.
    "wait_for_link": True,
    "deferrable": False,
    "poll_interval": 1,
}
COMMON: dict[str, Any] = {"schedule": None, "params": {"remote_task_id": "", "destination": ""}}

with DAG("whole", **COMMON):
    DownloadToObjectStorageOperator(**DOWNLOAD)

for count in (4, 8):
    with DAG(f"spread_over_{count}", **COMMON):
        download = DownloadToObjectStorageOperator.partial(**DOWNLOAD).expand(shard=shards(count))
        download >> JoinManifestsOperator(task_id="join", shards=shards(count), **TASK)
