from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import RateLimitedError, TaskApiError
from airflow_provider_taskdl.hooks import metrics
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.testing import Emulator, Status
from tests.hooks.twins import list_async, list_sync

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]


@pytest.mark.parametrize("ask", [list_sync, list_async])
def test_what_was_sent_is_counted_and_what_was_held_back_is_not(
    monkeypatch: pytest.MonkeyPatch, taskdl_emulator: Emulator, ask: Any
) -> None:
    counted: list[Any] = []

    class Stats:
        @staticmethod
        def incr(name: str, *, tags: dict[str, str]) -> None:
            counted.append((name, tags["conn_id"], tags["outcome"]))

    monkeypatch.setattr(metrics, "Stats", Stats)
    task = taskdl_emulator.eo_task({"a": b"a"})
    taskdl_emulator.fault("eo.link", Status(429, "60"), after=1)
    ask(EoAnalysisHook(), task.id)
    with pytest.raises(RateLimitedError):
        ask(EoAnalysisHook(), task.id)
    with pytest.raises(TaskApiError, match="asked"):
        ask(EoAnalysisHook(), task.id)  # told to wait for longer than it sleeps
    assert taskdl_emulator.count("eo.link") == 2
    assert counted == [
        ("taskdl.requests", "eo_analysis_default", "ok"),
        ("taskdl.requests", "eo_analysis_default", "RateLimitedError"),
    ]
