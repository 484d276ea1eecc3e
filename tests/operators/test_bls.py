from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.operators.bls import BlsCreateDownloadTaskOperator, BlsDeleteDownloadTaskOperator
from airflow_provider_taskdl.testing import Body, Cut, Emulator, EmulatorServer, Fault, Lose, Status, Task
from tests.running import StateStore, a_try, make_context, outcome

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

WINDOW = {"query_start_time": "2025-11-01T00:00:00Z", "query_end_time": "2025-11-01T01:00:00Z"}


def _create(**settings: Any) -> BlsCreateDownloadTaskOperator:
    return BlsCreateDownloadTaskOperator(task_id="create", **{"log_store_name": "access-log", **WINDOW, **settings})


def _tasks(emulator: Emulator) -> list[Task]:
    return [task for (service, _), task in emulator.tasks.items() if service == "bls"]


@pytest.fixture(params=["state store", "no state store"])
def store(request: pytest.FixtureRequest) -> StateStore | None:
    return StateStore() if request.param == "state store" else None


def test_all_that_the_service_knows_can_be_asked_for(taskdl_emulator: Emulator) -> None:
    settings = {
        "name": "nightly", "project": "p", "log_stream_name": "s", "query": "match error", "format": "csv",
        "limit": "500", "order": "asc", "file_dir": "bucket/dir/",
    }  # fmt: skip
    uuid = _create(**settings).execute(a_try())
    (task,) = _tasks(taskdl_emulator)
    asked = {**task.request}
    assert asked.pop("name").startswith("nightly-")
    assert asked.pop("writtenRows") > 0  # of the emulator's making
    assert asked == {
        "logStoreName": "access-log", "project": "p", "logStreamName": "s", "query": "match error", "format": "csv",
        "queryStartTime": "2025-11-01T00:00:00Z", "queryEndTime": "2025-11-01T01:00:00Z", "limit": 500, "order": "asc",
        "fileDir": "bucket/dir/",
    }  # fmt: skip
    assert uuid == task.id
    assert taskdl_emulator.count() == 1


def test_the_window_is_the_runs_data_interval(taskdl_emulator: Emulator) -> None:
    operator = BlsCreateDownloadTaskOperator(task_id="create", log_store_name="access-log")
    start, end = (datetime(2025, 11, 1, hour, tzinfo=timezone.utc) for hour in (8, 9))
    context: Any = {"data_interval_start": start, "data_interval_end": end}
    operator.render_template_fields(context)
    operator.execute(a_try())
    (task,) = _tasks(taskdl_emulator)
    assert [task.request[name] for name in ("queryStartTime", "queryEndTime")] == [
        "2025-11-01T08:00:00Z", "2025-11-01T09:00:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize("gone", [{}, {"data_interval_start": None, "data_interval_end": None}], ids=["none", "empty"])
def test_a_run_without_a_data_interval_is_told_what_it_needs(taskdl_emulator: Emulator, gone: Any) -> None:
    with DAG("strict", template_undefined=jinja2.StrictUndefined):
        operator = BlsCreateDownloadTaskOperator(task_id="create", log_store_name="access-log")
    operator.render_template_fields(gone)
    kind, cause = outcome(lambda: operator.execute(a_try()))
    assert kind == "failed"
    with pytest.raises(ConnectionConfigError, match="a run without a data interval needs query_start_time"):
        raise cause
    assert taskdl_emulator.count() == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Status(400, message="no such log store"), "TaskApiError"), (Status(403), "AuthenticationError")],
)
def test_what_no_retry_can_mend_fails_for_good(taskdl_emulator: Emulator, fault: Fault, error: str) -> None:
    taskdl_emulator.fault("bls.create", fault)
    kind, cause = outcome(lambda: _create().execute(a_try()))
    assert (kind, type(cause).__name__) == ("failed", error)
    assert taskdl_emulator.count() == 1


