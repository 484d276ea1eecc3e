"""The checkpoint in Airflow's memory of a task, and the one beside the data where that is too small or fails."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.operators.checkpoint import checkpoint_for
from airflow_provider_taskdl.transfer.checkpoint import Checkpoint, StoreCheckpoint
from airflow_provider_taskdl.transfer.manifest import Entry
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from tests.running import make_context

TASK = "t-1"
BEGIN = datetime(2025, 1, 1, tzinfo=timezone.utc)


def entry(name: str, minute: int) -> Entry:
    return Entry(name=name, size=3, sha256="0" * 64, path=name, time=BEGIN + timedelta(minutes=minute))


@pytest.fixture
def context() -> Any:
    return make_context()


@pytest.fixture
def checkpoint(context: Any, tmp_path: Path) -> Checkpoint:
    store = LocalStore(tmp_path)
    store.prepare(0)
    return checkpoint_for(context, StoreCheckpoint(store))


def test_of_two_records_of_a_file_the_newer_counts(checkpoint: Checkpoint) -> None:
    many = [entry(f"n{number}", 2) for number in range(1000)]
    checkpoint.save(TASK, [entry("f", 1), entry("only here", 1)])
    checkpoint.save(TASK, [entry("f", 2), *many])  # too long for Airflow's memory
    found = checkpoint.load(TASK)
    assert found is not None
    assert found == {one.name: one for one in [entry("f", 2), entry("only here", 1), *many]}
    checkpoint.save(TASK, [entry("f", 3)])
    found = checkpoint.load(TASK)
    assert found is not None
    assert found["f"] == entry("f", 3)


def test_what_is_cleared_is_forgotten_in_both_places(checkpoint: Checkpoint) -> None:
    checkpoint.save(TASK, [entry("f", 1)])
    checkpoint.save(TASK, [entry(f"n{number}", 2) for number in range(1000)])
    checkpoint.clear(TASK)
    assert checkpoint.load(TASK) is None
