from __future__ import annotations

import inspect
import runpy
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseSensorOperator

from airflow_provider_taskdl.sensors import download_link
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor


def test_every_text_and_the_connection_are_templates() -> None:
    texts: dict[str, Any] = {
        "remote_task_id": "{{ params.id }}", "conn_id": "{{ params.conn }}", "not_found": "{{ params.missing }}",
    }  # fmt: skip
    sensor = DownloadLinkSensor(task_id="wait", **texts)
    sensor.render_template_fields({"params": {"id": "7", "conn": "mine", "missing": "wait"}})
    assert (sensor.remote_task_id, sensor.conn_id, sensor.not_found) == ("7", "mine", "wait")


def test_the_constructor_only_assigns() -> None:
    own = inspect.signature(DownloadLinkSensor.__init__).parameters
    values = {name: f"{{{{ {name} }}}}" for name in own if name not in ("self", "kwargs")}
    sensor = DownloadLinkSensor(task_id="wait", **values)  # type: ignore[arg-type]
    assert {name: getattr(sensor, name) for name in values} == values
    assert set(sensor.template_fields) <= set(values)
    assert isinstance(sensor, BaseSensorOperator)


@pytest.mark.parametrize("default", ["True", "False"])
def test_airflows_setting_decides_where_to_wait(monkeypatch: pytest.MonkeyPatch, default: str) -> None:
    # The setting is read when the class is made, so the class is made anew.
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", default)
    made = runpy.run_path(download_link.__file__)["DownloadLinkSensor"]
    assert made(task_id="wait", conn_id="c", remote_task_id="7").deferrable is (default == "True")
