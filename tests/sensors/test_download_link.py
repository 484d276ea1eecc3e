from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor
from airflow_provider_taskdl.testing import Body, Emulator, Fault, Hide, Status
from tests.running import MODES, Mode, make_context, outcome, run

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

Service = Literal["bls", "eo"]
CONNECTIONS = {"bls": "baidu_bls_default", "eo": "eo_analysis_default"}
UNKNOWN = {"bls": "00000000-1111-2222-3333-444444444444", "eo": "999"}


def _task(emulator: Emulator, service: Service, **course: Any) -> str:
    if service == "bls":
        return emulator.bls_task(b"[]", name="log.json", **course).id
    return emulator.eo_task({"b.tif": b"123", "a.pdf": b""}, **course).id


def _summary(service: Service, task_id: str) -> dict[str, Any]:
    names = ["log.json"] if service == "bls" else ["b.tif", "a.pdf"]
    return {
        "remote_task_id": task_id,
        "file_names": names,
        "file_count": len(names),
        "total_size": None if service == "bls" else 3,
    }


def _sensor(mode: Mode, service: Service, task_id: str, **settings: Any) -> DownloadLinkSensor:
    where = {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}
    facts = {"conn_id": CONNECTIONS[service], "remote_task_id": task_id, "poke_interval": 0.01, "timeout": 20.0}
    return DownloadLinkSensor(task_id="wait", **{**facts, **where, **settings})


every_mode = pytest.mark.parametrize("mode", MODES)
both_services = pytest.mark.parametrize("service", ["bls", "eo"])

NO_SUCH_PAGE = Body('{"status": 404, "error": "Not Found"}', 404, "application/json")


def _not_found(service: Service) -> Fault:
    return Status(404, error="DownloadTaskNotFound" if service == "bls" else None)


@every_mode
@both_services
@pytest.mark.parametrize(
    ("course", "where", "fault", "times"),
    [
        pytest.param({}, "", None, None, id="ready at once"),
        pytest.param({"ready_after": 0.3, "queued_for": 0.1}, "", None, None, id="waiting, running, ready"),
        pytest.param({}, "link", Hide("empty"), 3, id="no files thrice"),
        pytest.param({}, "link", Hide("null"), 3, id="null thrice"),
        pytest.param({}, "link", Hide("blank"), 3, id="empty links thrice"),
        pytest.param({}, "link", Hide("first"), 3, id="one empty link thrice"),
        pytest.param({}, "*", Status(503), 3, id="down for a while"),
        pytest.param({}, "*", Status(500), 3, id="broken for a while"),
        pytest.param({}, "*", Status(429, retry_after="0"), 3, id="busy for a while"),
        pytest.param({}, "link", Body(), 3, id="a proxy's page for a while"),
        pytest.param({}, "link", Body('{"success": tru', 200, "application/json"), 3, id="cut bodies for a while"),
        pytest.param({}, "status", NO_SUCH_PAGE, None, id="no status endpoint"),
        pytest.param({}, "status", Status(403), None, id="status endpoint refused"),
        pytest.param({}, "status", Body(), None, id="status endpoint speaks differently"),
        pytest.param({}, "status", Status(503), None, id="status endpoint always down"),
        pytest.param({"ready_after": 0.3, "unready": "null"}, "status", NO_SUCH_PAGE, None, id="links decide alone"),
    ],
)
def test_the_wait_ends_with_the_files_names(
    taskdl_emulator: Emulator, mode: Mode, service: Service, course: dict[str, Any], where: str,
    fault: Fault | None, times: int | None,
) -> None:  # fmt: skip
    task_id = _task(taskdl_emulator, service, **course)
    if fault is not None:
        taskdl_emulator.fault(f"{service}.{where}", fault, times=times)
    sensor = _sensor(mode, service, task_id, max_consecutive_errors=3)
    assert outcome(lambda: run(sensor, make_context())) == ("success", _summary(service, task_id))