LOST = [
    pytest.param(Lose(), id="connection closed"),
    pytest.param(Lose(reset=True), id="connection reset"),
    pytest.param(Lose(500), id="500"),
    pytest.param(Lose(502), id="502"),
    pytest.param(Lose(504), id="504"),
    pytest.param(Cut(sent=10), id="answer cut"),
]


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_answer_is_found_again_in_the_samea_try(
    taskdl_emulator: Emulator, store: StateStore | None, fault: Fault
) -> None:
    lost = taskdl_emulator.fault("bls.create", fault)
    uuid = _create().execute(a_try(store=store))
    assert [task.id for task in _tasks(taskdl_emulator)] == [uuid]
    assert (lost.fired, taskdl_emulator.count("bls.create")) == (1, 1)


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_answer_is_found_by_the_nexta_try(
    taskdl_emulator: Emulator, store: StateStore | None, fault: Fault
) -> None:
    taskdl_emulator.fault("bls.create", fault)
    taskdl_emulator.fault("bls.list", Status(503), times=1)  # nor can it be looked for at once
    assert outcome(lambda: _create().execute(a_try(1, store)))[0] == "retry"
    uuid = _create().execute(a_try(2, store))
    assert [task.id for task in _tasks(taskdl_emulator)] == [uuid]
    assert taskdl_emulator.count("bls.create") == 1


