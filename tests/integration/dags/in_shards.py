"""One download spread over tasks by Airflow's own mapping: over a list in the DAG, and over one that a task gives.

Run with ``run_conf={"remote_task_id": ..., "destination": ...}``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AssetAlias, task

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator, shards
from airflow_provider_taskdl.operators.join import JoinManifestsOperator

WHAT: dict[str, Any] = {"remote_task_id": "{{ params.remote_task_id }}", "destination": "{{ params.destination }}"}
COMMON: dict[str, Any] = {
    "schedule": None,
    "default_args": {"retries": 1, "retry_delay": timedelta(seconds=0)},
    "params": {"remote_task_id": "", "destination": ""},
}


def download(shard: Any, **more: Any) -> Any:
    """Return the tasks that download."""
    facts = {"task_id": "download", "conn_id": "eo_analysis_default", **WHAT, **more}
    return DownloadToObjectStorageOperator.partial(**facts).expand(shard=shard)


def join(count: Any) -> JoinManifestsOperator:
    """Return the task that joins them."""
    return JoinManifestsOperator(task_id="join", **WHAT, shards=count, outlets=[AssetAlias("joined files")])


@task(task_id="how_many")
def how_many() -> list[tuple[int, int]]:
    """Return as many shards as the work needs."""
    return shards(3)


with DAG("eo_shards_of_the_dag", **COMMON):
    download(shards(3)) >> join(3)

with DAG("eo_shards_of_a_task", **COMMON):
    found = how_many()
    download(found) >> join(found)

with DAG("eo_shards_that_wait", **COMMON):
    download(shards(2), wait_for_link=True, deferrable=True, poll_interval=0.1) >> join("2")