@every_mode
@both_services
@pytest.mark.parametrize(
    ("course", "where", "fault", "error", "says"),
    [
        pytest.param({"ends": "failed", "reason": "disk full"}, "", None, "TaskFailedError", "disk full", id="failed"),
        pytest.param(
            {"ends": "failed", "reason": "oops", "ready_after": 0.3}, "", None, "TaskFailedError", "oops", id="fails"
        ),
        pytest.param({"ends": "expired"}, "", None, "TaskFailedError", "expired", id="expired"),
        pytest.param({}, "*", Status(401), "AuthenticationError", "credentials", id="401"),
        pytest.param({}, "*", Status(403), "AuthenticationError", "credentials", id="403"),
        pytest.param({}, "link", Status(401), "AuthenticationError", "credentials", id="links: 401"),
        pytest.param({}, "link", Status(400, message="bad id"), "TaskApiError", "bad id", id="links: 400"),
    ],
)
def test_what_waiting_cannot_mend_ends_it_for_good(
    taskdl_emulator: Emulator, mode: Mode, service: Service, course: dict[str, Any], where: str, fault: Fault | None,
    error: str, says: str,
) -> None:  # fmt: skip
    task_id = _task(taskdl_emulator, service, **course)
    if fault is not None:
        taskdl_emulator.fault(f"{service}.{where}", fault)
    kind, cause = outcome(lambda: run(_sensor(mode, service, task_id), make_context()))
    assert (kind, type(cause).__name__) == ("failed", error)
    assert says in str(cause)
    assert cause.remote_task_id == task_id


@every_mode
@both_services
def test_a_task_that_is_not_known_fails_at_once(taskdl_emulator: Emulator, mode: Mode, service: Service) -> None:
    kind, cause = outcome(lambda: run(_sensor(mode, service, UNKNOWN[service]), make_context()))
    assert (kind, type(cause).__name__) == ("failed", "TaskNotFoundError")
    assert taskdl_emulator.count(f"{service}.link") == 1


@every_mode
@both_services
def test_a_task_that_is_not_known_yet_can_be_waited_for(
    taskdl_emulator: Emulator, mode: Mode, service: Service
) -> None:
    task_id = _task(taskdl_emulator, service)
    taskdl_emulator.fault(f"{service}.*", _not_found(service), times=6)
    sensor = _sensor(mode, service, task_id, not_found="wait", max_consecutive_errors=0)
    assert outcome(lambda: run(sensor, make_context())) == ("success", _summary(service, task_id))


@every_mode
@both_services
@pytest.mark.parametrize(
    ("fault", "error"), [(Status(503), "ServiceUnavailableError"), (Body(), "MalformedResponseError")]
)
def test_errors_in_a_row_are_left_to_airflows_retries(
    taskdl_emulator: Emulator, mode: Mode, service: Service, fault: Fault, error: str
) -> None:
    task_id = _task(taskdl_emulator, service)
    taskdl_emulator.fault(f"{service}.link", fault)
    sensor = _sensor(mode, service, task_id, max_consecutive_errors=2)
    kind, cause = outcome(lambda: run(sensor, make_context()))
    assert (kind, type(cause).__name__) == ("retry", error)
    assert taskdl_emulator.count(f"{service}.link") == 3


@every_mode
@pytest.mark.parametrize(("poke_interval", "timeout"), [(0.05, 0.4), (60.0, 1.0)])
@pytest.mark.parametrize("how", ["running", "empty", "null", "blank", "first"])
def test_the_deadline_is_the_same_and_the_last_look_is_at_it(
    taskdl_emulator: Emulator, mode: Mode, poke_interval: float, timeout: float, how: Any
) -> None:
    task_id = _task(taskdl_emulator, "eo", ready_after=60 if how == "running" else 0)
    if how != "running":
        taskdl_emulator.fault("eo.link", Hide(how))
    sensor = _sensor(mode, "eo", task_id, timeout=timeout, poke_interval=poke_interval)
    began = time.time()
    kind, error = outcome(lambda: run(sensor, make_context()))
    assert (kind, type(error)) == ("retry", AirflowSensorTimeout)
    assert f"remote task {task_id} were not there in time" in str(error)
    assert timeout <= time.time() - began < timeout + 5
    if poke_interval > timeout:  # else the look before may end after the deadline, and is the last one
        assert taskdl_emulator.seen("eo.*")[-1].time - began >= timeout - 0.05


