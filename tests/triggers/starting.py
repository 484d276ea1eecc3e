"""Tasks that are to begin in the triggerer."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

START: dict[str, Any] = {"conn_id": "eo_analysis_default", "deferrable": True, "start_from_trigger": True}


def sensor(remote_task_id: Any = "{{ params.id }}", **settings: Any) -> DownloadLinkSensor:
    return DownloadLinkSensor(
        **{"task_id": "wait", "remote_task_id": remote_task_id, **START, "timeout": 600, **settings}
    )


def operator(remote_task_id: Any = "{{ params.id }}", **settings: Any) -> DownloadToObjectStorageOperator:
    facts = {"destination": "/tmp", "wait_for_link": True, "wait_timeout": 600.0}
    return DownloadToObjectStorageOperator(
        **{"task_id": "wait", "remote_task_id": remote_task_id, **START, **facts, **settings}
    )


both = pytest.mark.parametrize("make", [sensor, operator], ids=["sensor", "operator"])
