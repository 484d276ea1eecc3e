"""The log is told of each kind of trouble once an hour, whatever a service makes of its codes."""

from __future__ import annotations

import asyncio
import logging

import pytest

from airflow_provider_taskdl.exceptions import AuthenticationError, ServiceUnavailableError, TaskApiError
from airflow_provider_taskdl.triggers.trouble import Told, kind_of
from tests.virtual_time import VirtualLoop, run_virtually


def test_each_kind_is_told_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> list[tuple[bool, bool]]:
        told, outcomes = Told("c"), []
        for _ in range(5):
            outcomes.append((told.say(logging.ERROR, "a", "it is broken", 5.0), told.say(logging.ERROR, "b", "b", 5.0)))
            await asyncio.sleep(1800.0)
        return outcomes

    assert run_virtually(main) == [(True, True), (False, False)] * 2 + [(True, True)]
    assert caplog.messages[0] == "Watching connection c: it is broken; going on in 5 s"


def test_a_service_with_ever_other_codes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: VirtualLoop) -> None:
        told = Told("c")
        for number in range(1440):
            told.say(logging.WARNING, str(number), "refused", 60.0)
            await asyncio.sleep(60.0)

    run_virtually(main)
    assert 24 <= len(caplog.messages) <= 24 * 20


def test_errors_are_of_one_kind_by_class_and_code_alone() -> None:
    def kind(error: type[TaskApiError], code: str, task: str) -> str:
        return kind_of(error(f"about {task}", code=code, remote_task_id=task, request_id=task))

    first = kind(ServiceUnavailableError, "HTTP 503", "1")
    assert first == kind(ServiceUnavailableError, "HTTP 503", "2")
    assert first != kind(ServiceUnavailableError, "HTTP 500", "1")
    assert first != kind(AuthenticationError, "HTTP 503", "1")
