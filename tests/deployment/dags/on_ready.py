"""Runs for tasks that became ready, told of by a watcher and not asked for by anybody."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.triggers.task_ready import TaskReadyTrigger
from example_dags.bls_on_ready import bls_on_ready

__all__ = ["bls_on_ready"]  # the example runs here as well

EXPORTS = Asset(
    "exports_ready",
    watchers=[
        AssetWatcher(
            name="exports",
            trigger=TaskReadyTrigger(conn_id="baidu_bls_default", group="watched", poll_interval=2),
        )
    ],
)
ANALYSES = Asset(
    "analyses_ready",
    watchers=[
        AssetWatcher(
            name="analyses",
            trigger=TaskReadyTrigger(conn_id="eo_analysis_default", remote_task_id=["7001", "7002"], poll_interval=2),
        )
    ],
)

# Paused, so that nobody watches but for the test that is about it.
with DAG("on_ready", schedule=(EXPORTS | ANALYSES), is_paused_upon_creation=True):

    @task
    def ready(triggering_asset_events: Any = None) -> list[dict[str, str]]:
        """Several tasks may start one run."""
        payloads = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
        return [{name: payload[name] for name in ("conn_id", "remote_task_id")} for payload in payloads]

    DownloadToObjectStorageOperator.partial(
        task_id="download", destination="{{ var.value.taskdl_destination }}/on_ready"
    ).expand_kwargs(ready())
