"""Wait for the links of a task, download its files, read them: one DAG for each service and way of waiting.

Run with ``run_conf={"remote_task_id": ..., "destination": ...}``.
"""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AssetAlias, ObjectStoragePath, task

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.operators.eo_analysis import EoCreateAnalysisTaskOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

CONNECTIONS = {"bls": "baidu_bls_default", "eo": "eo_analysis_default", "market": "eo_market_default"}
REMOTE_TASK_ID = "{{ params.remote_task_id }}"
COMMON: dict[str, Any] = {
    "schedule": None,
    "default_args": {"retries": 1, "retry_delay": timedelta(seconds=0)},
    "params": {"remote_task_id": "", "destination": ""},
}


@task(task_id="read")
def read(paths: list[str]) -> list[list[str | int]]:
    """Return size and sha256 of every file, through the paths alone."""
    contents = [ObjectStoragePath(path).read_bytes() for path in paths]
    return [[len(content), hashlib.sha256(content).hexdigest()] for content in contents]


def download(conn_id: str, **settings: Any) -> DownloadToObjectStorageOperator:
    """Return the task that downloads."""
    facts = {"destination": "{{ params.destination }}", "outlets": [AssetAlias("files")], **settings}
    return DownloadToObjectStorageOperator(task_id="download", conn_id=conn_id, remote_task_id=REMOTE_TASK_ID, **facts)


for service, conn in CONNECTIONS.items():
    for mode in ("poke", "reschedule", "deferrable"):
        with DAG(f"{service}_{mode}", **COMMON):
            sensor = DownloadLinkSensor(
                task_id="wait",
                conn_id=conn,
                remote_task_id=REMOTE_TASK_ID,
                poke_interval=0.1,
                timeout=60,
                mode="reschedule" if mode == "reschedule" else "poke",
                deferrable=mode == "deferrable",
                retries=0,
            )
            files = download(conn, expected_files="{{ ti.xcom_pull(task_ids='wait')['file_count'] }}")
            sensor >> files
            read(files.output)  # type: ignore[arg-type]

    for place in ("worker", "triggerer"):
        with DAG(f"{service}_one_task_waits_in_{place}", **COMMON):
            files = download(conn, wait_for_link=True, deferrable=place == "triggerer", poll_interval=0.1)
            read(files.output)  # type: ignore[arg-type]

with DAG("eo_to_a_path_object", **COMMON):
    files = download(CONNECTIONS["eo"], destination=ObjectStoragePath(os.environ.get("PATH_OBJECT", "file:///none")))
    read(files.output)  # type: ignore[arg-type]

with DAG("eo_from_the_request_on", **COMMON):
    create = EoCreateAnalysisTaskOperator(task_id="create", meta_data_id=7, algorithms=["ndvi", {"algorithm": "roads"}])
    analysis: Any = create.output
    files = DownloadToObjectStorageOperator(
        task_id="download",
        conn_id=CONNECTIONS["eo"],
        remote_task_id=analysis,
        destination="{{ params.destination }}",
        wait_for_link=True,
        deferrable=True,
        start_from_trigger=True,
        poll_interval=0.1,
    )
    read(files.output)  # type: ignore[arg-type]