@every_mode
def test_the_deadline_is_no_later_for_a_service_that_asks_for_more_time(taskdl_emulator: Emulator, mode: Mode) -> None:
    task_id = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("eo.*", Status(429, retry_after="3000"))
    began = time.time()
    _, error = outcome(lambda: run(_sensor(mode, "eo", task_id, timeout=0.4), make_context()))
    assert type(error) is AirflowSensorTimeout
    assert time.time() - began < 20


@every_mode
def test_it_comes_no_sooner_than_the_service_asked(taskdl_emulator: Emulator, mode: Mode) -> None:
    task_id = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("eo.status", Status(503, retry_after="1"), times=1)
    assert outcome(lambda: run(_sensor(mode, "eo", task_id), make_context()))[0] == "success"
    first, second = taskdl_emulator.seen("eo.*")[:2]
    assert second.time - first.time >= 1.0


def _fails(emulator: Emulator, delay: float) -> str:
    return _task(emulator, "eo", ends="failed", ready_after=delay)


def _is_down(emulator: Emulator, delay: float) -> str:
    emulator.fault("eo.*", Status(503), after=2 if delay else 0)
    return _task(emulator, "eo", ready_after=60)


def _never_ends(emulator: Emulator, delay: float) -> str:
    return _task(emulator, "eo", ready_after=60)


@every_mode
@pytest.mark.parametrize("delay", [0.0, 0.1], ids=["first look", "later look"])
@pytest.mark.parametrize(
    ("flag", "script", "expected"),
    [
        ("soft_fail", _fails, ("skipped", "NoneType")),
        ("soft_fail", _is_down, ("retry", "ServiceUnavailableError")),
        ("soft_fail", _never_ends, ("skipped", "NoneType")),
        ("never_fail", _fails, ("skipped", "NoneType")),
        ("never_fail", _is_down, ("skipped", "NoneType")),
        ("never_fail", _never_ends, ("skipped", "NoneType")),
        ("silent_fail", _fails, ("failed", "TaskFailedError")),
        ("silent_fail", _is_down, ("retry", "AirflowSensorTimeout")),
        ("silent_fail", _never_ends, ("retry", "AirflowSensorTimeout")),
    ],
)
def test_airflows_flags_mean_the_same_in_every_mode(
    taskdl_emulator: Emulator, mode: Mode, delay: float, flag: str, script: Callable[[Emulator, float], str],
    expected: tuple[str, str],
) -> None:  # fmt: skip
    ends_by_itself = script is _fails or (script is _is_down and flag != "silent_fail")
    settings = {flag: True, "max_consecutive_errors": 1, "timeout": 20.0 if ends_by_itself else 0.5}
    sensor = _sensor(mode, "eo", script(taskdl_emulator, delay), **settings)
    kind, error = outcome(lambda: run(sensor, make_context()))
    assert (kind, type(error).__name__) == expected


@every_mode
def test_silent_fail_outlasts_any_row_of_errors(taskdl_emulator: Emulator, mode: Mode) -> None:
    task_id = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("eo.*", Status(503), times=4)
    sensor = _sensor(mode, "eo", task_id, silent_fail=True, max_consecutive_errors=0)
    assert outcome(lambda: run(sensor, make_context())) == ("success", _summary("eo", task_id))


