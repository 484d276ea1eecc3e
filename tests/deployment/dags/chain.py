"""The whole life of an export: created, waited for, downloaded, deleted."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_taskdl.operators.bls import BlsCreateDownloadTaskOperator, BlsDeleteDownloadTaskOperator
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

CONN_ID = "baidu_bls_default"


def chain(**create: Any) -> tuple[BlsCreateDownloadTaskOperator, BlsDeleteDownloadTaskOperator]:
    """Add the four tasks, and return the first and the last."""
    first = BlsCreateDownloadTaskOperator(task_id="create", log_store_name="access-log", **create)
    export: Any = first.output
    wait = DownloadLinkSensor(
        task_id="wait",
        conn_id=CONN_ID,
        remote_task_id=export,
        deferrable=True,
        start_from_trigger=True,
        poke_interval=1,
    )
    destination = "{{ var.value.taskdl_destination }}/{{ dag.dag_id }}/{{ run_id }}"
    download = DownloadToObjectStorageOperator(
        task_id="download", conn_id=CONN_ID, remote_task_id=export, destination=destination
    )
    last = BlsDeleteDownloadTaskOperator(task_id="delete", remote_task_id=export)
    first >> wait >> download >> last
    return first, last


with DAG(
    "chain_of_three_hours",
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2025, 11, 1, 0, tzinfo=timezone.utc),
    end_date=datetime(2025, 11, 1, 2, tzinfo=timezone.utc),
    catchup=True,
    is_paused_upon_creation=True,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
):
    chain()

WINDOW = {"query_start_time": "2025-11-01T00:00:00Z", "query_end_time": "2025-11-01T01:00:00Z"}

with DAG("chain_that_keeps", schedule=None):
    chain(**WINDOW)

with DAG("chain_with_teardown", schedule=None):
    create, delete = chain(**WINDOW)
    delete.as_teardown(setups=create)