def test_an_answer_that_takes_too_long_is_a_lost_one(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_BAIDU_BLS_DEFAULT"])
    connection["extra"] = {**connection["extra"], "timeout": 1}
    monkeypatch.setenv("AIRFLOW_CONN_BAIDU_BLS_DEFAULT", json.dumps(connection))
    taskdl_emulator.fault("bls.create stall 30")
    uuid = _create().execute(a_try())
    assert [task.id for task in _tasks(taskdl_emulator)] == [uuid]
    assert taskdl_emulator.count("bls.create") == 1


@pytest.mark.parametrize("fault", [Status(503), Body(), Status(429)])
def test_a_request_that_never_arrived_is_made_by_the_nexta_try(
    taskdl_emulator: Emulator, store: StateStore | None, fault: Fault
) -> None:
    taskdl_emulator.fault("bls.create", fault, times=1)
    assert outcome(lambda: _create().execute(a_try(1, store)))[0] == "retry"
    assert _tasks(taskdl_emulator) == []
    uuid = _create().execute(a_try(2, store))
    assert [task.id for task in _tasks(taskdl_emulator)] == [uuid]


def test_an_earlier_trys_task_is_found_on_any_page(taskdl_emulator: Emulator) -> None:
    uuid = _create().execute(a_try(1))
    ours = taskdl_emulator.find("bls", uuid)
    assert ours is not None
    ours.created -= 1000  # older than all others
    for number in range(250):
        taskdl_emulator.bls_task(request={"name": f"another {number}"})
    assert _create().execute(a_try(2)) == uuid
    assert taskdl_emulator.count("bls.list") == 3
    assert taskdl_emulator.count("bls.create") == 1


def test_of_several_the_newest_that_is_of_use_is_taken(taskdl_emulator: Emulator) -> None:
    first = _create().execute(a_try(1))
    task = taskdl_emulator.find("bls", first)
    assert task is not None
    for age, state in ((900, "success"), (800, "running"), (700, "failed"), (600, "expired")):
        more = taskdl_emulator.bls_task(request=task.request, ends=state, ready_after=0)  # type: ignore[arg-type]
        more.created = task.created - age
        if state == "running":
            more.ends, wanted = "success", more.id
            more.ready_after = 1e6
    taskdl_emulator.remove(task)
    assert _create().execute(a_try(2)) == wanted


def test_what_is_listed_under_no_id_is_not_taken(taskdl_emulator: Emulator) -> None:
    first = _create().execute(a_try(1))
    task = taskdl_emulator.find("bls", first)
    assert task is not None
    newer = taskdl_emulator.bls_task(request=task.request, id="1\nERROR forged")
    newer.created = task.created + 10
    assert _create().execute(a_try(2)) == first


@pytest.mark.parametrize("end", ["failed", "expired", "deleted"])
def test_what_is_of_no_use_is_made_anew(taskdl_emulator: Emulator, store: StateStore | None, end: Any) -> None:
    first = _create().execute(a_try(1, store))
    task = taskdl_emulator.find("bls", first)
    assert task is not None
    if end == "deleted":
        taskdl_emulator.remove(task)
    else:
        task.finish(end)
    second = _create().execute(a_try(2, store))
    assert second != first
    assert taskdl_emulator.count("bls.create") == 2
    assert _create().execute(a_try(3, store)) == second


def test_what_is_remembered_needs_no_search(taskdl_emulator: Emulator) -> None:
    store = StateStore()
    uuid = _create().execute(a_try(1, store))
    assert _create().execute(a_try(2, store)) == uuid
    assert (taskdl_emulator.count("bls.list"), taskdl_emulator.count("bls.create")) == (0, 1)


def test_what_was_made_at_another_service_is_not_remembered(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, elsewhere = StateStore(), Emulator()
    _create().execute(a_try(1, store))
    with EmulatorServer(elsewhere) as server:
        elsewhere.fault("bls.status", Status(403))  # then what is remembered is believed
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        second = _create().execute(a_try(2, store))
        assert [task.id for task in _tasks(elsewhere)] == [second]
        assert _create().execute(a_try(3, store)) == second
        assert elsewhere.count("bls.create") == 1


@pytest.mark.parametrize("fault", [Status(403), Status(503), Status(501), Body()])
def test_what_is_remembered_is_believed_where_its_state_is_not_told(taskdl_emulator: Emulator, fault: Fault) -> None:
    store = StateStore()
    made = _create().execute(a_try(1, store))
    taskdl_emulator.fault("bls.status", fault)
    assert _create().execute(a_try(2, store)) == made
    assert taskdl_emulator.count("bls.create") == 1


def test_what_is_remembered_is_not_made_again_while_the_service_is_down(taskdl_emulator: Emulator) -> None:
    store = StateStore()
    _create().execute(a_try(1, store))
    for place in ("bls.status", "bls.list"):
        taskdl_emulator.fault(place, Status(503))
    assert outcome(lambda: _create().execute(a_try(2, store)))[0] == "retry"
    assert taskdl_emulator.count("bls.create") == 1


@pytest.mark.parametrize(
    "facts", [{"dag_id": "another"}, {"run_id": "another"}, {"task_id": "another"}, {"map_index": 3}]
)
def test_no_task_instance_takes_anothers(
    taskdl_emulator: Emulator, store: StateStore | None, facts: dict[str, Any]
) -> None:
    first = _create().execute(a_try(1, store))
    assert _create().execute(a_try(2, store, **facts)) != first
    assert len(_tasks(taskdl_emulator)) == 2


def test_other_parameters_are_another_task(taskdl_emulator: Emulator, store: StateStore | None) -> None:
    first = _create().execute(a_try(1, store))
    assert _create(query="match error").execute(a_try(2, store)) != first
    # But not the same moment in other words.
    assert _create(query_start_time="2025-11-01T01:00:00+01:00").execute(a_try(2)) == first


def test_a_deleted_task_is_gone_and_twice_is_no_error(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.bls_task()
    for _ in range(2):
        BlsDeleteDownloadTaskOperator(task_id="delete", remote_task_id=task.id).execute(make_context())
    assert _tasks(taskdl_emulator) == []


@pytest.mark.parametrize("fault", LOST)
def test_a_deletion_whose_answer_was_lost_succeeds_at_the_nexta_try(taskdl_emulator: Emulator, fault: Fault) -> None:
    task = taskdl_emulator.bls_task()
    taskdl_emulator.fault("bls.delete", fault, times=1)
    delete = BlsDeleteDownloadTaskOperator(task_id="delete", remote_task_id=task.id)
    assert outcome(lambda: delete.execute(make_context()))[0] == "retry"
    assert outcome(lambda: delete.execute(make_context()))[0] == "success"


@pytest.mark.parametrize(
    ("task_id", "fault", "expected"),
    [
        ("{{ unset }}", None, ("failed", "ConnectionConfigError")),
        ("00000000-1111-2222-3333-444444444444", Status(403), ("failed", "AuthenticationError")),
        ("00000000-1111-2222-3333-444444444444", Status(503), ("retry", "ServiceUnavailableError")),
    ],
)
def test_a_deletion_that_is_refused_says_so(
    taskdl_emulator: Emulator, task_id: str, fault: Fault | None, expected: tuple[str, str]
) -> None:
    if fault is not None:
        taskdl_emulator.fault("bls.delete", fault)
    delete = BlsDeleteDownloadTaskOperator(task_id="delete", remote_task_id=task_id)
    kind, error = outcome(lambda: delete.execute(make_context()))
    assert (kind, type(error).__name__) == expected
