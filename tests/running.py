"""Runs operators as Airflow does, without its database: one try, over reschedules and deferrals."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal
from unittest.mock import patch

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from tests.airflow_versions import AIRFLOW, AirflowRescheduleException

Mode = Literal["poke", "reschedule", "deferrable"]
MODES: tuple[Mode, ...] = ("poke", "reschedule", "deferrable")


class StateStore(dict[str, Any]):
    """``task_state_store``, as far as it is used."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class OutletEvents:
    """``outlet_events[alias]``: what was added."""

    added: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        self.added.append((asset, extra))


class AllOutletEvents(dict[str, OutletEvents]):
    """``outlet_events``: by alias, which not every Airflow can hash."""

    def __getitem__(self, alias: Any) -> OutletEvents:
        return self.setdefault(alias.name, OutletEvents())


class FakeTaskInstance:
    """A task instance: its XComs and when it was first rescheduled."""

    try_number = 1
    dag_id, run_id, task_id, map_index = "a_dag", "scheduled__2025-11-01T00:00:00+00:00", "a_task", -1
    max_tries = 0  # Airflow 2 asks for it

    def __init__(self) -> None:
        self.xcom: dict[str, Any] = {}
        self.first_look: datetime | None = None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_look


def make_context(**more: Any) -> Any:
    """Return a context with a task instance and a state store."""
    return {"ti": FakeTaskInstance(), "task_state_store": StateStore(), **more}


def a_try(number: int = 1, store: StateStore | None = None, **facts: Any) -> Any:
    """Return the context of a try; without a store, of an Airflow that has none.

    :param number: Which try.
    :param store: What earlier tries have kept.
    :param facts: Attributes of the task instance.
    """
    context = make_context(task_state_store=store)
    if store is None:
        del context["task_state_store"]
    for name, value in {"try_number": number, **facts}.items():
        setattr(context["ti"], name, value)
    return context


def run(operator: Any, context: Any) -> Any:
    """Run an operator until it ends: reschedules are waited for, its triggers run from what the database would hold."""
    ti, method, kwargs = context["ti"], None, {}
    for _ in range(200):
        began = datetime.now(timezone.utc)
        fresh = copy.copy(operator)  # each time may be in another process
        try:
            with reschedules_of(ti):
                if method is None:
                    return fresh.execute(context)
                return fresh.resume_execution(method, kwargs, context)
        except AirflowRescheduleException as again:
            ti.first_look = ti.first_look or began
            time.sleep(max(0.0, (again.reschedule_date - datetime.now(timezone.utc)).total_seconds()))
        except TaskDeferred as deferred:
            method, kwargs = deferred.method_name, {"event": run_trigger(deferred)}
    raise AssertionError("the operator does not end")


@contextmanager
def reschedules_of(ti: FakeTaskInstance) -> Iterator[None]:
    """Let Airflow 2, which looks them up in its database, find a task instance's reschedules."""
    if AIRFLOW >= (3, 0):
        yield
    else:
        with patch("airflow.sensors.base._orig_start_date", lambda **_: ti.first_look):
            yield


def run_trigger(deferred: TaskDeferred) -> Any:
    """Return the event of a deferred task's trigger."""
    path, kwargs = deferred.trigger.serialize()
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(asyncio.wait_for(events(), 60))
    return json.loads(json.dumps(event))


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """Return what Airflow makes of a run: ``success`` with the result, ``skipped``, ``failed`` for good, or ``retry``.

    The second part is the cause for ``failed`` and the error for ``retry``.
    """
    try:
        return "success", call()
    except AirflowSkipException:
        return "skipped", None
    except AirflowFailException as error:
        return "failed", error.__cause__
    except Exception as error:  # noqa: BLE001 - whatever it is, the test says what it must be
        return "retry", error


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
