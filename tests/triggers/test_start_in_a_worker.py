"""Where Airflow cannot start a task in the triggerer, as before 3.3, a worker begins and the task is deferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_taskdl.testing import Emulator
from tests.airflow_versions import before
from tests.running import make_context, outcome, run
from tests.triggers.starting import both, sensor

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]


@before(3, 3, "it starts them there")
@both
def test_this_airflow_begins_in_a_worker(make: Any) -> None:
    assert make().start_trigger_args is None


@both
def test_an_airflow_whose_triggers_render_no_templates_begins_in_a_worker(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(BaseTrigger, "render_template_fields", raising=False)
    assert make().start_trigger_args is None


@both
def test_there_the_worker_defers_it(taskdl_emulator: Emulator, tmp_path: Path, make: Any) -> None:
    remote = taskdl_emulator.eo_task({"a.bin": b"abc"}, ready_after=0.3)
    interval = {"poke_interval": 0.05} if make is sensor else {"poll_interval": 0.05, "destination": str(tmp_path)}
    assert outcome(lambda: run(make(remote.id, **interval), make_context()))[0] == "success"
