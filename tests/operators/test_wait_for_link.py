from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, ObjectStoragePath

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.testing import Emulator, Fault, Status
from tests.airflow_versions import since
from tests.running import make_context, outcome, run, until

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

FILES = {"b.tif": b"\x00\x01" * 5000, "a.pdf": b""}


def _operator(deferrable: bool, destination: Any, task_id: str, **settings: Any) -> DownloadToObjectStorageOperator:
    facts = {"conn_id": "eo_analysis_default", "remote_task_id": task_id, "destination": destination}
    where = {"wait_for_link": True, "deferrable": deferrable, "poll_interval": 0.05, "wait_timeout": 20.0}
    return DownloadToObjectStorageOperator(task_id="download", **{**facts, **where, **settings})


def _result(operator: DownloadToObjectStorageOperator) -> tuple[str, Any]:
    return outcome(lambda: run(operator, make_context()))


in_both_places = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])


@in_both_places
@pytest.mark.parametrize("ready_after", [0, 0.3])
def test_it_waits_and_then_downloads(
    taskdl_emulator: Emulator, tmp_path: Path, deferrable: bool, ready_after: float
) -> None:
    task, context = taskdl_emulator.eo_task(FILES, ready_after=ready_after), make_context()
    paths = run(_operator(deferrable, tmp_path, task.id), context)
    assert [ObjectStoragePath(path).read_bytes() for path in paths] == list(FILES.values())
    assert set(context["ti"].xcom) == {"manifest", "summary"}


@in_both_places
def test_weather_is_waited_out(taskdl_emulator: Emulator, tmp_path: Path, deferrable: bool) -> None:
    task = taskdl_emulator.eo_task(FILES)
    taskdl_emulator.fault("eo.*", Status(503), times=3)
    assert _result(_operator(deferrable, tmp_path, task.id))[0] == "success"


@in_both_places
@pytest.mark.parametrize(
    ("course", "fault", "expected"),
    [
        ({"ends": "failed", "ready_after": 0.2}, None, ("failed", "TaskFailedError")),
        ({"ends": "expired"}, None, ("failed", "TaskFailedError")),
        ({}, Status(401), ("failed", "AuthenticationError")),
        ({}, Status(404), ("failed", "TaskNotFoundError")),
    ],
)
def test_what_waiting_cannot_mend_ends_it_for_good(
    taskdl_emulator: Emulator, tmp_path: Path, deferrable: bool, course: dict[str, Any],
    fault: Fault | None, expected: tuple[str, str],
) -> None:  # fmt: skip
    task = taskdl_emulator.eo_task(FILES, **course)
    if fault is not None:
        taskdl_emulator.fault("eo.*", fault)
    kind, cause = _result(_operator(deferrable, tmp_path, task.id))
    assert (kind, type(cause).__name__) == expected


@in_both_places
@pytest.mark.parametrize("poll_interval", [0.05, 60.0])
def test_the_wait_ends_at_its_time(
    taskdl_emulator: Emulator, tmp_path: Path, deferrable: bool, poll_interval: float
) -> None:
    task = taskdl_emulator.eo_task(FILES, ready_after=60)
    began = time.time()
    operator = _operator(deferrable, tmp_path, task.id, wait_timeout=0.4, poll_interval=poll_interval)
    kind, error = _result(operator)
    assert (kind, type(error)) == ("retry", AirflowSensorTimeout)
    assert 0.4 <= time.time() - began < 5


@pytest.mark.parametrize("event", [None, {}, {"status": "ready"}, {"version": 1, "status": "done", "summary": {}}])
def test_an_event_that_is_not_understood_downloads_nothing(
    taskdl_emulator: Emulator, tmp_path: Path, event: Any
) -> None:
    operator = _operator(True, tmp_path, taskdl_emulator.eo_task(FILES).id)
    kind, error = outcome(lambda: operator.execute_complete(make_context(), event))
    assert (kind, type(error)) == ("retry", TaskDownloadError)
    assert taskdl_emulator.count() == 0


@since(3, 0, "it runs operators in the main thread only")
def test_a_kill_ends_the_wait_for_links(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task(FILES, ready_after=60)
    operator, results = _operator(False, tmp_path, task.id, poll_interval=60.0), []
    thread = threading.Thread(target=lambda: results.append(outcome(lambda: operator.execute(make_context()))))
    thread.daemon = True
    thread.start()
    until(lambda: taskdl_emulator.count("eo.status"))
    operator.on_kill()
    thread.join(10)
    assert not thread.is_alive()
    assert [(kind, type(error).__name__) for kind, error in results] == [("retry", "TransferError")]


@in_both_places
def test_a_task_that_is_not_known_yet_can_be_waited_for(
    taskdl_emulator: Emulator, tmp_path: Path, deferrable: bool
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    taskdl_emulator.fault("eo.*", Status(404), times=6)
    operator = _operator(deferrable, tmp_path, task.id, not_found="wait", max_consecutive_errors=0)
    assert _result(operator)[0] == "success"


@in_both_places
def test_errors_in_a_row_are_left_to_airflows_retries(
    taskdl_emulator: Emulator, tmp_path: Path, deferrable: bool
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    taskdl_emulator.fault("eo.link", Status(503))
    kind, error = _result(_operator(deferrable, tmp_path, task.id, max_consecutive_errors=2))
    assert (kind, type(error).__name__) == ("retry", "ServiceUnavailableError")
    assert taskdl_emulator.count("eo.link") == 3


def test_airflows_own_end_of_a_deferral_is_a_time_out_and_no_error_to_retry(tmp_path: Path) -> None:
    operator = _operator(True, tmp_path, "7")
    with pytest.raises(AirflowSensorTimeout, match="remote task 7 were not there in time"):
        operator.resume_execution("__fail__", {"error": "Trigger timeout"}, make_context())
