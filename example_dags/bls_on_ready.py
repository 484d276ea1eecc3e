"""Whenever an export of Baidu Log Service is ready, whoever asked for it: bring it to object storage.

No schedule, and nobody who waits: a watcher in the triggerer looks through the list of the project's download tasks,
and tells the asset of each one whose file is there, once. Several that are ready at the same time may start one run, so
the run takes all that its events name. Exports that were there before the watcher began are left alone.

Connection: ``baidu_bls_default``. Variable ``taskdl_destination``: a local directory, or any store that
``ObjectStoragePath`` knows: ``s3://my_aws@bucket/logs`` is a bucket by way of the Airflow connection ``my_aws``.

It needs Airflow 3.3: older ones cannot remember what was told.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.triggers.task_ready import TaskReadyTrigger

# A directory for each: exports may have files of the same name.
DESTINATION = "{{ var.value.get('taskdl_destination', 'file:///tmp/taskdl') }}/on-ready/{{ task.remote_task_id }}"
READY = Asset(
    "bls_export_ready",
    watchers=[
        AssetWatcher(
            name="exports",
            trigger=TaskReadyTrigger(
                conn_id="baidu_bls_default",
                poll_interval=float(os.environ.get("TASKDL_EXAMPLE_POLL_SECONDS", "60")),
            ),
        )
    ],
)

with DAG(
    "bls_on_ready",
    schedule=[READY],
    start_date=datetime(2025, 11, 1, tzinfo=timezone.utc),
    is_paused_upon_creation=True,  # the watch begins when it is unpaused
    default_args={"retries": 3},
    doc_md=__doc__,
    tags=["taskdl"],
) as bls_on_ready:

    @task
    def ready(triggering_asset_events: Any = None) -> list[str]:
        """Return the exports that this run is for; each once, should it have been told of twice."""
        events = (triggering_asset_events or {}).get(READY, ())
        return list(dict.fromkeys(event.extra["payload"]["remote_task_id"] for event in events))

    DownloadToObjectStorageOperator.partial(
        task_id="download",
        conn_id="baidu_bls_default",
        destination=DESTINATION,
    ).expand(remote_task_id=ready())