@every_mode
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"remote_task_id": "{{ not rendered }}"}, "not a task id"),
        ({"remote_task_id": ""}, "not a task id"),
        ({"not_found": "ignore"}, "'fail' or 'wait'"),
        ({"conn_id": "other"}, "'http'"),
    ],
)
def test_a_parameter_that_is_wrong_fails_before_anything_is_asked(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, mode: Mode, settings: dict[str, Any], says: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http", "host": "h"}))
    kind, cause = outcome(lambda: run(_sensor(mode, "eo", **{"task_id": "1", **_task_id(settings)}), make_context()))
    assert (kind, type(cause).__name__) == ("failed", "ConnectionConfigError")
    assert says in str(cause)
    assert taskdl_emulator.count() == 0


def _task_id(settings: dict[str, Any]) -> dict[str, Any]:
    return {"task_id" if name == "remote_task_id" else name: value for name, value in settings.items()}


@every_mode
def test_the_client_is_closed_however_the_wait_ends(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    opened, closed = [], []
    run_call, close = TaskApiHook.run, TaskApiHook.close

    def spy_run(hook: TaskApiHook, call: Any) -> Any:
        opened.append(hook)
        return run_call(hook, call)

    def spy_close(hook: TaskApiHook) -> None:
        close(hook)
        closed.append(hook)

    monkeypatch.setattr(TaskApiHook, "run", spy_run)
    monkeypatch.setattr(TaskApiHook, "close", spy_close)
    for course in ({"ready_after": 0.1}, {"ends": "failed"}):
        sensor = _sensor(mode, "eo", _task(taskdl_emulator, "eo", **course))
        outcome(partial(run, sensor, make_context()))
    assert opened
    assert set(map(id, opened)) == set(map(id, closed))


def test_a_number_is_a_task_id_too(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"b.tif": b"123", "a.pdf": b""}, id=12345, ready_after=0.1)
    for mode in MODES:
        sensor = _sensor(mode, "eo", 12345)  # type: ignore[arg-type]
        assert outcome(partial(run, sensor, make_context())) == ("success", _summary("eo", task.id))


@pytest.mark.parametrize("flags", [{}, {"soft_fail": True}])
def test_airflows_own_end_of_a_deferral_is_a_time_out(flags: dict[str, bool]) -> None:
    sensor = _sensor("deferrable", "eo", "7", **flags)
    kind, error = outcome(lambda: sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, make_context()))
    assert (kind, type(error)) == (("skipped", type(None)) if flags else ("retry", AirflowSensorTimeout))


def test_what_goes_to_the_triggerer_holds_deadline_and_settings(taskdl_emulator: Emulator) -> None:
    task_id = _task(taskdl_emulator, "eo", ready_after=60)
    sensor = _sensor("deferrable", "eo", task_id, timeout=500, not_found="wait", max_consecutive_errors=3)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(make_context())
    _, kwargs = deferred.value.trigger.serialize()
    assert kwargs.pop("deadline") == pytest.approx(time.time() + 500, abs=5)
    assert kwargs == {
        "conn_id": "eo_analysis_default", "remote_task_id": task_id, "poll_interval": 0.01, "not_found": "wait",
        "max_consecutive_errors": 3, "errors": 0, "first_wait": 0.01, "grace": 0.0,
    }  # fmt: skip
    # Airflow's own limit comes later, or it would hide the trigger's event.
    assert deferred.value.timeout is not None
    assert 500 < deferred.value.timeout.total_seconds() < 800


def test_errors_before_the_deferral_count(taskdl_emulator: Emulator) -> None:
    task_id = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("eo.*", Status(503))
    with pytest.raises(TaskDeferred) as deferred:
        _sensor("deferrable", "eo", task_id).execute(make_context())
    assert deferred.value.trigger.serialize()[1]["errors"] == 1


def test_a_reschedule_without_a_state_store_still_waits(taskdl_emulator: Emulator) -> None:
    task_id = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("eo.link", Status(503), times=4)
    context = make_context()
    del context["task_state_store"]
    sensor = _sensor("reschedule", "eo", task_id, max_consecutive_errors=2)
    assert outcome(lambda: run(sensor, context)) == ("success", _summary("eo", task_id))


def test_the_row_of_errors_is_counted_anew_for_each_try(taskdl_emulator: Emulator) -> None:
    task_id = _task(taskdl_emulator, "eo")
    taskdl_emulator.fault("eo.link", Status(503))
    context = make_context()
    sensor = _sensor("reschedule", "eo", task_id, max_consecutive_errors=2)
    for number in (1, 2):
        context["ti"].try_number = number
        assert outcome(lambda: run(sensor, context))[0] == "retry"
        assert taskdl_emulator.count("eo.link") == 3 * number
