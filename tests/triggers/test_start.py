"""What the scheduler makes a trigger from, without a worker; see ``tests/deployment`` for it at work."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, dag, task, task_group

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor
from airflow_provider_taskdl.testing import Emulator
from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger
from airflow_provider_taskdl.triggers.events import read_event
from tests.airflow_versions import since
from tests.triggers.starting import START, both, operator, sensor

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

pytestmark = since(3, 3, "no trigger starts a task rightly")


@both
def test_it_makes_the_trigger_that_a_worker_would(make: Any) -> None:
    args = make(not_found="wait", max_consecutive_errors=3).start_trigger_args
    assert args.trigger_cls == f"{DownloadLinkTrigger.__module__}.DownloadLinkTrigger"
    assert args.timeout == timedelta(seconds=720)
    kwargs = json.loads(json.dumps(args.trigger_kwargs))
    assert DownloadLinkTrigger(**kwargs).serialize()[1] == {
        "conn_id": "eo_analysis_default", "remote_task_id": "{{ params.id }}", "deadline": None, "grace": 120.0,
        "poll_interval": 60.0, "not_found": "wait", "max_consecutive_errors": 3, "errors": 0, "first_wait": 5.0,
    }  # fmt: skip
    assert callable(getattr(make(), args.next_method))


@both
@pytest.mark.parametrize("settings", [{"start_from_trigger": False}, {"deferrable": False}])
def test_it_is_asked_for(make: Any, settings: dict[str, Any]) -> None:
    assert make(**settings).start_trigger_args is None


def test_an_operator_that_does_not_wait_begins_in_a_worker() -> None:
    assert operator(wait_for_link=False).start_trigger_args is None


@both
def test_every_template_of_the_wait_is_rendered_in_the_triggerer(make: Any) -> None:
    waiting = make()
    names = set(waiting.start_trigger_args.trigger_kwargs)
    assert {"conn_id", "remote_task_id", "not_found"} == names & set(waiting.template_fields)


@both
@pytest.mark.parametrize(
    ("template", "is_rendered"),
    [
        ("{{ ti.xcom_pull(task_ids='create', map_indexes=-1) }}", True),
        ("{{ ti.xcom_pull(task_ids='create') }}", False),
        ("{{ ti.xcom_pull(\n'create') }}", False),
        ("{{ ti.xcom_pull(task_ids='a') or ti.xcom_pull(task_ids='b', map_indexes=-1) }}", False),
        ("{{ ti.xcom_pull(task_ids='a', map_indexes=-1) or ti.xcom_pull(task_ids='b', map_indexes=0) }}", True),
        ("{% set pull = ti.xcom_pull %}{{ pull('a') }}", False),
        ("{{ prev_start_date_success }}", False),
        ("{{ ti.get_previous_dagrun().run_id }}", False),
        ("{{ ti.get_task_breadcrumbs(dag.dag_id, run_id) }}", False),
        ("{{ ti.get_first_reschedule_date({}) }}", False),
        ("{{ task_state_store.get('id') }}", False),
        ("{{ inlet_events['x'][0].extra.id }}", False),
        ("{{ outlet_events[ref].extra }}", False),
        ("{{ ti.get_previous_ti().run_id }}", False),
        ("{{ ti.get_dag('other').dag_id }}", False),
        ("{{ (triggering_asset_events.values() | first | first).extra.payload.remote_task_id }}", False),
        ("{{ triggering_asset_events | length or '7' }}", False),
        ("{{ ti.start_date }}", False),
        ("{{ task_instance['max_tries'] }}", False),
        ("{% set run = dag_run %}{{ run.note }}", False),
        ("poll-{{ task.poke_interval }}", False),
        ("{{ task['retries'] }}", False),
        ("{{ task_reschedule_count }}{{ params.task_id }}", True),
        ("{{ dag_run.conf.id }}-{{ dag_run.start_date }}-{{ dag_run.run_type }}-{{ ti.try_number }}", True),
        ("{{ ti.get_dagrun_state(dag.dag_id, run_id) }}-{{ ti.get_ti_count(dag.dag_id) }}", True),
        ("{{ var.value.uuid }}", True),
        (12345, True),
    ],
)
def test_a_template_that_the_triggerer_has_no_answer_to_is_left_to_a_worker(
    make: Any, template: Any, is_rendered: bool
) -> None:
    assert (make(template).start_trigger_args is not None) is is_rendered
    if isinstance(template, str):
        assert (make("7", conn_id=template).start_trigger_args is not None) is is_rendered
        assert (make("7", not_found=template).start_trigger_args is not None) is is_rendered


def test_what_the_triggerer_is_not_told_of_a_run_is_left_to_a_worker() -> None:
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun as InAWorker
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import DagRunState

    run = DagRun("d", "asset_triggered__1", run_type="asset_triggered", run_after=_now(), start_date=_now(), conf={})
    run.state = DagRunState.RUNNING
    told = run.dag_run_data.model_dump(exclude_unset=True)
    assert not told["consumed_asset_events"]
    missing = {*InAWorker.model_fields} - {*told} | {"consumed_asset_events"}
    assert len(missing) > 1
    for name in missing:
        assert sensor(f"{{{{ dag_run.{name} }}}}").start_trigger_args is None, name


def _now() -> datetime:
    return datetime.now(timezone.utc)


@both
@pytest.mark.parametrize(
    "settings",
    [
        {"user_defined_macros": {"newest": lambda: "7"}},
        {"user_defined_filters": {"hours": lambda value: value}},
        {"jinja_environment_kwargs": {"variable_start_string": "<<", "variable_end_string": ">>"}},
    ],
)
def test_templates_that_the_dag_has_something_to_say_in_are_left_to_a_worker(
    make: Any, settings: dict[str, Any]
) -> None:
    number = itertools.count()
    with DAG("own", **settings):
        for text in ("{{ newest() }}", "{{ 7 | hours }}", "<< params.id >>"):
            for name in ("remote_task_id", "conn_id", "not_found"):
                task_id = f"wait_{next(number)}"
                assert make(**{"task_id": task_id, name: text}).start_trigger_args is None
        assert make("cfa6a654-06e9:1.2", task_id="plain").start_trigger_args is not None
        given = make(give(), task_id="given").start_trigger_args.trigger_kwargs["remote_task_id"]
        assert given.startswith("{{ ti.xcom_pull(")


@task
def give() -> str:
    """Return an id."""
    return "7"


@both
def test_a_tasks_output_is_asked_for_by_its_number(make: Any) -> None:
    with DAG("output"):
        waiting = make(give())
    kwargs = waiting.start_trigger_args.trigger_kwargs
    assert kwargs["remote_task_id"] == (
        "{{ ti.xcom_pull(task_ids='give', key='return_value', map_indexes=-1) | default('', true) }}"
    )
    assert waiting.upstream_task_ids == {"give"}


@both
def test_outputs_of_mapped_tasks_are_left_to_a_worker(make: Any) -> None:
    with DAG("mapped"):

        @task_group
        def each(number: int) -> None:
            assert make(give()).start_trigger_args is None

        each.expand(number=[1, 2])


def _written_down(dag: Any) -> Any:
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("wait")


def test_a_mapped_task_begins_in_a_worker_however_it_is_written_down() -> None:
    with DAG("mapped_wait") as dag:
        DownloadLinkSensor.partial(task_id="wait", **START).expand(remote_task_id=["1", "2"])
    stored = _written_down(dag)
    assert stored.start_trigger_args is None


@both
def test_it_outlives_being_written_down(make: Any) -> None:
    with DAG("written") as dag:
        make()
    stored = _written_down(dag)
    assert stored.start_from_trigger is True
    assert stored.start_trigger_args is not None


@both
@pytest.mark.parametrize("execution", [None, 10_000, 720])
def test_the_deadline_is_the_timeout_from_when_the_scheduler_began(make: Any, execution: int | None) -> None:
    limit = None if execution is None else timedelta(seconds=execution)
    args = make(execution_timeout=limit).start_trigger_args
    # As the scheduler has it: the earlier of the two limits, counted from now.
    began = datetime.now(timezone.utc)
    trigger = DownloadLinkTrigger(**args.trigger_kwargs)
    trigger.timeout_after = began + min(filter(None, (args.timeout, limit)))  # type: ignore[attr-defined]
    assert trigger._known_deadline() == pytest.approx(began.timestamp() + 600)


@both
@pytest.mark.parametrize("execution", [719, 100])
def test_a_time_out_for_the_execution_does_not_end_the_wait(make: Any, execution: int) -> None:
    waiting = make(execution_timeout=timedelta(seconds=execution))
    assert (waiting.start_trigger_args, waiting.start_from_trigger) == (None, False)


@both
def test_what_only_a_worker_can_resolve_is_left_to_it(make: Any) -> None:
    seen: list[Any] = []

    @task_group
    def each(number: Any) -> None:
        seen.append(make(number))

    @dag  # type: ignore[arg-type]
    def one(uuid: str = "1") -> None:
        seen.append(make(uuid))

    one()
    with DAG("more"):
        each.expand(number=["1", "2"])
        seen.append(make(lambda context, jinja_env: "7", task_id="by_function"))
        seen.append(make(None, task_id="none"))
    assert [waiting.start_trigger_args for waiting in seen] == [None] * 4
    assert [waiting.start_from_trigger for waiting in seen] == [False] * 4


@both
def test_a_dag_that_lets_templates_be_undefined_is_left_to_a_worker(make: Any) -> None:
    with DAG("lax", template_undefined=jinja2.Undefined):  # type: ignore[arg-type]
        assert make().start_trigger_args is None
        assert make("7", task_id="plain").start_trigger_args is not None


def test_what_is_undefined_is_refused_as_in_a_worker() -> None:
    facts: dict[str, Any] = {"conn_id": "c", "remote_task_id": "7", "deadline": None, "poll_interval": 1.0}
    trigger = DownloadLinkTrigger(**facts)
    with pytest.raises(jinja2.UndefinedError):
        trigger.get_template_env().from_string("region-{{ params.regoin }}-7").render(params={"region": "bj"})


@pytest.mark.parametrize("name", ["remote_task_id", "conn_id", "not_found"])
@pytest.mark.parametrize("text", ["{{ params.id }}", "{% if a %}1{% endif %}"])
def test_a_template_that_nobody_rendered_fails_the_try_alone(name: str, text: str) -> None:
    facts: dict[str, Any] = {"conn_id": "eo_analysis_default", "remote_task_id": "7", "not_found": "fail", name: text}
    trigger = DownloadLinkTrigger(**facts, deadline=None, poll_interval=1.0, grace=120.0)
    trigger.timeout_after = datetime.now(timezone.utc) + timedelta(seconds=600)  # type: ignore[attr-defined]
    (event,) = _events(trigger)
    with pytest.raises(TaskDownloadError, match="the DAG was changed while this task waited") as caught:
        read_event(event)
    assert caught.value.retryable


def _events(trigger: DownloadLinkTrigger) -> list[Any]:
    async def run_it() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(asyncio.wait_for(run_it(), 60))


def test_without_a_deadline_it_ends_before_airflows_limit(taskdl_emulator: Emulator) -> None:
    remote = taskdl_emulator.eo_task({"a.bin": b"abc"}, ready_after=60)
    kwargs: dict[str, Any] = {"conn_id": "eo_analysis_default", "remote_task_id": remote.id, "deadline": None}
    trigger = DownloadLinkTrigger(**kwargs, poll_interval=0.05, grace=120.0)
    began = time.time()
    trigger.timeout_after = datetime.now(timezone.utc) + timedelta(seconds=120.4)  # type: ignore[attr-defined]
    assert [event["status"] for event in _events(trigger)] == ["timeout"]
    assert 0.4 <= time.time() - began < 10


def test_a_wait_without_any_end_is_an_error(taskdl_emulator: Emulator) -> None:
    trigger = DownloadLinkTrigger(conn_id="eo_analysis_default", remote_task_id="7", deadline=None, poll_interval=1)
    (event,) = _events(trigger)
    assert (event["status"], event["error"]["type"]) == ("error", "ConnectionConfigError")
    assert taskdl_emulator.count() == 0
