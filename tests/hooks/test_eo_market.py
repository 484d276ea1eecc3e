from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.hooks.base import TaskApiHook, task_hook
from airflow_provider_taskdl.hooks.eo_market import EoMarketHook
from airflow_provider_taskdl.listing import TaskState
from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.hooks.twins import list_async, list_sync

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]
FILES = {"scene 1.tif": b"123", "測試.tif": b"4"}


@pytest.fixture(params=[{}, {"eo_prefix": "/market_service", "mirror_codes": True}], ids=["bare", "prefixed"])
def taskdl_emulator_options(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def hook(taskdl_server: EmulatorServer) -> Iterator[EoMarketHook]:
    with closing(EoMarketHook()) as hook:
        yield hook


@pytest.fixture(params=[list_sync, list_async], ids=["sync", "async"])
def lists(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_both_twins_get_a_link_to_each_file(taskdl_emulator: Emulator, lists: Any) -> None:
    order = taskdl_emulator.market_order(FILES, id="O-1")
    hook = task_hook("eo_market_default")
    assert type(hook) is EoMarketHook
    listing = lists(hook, "O-1")
    assert listing.is_ready
    numbers = [file.path.rpartition("/")[2] for file in order.files]
    assert listing.summary() == {
        "remote_task_id": "O-1", "file_names": numbers, "file_count": 2, "total_size": None,
    }  # fmt: skip
    for file, content in zip(listing.files, FILES.values(), strict=True):
        assert (file.link.expires_at, file.size, file.is_named_by_host) == (None, None, True)
        assert httpx.get(file.link.reveal()).content == content
    assert [file.name for file in lists(EoMarketHook(), "O-1").files] == numbers, "a new listing, the same names"


@pytest.mark.parametrize(
    "course", [{}, {"unready": "null"}, {"unready": "link"}, {"queued_for": 60}, {"queued_for": 60, "unready": "link"}]
)
def test_an_order_that_is_under_way_is_not_ready(
    taskdl_emulator: Emulator, hook: EoMarketHook, lists: Any, course: Any
) -> None:
    order = taskdl_emulator.market_order(FILES, ready_after=60, **course)
    assert not lists(EoMarketHook(), order.id).is_ready
    state = hook.get_state(order.id)
    assert state is {"null": TaskState.UNKNOWN}.get(
        order.unready, TaskState.WAITING if order.queued_for else TaskState.RUNNING
    )


def test_a_failed_acquisition_is_a_failed_task(taskdl_emulator: Emulator, hook: EoMarketHook, lists: Any) -> None:
    order = taskdl_emulator.market_order(FILES, ends="failed")
    with pytest.raises(TaskFailedError):
        lists(EoMarketHook(), order.id)
    assert hook.get_state(order.id) is TaskState.FAILED


def test_an_order_that_is_not_known_is_not_found(taskdl_emulator: Emulator, lists: Any) -> None:
    with pytest.raises(TaskNotFoundError, match="Order not found"):
        lists(EoMarketHook(), "O-404")
    assert [seen.names for seen in taskdl_emulator.seen("market.link")] == [("O-404",)]


def test_the_key_is_proved_and_nothing_else_is_sent(taskdl_emulator: Emulator, hook: EoMarketHook, lists: Any) -> None:
    assert hook.test_connection()[0]
    (seen,) = taskdl_emulator.seen()
    assert (seen.method, seen.headers["x-api-key"]) == ("POST", taskdl_emulator.token)
    assert "authorization" not in seen.headers
    taskdl_emulator.token = "another"
    worked, said = hook.test_connection()
    assert not worked
    assert "refused the credentials" in said
    with pytest.raises(AuthenticationError):
        lists(EoMarketHook(), "O-1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": None}, "is empty"),
        ({"password": "the\r\nGeheim"}, "no header field may hold"),
        ({"host": None}, "needs a host"),
        ({"extra": {"header_name": "the Geheim"}}, "header_name"),
        ({"extra": {"header_prefix": "the\r\nGeheim"}}, "header_prefix"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    facts = {"conn_type": "eo_market", "host": "eo.example", "password": "the-Geheim", **changes}
    monkeypatch.setenv("AIRFLOW_CONN_EO_MARKET_DEFAULT", json.dumps(facts))
    hook: TaskApiHook = EoMarketHook()
    with pytest.raises(ConnectionConfigError, match=f"connection 'eo_market_default': .*{said}") as caught:
        hook.list_files("1")
    assert "eheim" not in str(caught.value)
