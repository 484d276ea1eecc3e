from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import httpx
import pytest

from airflow_provider_taskdl.exceptions import ServiceUnavailableError
from airflow_provider_taskdl.hooks import async_clients
from airflow_provider_taskdl.hooks.async_clients import IDLE_SECONDS, MAX_IN_FLIGHT, AsyncClients
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.hooks.eo_market import EoMarketHook
from tests.transfer.hosts import Answer, Host, Visit, whole
from tests.virtual_time import VirtualLoop, run_virtually


class Made:
    """Counts the clients that were made."""

    def __init__(self) -> None:
        self.clients: list[httpx.AsyncClient] = []

    def __call__(self) -> httpx.AsyncClient:
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        self.clients.append(httpx.AsyncClient(transport=transport, verify=False))
        return self.clients[-1]

    @property
    def open(self) -> int:
        return sum(not client.is_closed for client in self.clients)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made()


async def _use(clients: AsyncClients, seconds: float = 1.0) -> httpx.AsyncClient:
    async with clients.one() as client:
        await asyncio.sleep(seconds)
        return client


def test_one_after_the_other_shares_a_client(made: Made) -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = AsyncClients(made)
        for _ in range(5):
            await _use(clients)
        await clients.aclose()

    run_virtually(main)
    assert (len(made.clients), made.open) == (1, 0)


def test_no_more_are_lent_at_once_than_may_be_in_flight(made: Made) -> None:
    async def main(loop: VirtualLoop) -> None:
        clients, began = AsyncClients(made), loop.time()
        await asyncio.gather(*[_use(clients) for _ in range(3 * MAX_IN_FLIGHT)])
        assert loop.time() - began == pytest.approx(3.0)
        await clients.aclose()

    run_virtually(main)
    assert (len(made.clients), made.open) == (MAX_IN_FLIGHT, 0)


def test_the_last_one_used_is_lent_next_and_what_stays_idle_is_closed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(loop: VirtualLoop) -> None:
        monkeypatch.setattr(async_clients, "time", SimpleNamespace(monotonic=loop.time))
        clients = AsyncClients(made)
        await asyncio.gather(*[_use(clients) for _ in range(10)])
        assert made.open == 10
        hot = {await _use(clients) for _ in range(30)}
        assert len(hot) == 1
        assert made.open == 1
        await clients.aclose()

    run_virtually(main)
    assert made.open == 0


def test_a_connection_is_kept_for_as_long_as_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    for module in ("httpcore._async.http11", "airflow_provider_taskdl.hooks.async_clients"):
        monkeypatch.setattr(f"{module}.time", clock)

    async def main(host: Host) -> list[int]:
        hook, opened = EoAnalysisHook("service"), []
        for pause in (IDLE_SECONDS - 1, IDLE_SECONDS + 1, 0.0):
            await hook.alist_files("7")
            opened.append(host.connections)
            clock.now += pause
        await hook.aclose()
        return opened

    with Host(whole(b'{"code": 200, "data": null}')) as host:
        connection = {"conn_type": "eo_analysis", "host": host.url(""), "password": "tok"}
        monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps(connection))
        assert asyncio.run(main(host)) == [1, 1, 2]


def _ask_a_host(
    monkeypatch: pytest.MonkeyPatch, hook_class: type[TaskApiHook], *answers: Answer
) -> tuple[list[int], list[str]]:
    """Ask twice, and return on which connection each request came and what went wrong."""
    problems = []

    async def main() -> None:
        hook = hook_class("service")
        for _ in range(2):
            try:
                await hook.alist_files("7")
            except ServiceUnavailableError as error:
                problems.append(error.message)
        await hook.aclose()

    with Host(*answers) as host:
        connection = {"conn_type": hook_class.conn_type, "host": host.url(""), "password": "tok"}
        monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps(connection))
        asyncio.run(main())
    return [request.connection for request in host.requests], problems


EMPTY = whole(b'{"code": 200, "data": null}')


@pytest.mark.parametrize("end", [Visit.close, Visit.reset])
def test_a_kept_connection_that_is_closed_at_that_moment_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[Visit], None]
) -> None:
    assert _ask_a_host(monkeypatch, EoAnalysisHook, EMPTY, end, EMPTY) == ([0, 0, 1], [])


@pytest.mark.parametrize("end", [Visit.close, Visit.reset])
def test_a_service_that_closes_new_connections_is_not_asked_twice(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[Visit], None]
) -> None:
    connections, problems = _ask_a_host(monkeypatch, EoAnalysisHook, end)
    assert connections == [0, 1]
    assert len(problems) == 2
    connections, problems = _ask_a_host(monkeypatch, EoAnalysisHook, EMPTY, end)
    assert connections == [0, 0, 1]
    assert len(problems) == 1


def test_what_may_change_something_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, problems = _ask_a_host(monkeypatch, EoMarketHook, EMPTY, Visit.close, EMPTY)
    assert connections == [0, 0]
    assert len(problems) == 1


def test_what_is_lent_is_closed_when_it_comes_back(made: Made) -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = AsyncClients(made)
        lent = [asyncio.create_task(_use(clients)) for _ in range(3)]
        await asyncio.sleep(0.5)
        await clients.aclose()
        assert made.open == 3
        lent[0].cancel()
        await asyncio.gather(*lent, return_exceptions=True)

    run_virtually(main)
    assert (len(made.clients), made.open) == (3, 0)


def test_a_cancelled_call_gives_its_client_back() -> None:
    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            await asyncio.sleep(100)
            yield b"x"

    async def main(loop: VirtualLoop) -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Slow()))
        clients = AsyncClients(lambda: httpx.AsyncClient(transport=transport, verify=False))

        async def call() -> None:
            async with clients.one() as client:
                await client.get("http://h/")

        for _ in range(3):
            calls = [asyncio.create_task(call()) for _ in range(MAX_IN_FLIGHT + 5)]
            await asyncio.sleep(1)
            for each in calls:
                each.cancel()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ends} == {asyncio.CancelledError}
        await clients.aclose()

    run_virtually(main)
