from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_taskdl.operators import metrics
from airflow_provider_taskdl.transfer.job import Totals

TAGS = {"conn_id": "c", "dag_id": "d", "task_id": "t"}


class Recorder:
    """Stands for Airflow's ``Stats``."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def incr(self, name: str, count: int, *, tags: dict[str, str]) -> None:
        self.sent[name] = count
        assert tags == TAGS

    timing = incr


def test_each_number_is_sent_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(metrics, "Stats", recorder)
    metrics.report(Totals(bytes=7, fetched=1, skipped=2, failed=3, retries=4, renewals=5, seconds=1.5), tags=TAGS)
    assert recorder.sent == {
        "taskdl.bytes": 7, "taskdl.files_fetched": 1, "taskdl.files_skipped": 2, "taskdl.files_failed": 3,
        "taskdl.retries": 4, "taskdl.renewals": 5, "taskdl.duration": 1500.0,
    }  # fmt: skip


def test_what_did_not_happen_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(metrics, "Stats", recorder)
    metrics.report(Totals(), tags=TAGS)
    assert set(recorder.sent) == {"taskdl.duration"}
