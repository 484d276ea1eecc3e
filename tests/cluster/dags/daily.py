"""Like the examples: a remote task each day, waited for in the triggerer, its files brought to a store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

MIB = 1024 * 1024
DAYS = 25
COMMON: dict[str, Any] = {
    "start_date": datetime(2025, 3, 1, tzinfo=timezone.utc),
    "max_active_tasks": 200,
    "is_paused_upon_creation": True,
    "default_args": {"retries": 3, "retry_delay": timedelta(seconds=1)},
}
EVERY_DAY: dict[str, Any] = {
    **COMMON,
    "schedule": "@daily",
    "end_date": COMMON["start_date"] + timedelta(days=DAYS - 1),
    "catchup": True,
    "max_active_runs": DAYS,
}


def fetch(conn_id: str, remote_task_id: Any, destination: str, part_size: int) -> None:
    """Add what waits and what downloads."""
    wait = DownloadLinkSensor(
        task_id="wait",
        conn_id=conn_id,
        remote_task_id=remote_task_id,
        deferrable=True,
        poke_interval=2,
        timeout=3600,
    )
    download = DownloadToObjectStorageOperator(
        task_id="download",
        conn_id=conn_id,
        remote_task_id=remote_task_id,
        destination=destination,
        concurrency=2,
        part_size=part_size,
    )
    wait >> download


with DAG("daily_logs", **EVERY_DAY):

    @task
    def start_export(day: str) -> str:
        """Have the log service export a day."""
        midnight = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        return BlsHook("baidu_bls_default").create_download_task(
            log_store_name="access-log",
            query="match *",
            query_start_time=midnight,
            query_end_time=midnight + timedelta(days=1),
        )

    fetch("baidu_bls_default", start_export("{{ ds }}"), "{{ var.value.taskdl_destination }}/logs/{{ ds }}", 1 * MIB)

with DAG("daily_analysis", **EVERY_DAY):
    # The platform calls the analysis of a day by its date.
    fetch("eo_analysis_default", "{{ ds_nodash }}", "{{ var.value.taskdl_bucket }}/analysis/{{ ds }}", 5 * MIB)

with DAG("never_ready", schedule=None, params={"remote_task_id": ""}, **COMMON):
    DownloadLinkSensor(
        task_id="wait",
        conn_id="eo_analysis_default",
        remote_task_id="{{ params.remote_task_id }}",
        deferrable=True,
        poke_interval=2,
        timeout=120,
        priority_weight=100,  # begins before the many that wait for a worker
    )
