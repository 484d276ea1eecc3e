"""A task may outlast the credentials that it began with: a long wait, or a download of hours with renewed links."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_taskdl.exceptions import AuthenticationError
from airflow_provider_taskdl.hooks.base import TaskApiHook, task_hook
from tests.hooks.wire import transport

OLD = {"conn_type": "eo_analysis", "host": "https://eo.example/svc", "password": "old-token"}
NEW = {**OLD, "password": "new-token", "host": "https://other.example/svc"}


class Service:
    """Takes one token at a time, and keeps what it was asked."""

    def __init__(self) -> None:
        self.token = "old-token"
        self.asked: list[tuple[str, str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.asked.append((request.url.host, token))
        if token != self.token:
            return httpx.Response(401, json={"code": 401, "message": f"no such token: {token}"})
        return httpx.Response(200, json={"code": 200, "data": None})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service, settings = Service(), TaskApiHook._client_settings

    def mocked(hook: TaskApiHook) -> dict[str, Any]:
        return {**settings(hook), "transport": transport(service.answer)}

    monkeypatch.setattr(TaskApiHook, "_client_settings", mocked)
    return service


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    return lambda connection: monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps(connection))


@pytest.fixture
def hook(service: Service, store: Callable[[dict[str, str]], None]) -> Iterator[TaskApiHook]:
    """A hook that began with the old credentials."""
    store(OLD)
    hook = task_hook("service")
    yield hook
    hook.close()


def test_a_call_that_is_refused_is_sent_again_with_what_the_connection_says_now(
    service: Service, hook: TaskApiHook, store: Callable[[dict[str, str]], None]
) -> None:
    hook.list_files("1")
    store(NEW)
    hook.list_files("1")  # nothing is asked of Airflow while the credentials are good
    service.token = "new-token"
    for _ in range(2):
        assert not hook.list_files("1").is_ready
    old, new = ("eo.example", "old-token"), ("other.example", "new-token")
    assert service.asked == [old, old, old, new, new]


def test_a_call_that_is_refused_is_not_repeated_while_the_connection_is_the_same(
    service: Service, hook: TaskApiHook
) -> None:
    service.token = "new-token"
    with pytest.raises(AuthenticationError, match="no such token") as caught:
        hook.list_files("1")
    assert len(service.asked) == 1
    assert "old-token" not in str(caught.value)


def test_a_call_that_is_refused_with_the_new_credentials_too_fails(
    service: Service, hook: TaskApiHook, store: Callable[[dict[str, str]], None]
) -> None:
    hook.list_files("1")
    store(NEW)
    service.token = "yet another"
    with pytest.raises(AuthenticationError) as caught:
        hook.list_files("1")
    assert [token for _, token in service.asked] == ["old-token", "old-token", "new-token"]
    assert "-token" not in str(caught.value)


def test_a_connection_that_is_another_at_each_reading_makes_one_more_request(
    service: Service, hook: TaskApiHook
) -> None:
    read = BaseHook.get_connection
    hook.list_files("1")
    service.token = "none of them"
    readings = 0

    def leased(conn_id: str) -> Any:
        nonlocal readings
        readings += 1
        connection = read(conn_id)
        connection.password = f"lease-{readings}"
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseHook, "get_connection", staticmethod(leased))
        with pytest.raises(AuthenticationError):
            hook.list_files("1")
    assert [token for _, token in service.asked] == ["old-token", "old-token", "lease-1"]


def test_a_hook_that_was_used_both_ways_sends_no_old_credentials_to_a_new_address(
    service: Service, hook: TaskApiHook, store: Callable[[dict[str, str]], None]
) -> None:

    async def main() -> None:
        await hook.alist_files("1")
        store(NEW)
        service.token = "new-token"
        with pytest.raises(AuthenticationError):
            hook.list_files("1")
        with pytest.raises(AuthenticationError):
            await hook.alist_files("1")
        await hook.aclose()

    asyncio.run(main())
    assert set(service.asked) == {("eo.example", "old-token")}


def test_a_connection_that_cannot_be_read_again_leaves_the_refusal_as_it_was(
    service: Service, hook: TaskApiHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.list_files("1")
    service.token = "new-token"

    def away(conn_id: str) -> Any:
        raise RuntimeError("https://vault.example/?token=geheim")

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(away))
    with pytest.raises(AuthenticationError) as caught:
        hook.list_files("1")
    assert caught.value.__context__ is None
