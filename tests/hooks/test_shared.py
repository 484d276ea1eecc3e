from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import httpx
import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks import shared
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.hooks.shared import REREAD_SECONDS, SharedHook, shared_hook
from tests.hooks.wire import transport
from tests.virtual_time import VirtualLoop, run_virtually

EO = {"conn_type": "eo_analysis", "host": "https://eo.example/svc", "password": "tok"}


class World:
    """Connections as they are stored, how often they were read, and which hooks were closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored: dict[str, Any] = {**EO}
        self.reads, self.seconds = 0, 1.0
        self.closed: list[TaskApiHook] = []
        aclose = TaskApiHook.aclose

        async def read(conn_id: str) -> TaskApiHook:
            self.reads += 1
            await asyncio.sleep(self.seconds)
            if not self.stored:
                raise ConnectionConfigError("there is no such connection")
            hook = EoAnalysisHook(conn_id)
            hook.connection = Connection(conn_id=conn_id, **self.stored)
            return hook

        async def close(hook: TaskApiHook) -> None:
            self.closed.append(hook)
            await aclose(hook)

        monkeypatch.setattr(shared, "atask_hook", read)

        monkeypatch.setattr(TaskApiHook, "aclose", close)
        self._monkeypatch = monkeypatch

    def keep_time(self, loop: VirtualLoop) -> None:
        self._monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=loop.time))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield World(monkeypatch)
    assert not any(shared._shared.get(loop) for loop in shared._shared if not loop.is_closed())


async def _looks(conn_id: str, seconds: float, every: float = 1.0, seen: list[TaskApiHook] | None = None) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with shared_hook(conn_id) as known:
        while loop.time() < end:
            async with known.hook() as hook:
                if seen is not None:
                    seen.append(hook)
                await asyncio.sleep(0.1)
            await asyncio.sleep(every)


def test_all_who_wait_share_one_hook_and_one_reading(world: World) -> None:
    seen: list[TaskApiHook] = []

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        await asyncio.gather(*[_looks("c", REREAD_SECONDS / 2, seen=seen) for _ in range(300)])

    run_virtually(main)
    assert (len(set(seen)), world.reads, world.closed) == (1, 1, [seen[0]])


def test_two_connections_have_a_hook_each(world: World) -> None:
    seen: list[TaskApiHook] = []

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        await asyncio.gather(*[_looks(f"c{number % 2}", 5, seen=seen) for number in range(10)])

    run_virtually(main)
    assert (len(set(seen)), world.reads) == (2, 2)
    assert set(world.closed) == set(seen)


def test_it_is_read_again_now_and_then_and_stays_the_same_if_nothing_changed(world: World) -> None:
    seen: list[TaskApiHook] = []

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        await asyncio.gather(*[_looks("c", 10 * REREAD_SECONDS, 5.0, seen) for _ in range(20)])

    run_virtually(main)
    assert len(set(seen)) == 1
    assert 9 <= world.reads <= 11


@pytest.mark.parametrize(
    "change", [{"password": "new"}, {"host": "https://other.example"}, {"extra": '{"timeout": 9}'}]
)
def test_a_changed_connection_gives_a_new_hook_and_closes_the_old_one(world: World, change: dict[str, Any]) -> None:
    seen: list[TaskApiHook] = []

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        looks = [asyncio.create_task(_looks("c", 3 * REREAD_SECONDS, seen=seen)) for _ in range(10)]
        await asyncio.sleep(5)
        world.stored.update(change)
        await asyncio.sleep(1.5 * REREAD_SECONDS)
        assert world.closed == [seen[0]]
        await asyncio.gather(*looks)

    run_virtually(main)
    old, new = dict.fromkeys(seen)
    assert world.closed == [old, new]
    assert old.connection.password == "tok"
    assert {**EO, **change}["password"] == new.connection.password


def test_a_ca_bundle_that_was_replaced_gives_a_new_hook(world: World, tmp_path: Path) -> None:
    certificates = Path(certifi.where()).read_text()
    bundle = tmp_path / "ca.pem"
    bundle.write_text(certificates)
    world.stored["extra"] = json.dumps({"verify": str(bundle)})
    seen: list[TaskApiHook] = []

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        looks = asyncio.create_task(_looks("c", 4 * REREAD_SECONDS, seen=seen))
        await asyncio.sleep(1.5 * REREAD_SECONDS)
        assert len(set(seen)) == 1
        bundle.write_text(f"{certificates}\n")
        await looks

    run_virtually(main)
    assert len(set(seen)) == 2


def test_a_ca_bundle_that_is_away_for_a_while_ends_nothing(world: World, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text(Path(certifi.where()).read_text())
    world.stored["extra"] = json.dumps({"verify": str(bundle)})
    seen: list[TaskApiHook] = []

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        looks = asyncio.create_task(_looks("c", 4 * REREAD_SECONDS, seen=seen))
        await asyncio.sleep(0.5 * REREAD_SECONDS)
        bundle.unlink()
        await asyncio.sleep(2 * REREAD_SECONDS)
        for hook in set(seen):
            assert hook._client_settings()["verify"].verify_mode is ssl.CERT_REQUIRED  # what a new client is made with
        await looks

    run_virtually(main)
    assert len(set(seen)) == 1


def test_a_look_that_is_under_way_ends_with_the_hook_it_began_with(world: World) -> None:
    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        async with shared_hook("c") as known:
            async with known.hook() as old:
                world.stored["password"] = "new"
                await asyncio.sleep(REREAD_SECONDS + 1)
                async with known.hook() as new:
                    assert new is not old
                assert world.closed == []
            assert world.closed == [old]
        assert world.closed == [old, new]

    run_virtually(main)


def test_a_connection_that_cannot_be_read_again_goes_on_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TaskApiHook] = []
    said: list[str] = []
    monkeypatch.setattr(shared.log, "warning", lambda text, *args: said.append(text % args))

    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        looks = asyncio.create_task(_looks("c", 4 * REREAD_SECONDS, 5.0, seen))
        await asyncio.sleep(5)
        world.stored.clear()
        await looks

    run_virtually(main)
    assert len(set(seen)) == 1
    assert 3 <= len(said) <= 4
    assert set(said) == {"Connection c could not be read again: ConnectionConfigError"}
    assert world.reads == 1 + len(said)


def test_each_is_told_of_a_connection_that_cannot_be_used(world: World) -> None:
    world.stored.clear()

    async def main(loop: VirtualLoop) -> None:
        ends = await asyncio.gather(*[_looks("c", 5) for _ in range(5)], return_exceptions=True)
        assert [type(end) for end in ends] == [ConnectionConfigError] * 5

    run_virtually(main)


def test_the_one_who_reads_may_be_cancelled(world: World) -> None:
    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        looks = [asyncio.create_task(_looks("c", 5)) for _ in range(3)]
        await asyncio.sleep(0.5)
        looks[0].cancel()
        ends = await asyncio.gather(*looks, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError, type(None), type(None)]

    run_virtually(main)
    assert len(world.closed) == 1


def test_the_next_to_come_after_the_last_one_begins_anew(world: World) -> None:
    async def main(loop: VirtualLoop) -> None:
        world.keep_time(loop)
        await _looks("c", 2)
        await _looks("c", 2)

    run_virtually(main)
    assert world.reads == len(world.closed) == 2


def test_loops_share_nothing(world: World) -> None:
    world.seconds = 0.0
    found: list[SharedHook] = []

    async def main() -> None:
        async with shared_hook("c") as known, shared_hook("c") as same:
            assert known is same
            found.append(known)

    asyncio.run(main())
    asyncio.run(main())
    assert found[0] is not found[1]


def test_a_loop_that_was_closed_too_early_is_forgotten(world: World) -> None:
    loop = asyncio.new_event_loop()
    left = shared_hook("c")
    loop.run_until_complete(left.__aenter__())
    loop.close()
    assert loop in shared._shared

    async def main() -> None:
        async with shared_hook("c"):
            assert loop not in shared._shared

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [7.0, 600.0])
def test_one_refusal_slows_all_hooks_of_the_connection(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SLOWED", json.dumps(EO))
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({**EO, "host": "https://other.example"}))
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if len(asked) == 1:
            return httpx.Response(429, headers={"retry-after": f"{seconds:g}"})
        return httpx.Response(200, json={"code": 200, "data": None})

    def hook(conn_id: str) -> TaskApiHook:
        made = EoAnalysisHook(conn_id)
        settings = made._client_settings
        monkeypatch.setattr(made, "_client_settings", lambda: {**settings(), "transport": transport(answer)})
        return made

    async def main(loop: VirtualLoop) -> None:
        from airflow_provider_taskdl.hooks import pace

        monkeypatch.setattr(pace.Pace.__init__, "__defaults__", (None, loop.time))
        one, two, other = hook("slowed"), hook("slowed"), hook("other")
        began = loop.time()
        (refused,) = await asyncio.gather(one.alist_files("1"), return_exceptions=True)
        assert getattr(refused, "retry_after", None) == seconds
        await other.alist_files("1")
        assert loop.time() == began
        (end,) = await asyncio.gather(two.alist_files("1"), return_exceptions=True)
        if seconds == 7.0:
            assert loop.time() - began == pytest.approx(7.0)
            assert asked == ["eo.example", "other.example", "eo.example"]
        else:
            assert getattr(end, "retry_after", None) == seconds
            assert getattr(end, "remote_task_id", None) == "1"
            assert asked == ["eo.example", "other.example"]
        for each in (one, two, other):
            await each.aclose()

    run_virtually(main)
