"""What a wait's connection does meanwhile: it changes, or cannot be read. Airflow's triggerer goes on for months."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, Connection

from airflow_provider_taskdl.exceptions import ServiceUnavailableError, TaskDownloadError
from airflow_provider_taskdl.hooks import shared
from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger
from airflow_provider_taskdl.triggers.events import read_event
from tests.triggers.watching import World
from tests.virtual_time import VirtualLoop, go_by, run_virtually

INTERVAL = 20.0


def simulate(monkeypatch: pytest.MonkeyPatch, main: Callable[[World], Awaitable[None]]) -> None:
    async def run(loop: VirtualLoop) -> None:
        world = World(loop, monkeypatch)
        go_by(loop, monkeypatch, "triggers.download_link", now=world.emulator.now)
        await main(world)

    run_virtually(run)


async def waited(world: World, task_id: str, seconds: float = 3600.0) -> tuple[float, dict[str, Any]]:
    """Wait for a task; return how long it took, and the event."""
    began = world.loop.time()
    deadline = world.emulator.now() + seconds
    trigger = DownloadLinkTrigger(conn_id="eo", remote_task_id=task_id, deadline=deadline, poll_interval=INTERVAL)
    (event,) = [event async for event in trigger.run()]
    return world.loop.time() - began, event.payload


# When they are replaced, and how long the old ones last: long before the next reading, and soon after one.
@pytest.mark.parametrize("moments", [(70.0, 5.0), (60.5, 0.0), (61.0, 0.0), (61.5, 0.0), (62.0, 0.0)])
def test_a_wait_outlasts_credentials_that_end_soon_after_they_were_replaced(
    moments: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(world: World) -> None:
        task = world.emulator.eo_task({"a": b"1"}, ready_after=200)
        waits = [asyncio.create_task(waited(world, task.id)) for _ in range(100)]
        replaced, left = moments
        await asyncio.sleep(replaced)
        token = "new-token"
        world.connections["eo"] = Connection(
            conn_id="eo", conn_type="eo_analysis", host="http://127.0.0.1", password=token
        )
        await asyncio.sleep(left)
        world.emulator.token = token
        read = world.hooks_made
        assert [event["status"] for _, event in await asyncio.gather(*waits)] == ["ready"] * 100
        assert world.hooks_made - read <= 5  # by one for all, and then once a minute

    simulate(monkeypatch, main)


def test_credentials_that_are_refused_and_not_replaced_end_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        task = world.emulator.eo_task({"a": b"1"}, ready_after=1e9)
        waits = [asyncio.create_task(waited(world, task.id)) for _ in range(10)]
        await asyncio.sleep(70)
        world.emulator.token = "another"
        for seconds, event in await asyncio.gather(*waits):
            assert seconds <= 70 + 1.2 * INTERVAL
            assert event["error"]["type"] == "AuthenticationError"

    simulate(monkeypatch, main)


def _away(world: World, monkeypatch: pytest.MonkeyPatch, until: float) -> list[float]:
    """Let no connection be read before that time; each try takes 10 s. Return when it was tried."""
    read, tries = vars(shared)["atask_hook"], []

    async def try_to_read(conn_id: str) -> Any:
        tries.append(world.loop.time())
        if world.loop.time() < until:
            await asyncio.sleep(10)
            raise AirflowException("The conn_id `eo` isn't defined, said https://vault.example/?token=geheim")
        return await read(conn_id)

    monkeypatch.setattr(shared, "atask_hook", try_to_read)
    return tries


def test_waits_that_are_taken_up_while_the_connection_cannot_be_read_wait_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(world: World) -> None:
        tries = _away(world, monkeypatch, world.loop.time() + 60)
        task = world.emulator.eo_task({"a": b"1"}, ready_after=20)
        ends = await asyncio.gather(*(waited(world, task.id) for _ in range(100)))
        assert {event["status"] for _, event in ends} == {"ready"}
        assert len(tries) <= 6

    simulate(monkeypatch, main)


def test_a_connection_that_stays_unreadable_is_told_to_all_once_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        tries = _away(world, monkeypatch, 1e9)
        ends = await asyncio.gather(*(waited(world, "1") for _ in range(100)))
        for seconds, event in ends:
            assert 120 < seconds < 300
            with pytest.raises(TaskDownloadError, match="'eo' cannot be read") as caught:
                read_event(event)
            assert type(caught.value) is ServiceUnavailableError
            assert caught.value.retryable
            assert "geheim" not in str(event)
        assert len(tries) == 8

    simulate(monkeypatch, main)


def test_a_deadline_holds_while_the_connection_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        _away(world, monkeypatch, 1e9)
        for seconds, event in await asyncio.gather(*(waited(world, "1", seconds=30.0) for _ in range(100))):
            assert seconds <= 30 + 60
            assert event["status"] == "timeout"

    simulate(monkeypatch, main)
