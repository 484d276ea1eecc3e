"""What a watcher's memory says of itself; its promises are in tests/triggers/test_task_ready.py and tests/fuzz."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.triggers.announced import Announced
from tests.canary import CANARY, assert_canary_free


@pytest.mark.parametrize(
    ("version", "said"),
    [(2, "version 2"), (None, "no version"), (CANARY, "no version"), ([CANARY], "no version"),
     (f"\\u0026sig={CANARY}", "no version"), (10**400, "no version")],
)  # fmt: skip
def test_of_a_memory_that_is_another_only_a_number_is_quoted(version: Any, said: str) -> None:
    stored = Announced(1.0, 2.0).dump() | {"version": version}
    with pytest.raises(TaskDownloadError, match=rf"cannot be read \({said}\)") as caught:
        Announced.read(stored)
    assert_canary_free(caught.value)
