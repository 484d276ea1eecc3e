"""Thousands of waits on one event loop: spread, sharing one hook, polite, and gone when they are told to go."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_taskdl.hooks import shared
from airflow_provider_taskdl.hooks.async_clients import AsyncClients
from airflow_provider_taskdl.hooks.base import TaskApiHook, atask_hook, task_hook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Status
from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger
from tests.hooks.wire import transport
from tests.virtual_time import VirtualLoop, go_by, run_virtually

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

RUNNING = {"code": 200, "data": {"taskStatus": 2}}
READY = {"code": 200, "data": {"downloadUrls": [{"fileName": "a", "downloadUrl": "https://h/a", "fileSize": 3}]}}
INTERVAL = 30.0


async def _event(trigger: DownloadLinkTrigger) -> dict[str, Any]:
    (event,) = [event.payload async for event in trigger.run()]
    return dict(event)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


class Service:
    """Answers without a network, on a virtual clock, and notes when each task was asked for; it lists none."""

    def __init__(self, loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop, self.began = loop, loop.time()
        self.asked: dict[str, list[float]] = {}
        self.answer: Callable[[str], httpx.Response] = lambda task: httpx.Response(200, json=RUNNING)
        self.state: Callable[[str], httpx.Response] | None = None  # where it answers otherwise

        async def hook(conn_id: str) -> TaskApiHook:
            made = EoAnalysisHook(conn_id)
            made.connection = Connection(conn_id=conn_id, conn_type="eo_analysis", host="https://eo", password="tok")
            settings = {"transport": transport(self._answer), "verify": False}
            monkeypatch.setattr(made, "_client_settings", lambda: settings)
            return made

        go_by(loop, monkeypatch, "hooks.shared", "triggers.download_link", now=loop.time)
        monkeypatch.setattr(shared, "atask_hook", hook)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(404, json={"code": 400, "message": "no list of tasks here"})
        asked_for_state = request.url.params.get("id")
        task = asked_for_state or request.url.params["taskId"]
        self.asked.setdefault(task, []).append(self.loop.time() - self.began)
        return (self.state if asked_for_state and self.state else self.answer)(task)

    def wait_for(self, count: int, *, seconds: float, **settings: Any) -> list[asyncio.Task[dict[str, Any]]]:
        triggers = [
            DownloadLinkTrigger(
                conn_id="c", remote_task_id=str(number), deadline=self.loop.time() + seconds,
                **{"poll_interval": INTERVAL, "first_wait": INTERVAL, **settings},
            )
            for number in range(count)
        ]  # fmt: skip
        return [asyncio.create_task(_event(trigger)) for trigger in triggers]


def test_waits_that_are_taken_up_together_are_spread_over_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualLoop) -> None:
        service = Service(loop, monkeypatch)
        waits = service.wait_for(500, seconds=4.5 * INTERVAL)
        events = await asyncio.gather(*waits)
        assert {event["status"] for event in events} == {"timeout"}
        assert max(times[0] for times in service.asked.values()) <= INTERVAL
        for times in service.asked.values():
            gaps = [later - earlier for earlier, later in pairwise(times[:-1])]  # the last look is at the deadline
            assert all(INTERVAL <= gap <= 1.1 * INTERVAL + 1e-6 for gap in gaps)
        for turn in range(4):  # evenly: no tenth of an interval has more than twice its share
            tenths = Counter(int(10 * times[turn] / INTERVAL) for times in service.asked.values())
            assert max(tenths.values()) <= 100

    run_virtually(main)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (503, {"code": 503}, {}),
        (503, {"code": 503}, {"retry-after": "60"}),
        (429, {"code": 429}, {}),
        (429, {"code": 429}, {"retry-after": "5"}),
        (429, {"code": 429}, {"retry-after": "0"}),
        (403, {"code": 403}, {}),
        (200, "no json", {}),
        (302, {}, {"location": "https://eo/"}),
    ],
)
def test_a_service_in_trouble_is_asked_no_more_often_than_one_that_answers(
    monkeypatch: pytest.MonkeyPatch, status: int, body: Any, headers: dict[str, str]
) -> None:
    def requests(answer: Callable[[str], httpx.Response] | None) -> int:
        async def main(loop: VirtualLoop) -> int:
            service = Service(loop, monkeypatch)
            service.answer = answer or service.answer
            waits = service.wait_for(60, seconds=10 * INTERVAL, max_consecutive_errors=10**6)
            await asyncio.gather(*waits)
            return sum(len(times) for times in service.asked.values())

        with monkeypatch.context():
            random.seed(7)
            return run_virtually(main)

    normally = requests(None)
    assert 60 * 9 <= normally <= 60 * 11
    in_trouble = requests(lambda task: httpx.Response(status, json=body, headers=headers))
    everybody_is_held = (status == 429 and headers != {"retry-after": "0"}) or headers == {"retry-after": "60"}
    assert 1 <= in_trouble <= (normally / 5 if everybody_is_held else normally)


def test_one_refused_answer_counts_for_nobody_but_the_one_who_got_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualLoop) -> None:
        service = Service(loop, monkeypatch)
        later = httpx.Response(503, json={"code": 503}, headers={"retry-after": "15"})
        service.answer = lambda task: later if random.random() < 0.2 else httpx.Response(200, json=RUNNING)
        events = await asyncio.gather(
            *service.wait_for(150, seconds=1800, poll_interval=2 * INTERVAL, first_wait=2 * INTERVAL)
        )
        assert Counter(event["status"] for event in events) == {"timeout": 150}

    random.seed(7)
    run_virtually(main)


def test_a_state_that_is_not_to_be_had_keeps_nobody_from_the_links(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualLoop) -> None:
        service = Service(loop, monkeypatch)
        service.state = lambda task: httpx.Response(503, json={"code": 503}, headers={"retry-after": "15"})
        service.answer = lambda task: httpx.Response(200, json=READY)
        events = await asyncio.gather(*service.wait_for(300, seconds=10 * INTERVAL))
        assert Counter(event["status"] for event in events) == {"ready": 300}
        assert loop.time() - service.began <= 4 * INTERVAL
        assert {len(times) for times in service.asked.values()} == {2}

    run_virtually(main)


def test_a_turn_that_does_not_come_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualLoop) -> None:
        service = Service(loop, monkeypatch)
        make: Callable[[str], Awaitable[TaskApiHook]] = vars(shared)["atask_hook"]

        async def slow(conn_id: str) -> TaskApiHook:
            hook = await make(conn_id)
            hook.connection.extra = json.dumps({"requests_per_second": 0.1})
            return hook

        monkeypatch.setattr(shared, "atask_hook", slow)
        events = await asyncio.gather(*service.wait_for(100, seconds=300))
        assert {event["status"] for event in events} == {"timeout"}
        assert loop.time() - service.began <= 300 + 60 + 1
        moments = sorted(moment for times in service.asked.values() for moment in times)
        assert len(moments) >= 30
        assert all(later - earlier >= 10 - 0.03 for earlier, later in pairwise(moments))
        assert len(service.asked) >= 29  # each in turn, and nobody twice before the others

    run_virtually(main)


def test_a_wait_that_is_cancelled_at_any_moment_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualLoop) -> None:
        service = Service(loop, monkeypatch)
        for _ in range(5):
            waits = service.wait_for(10, seconds=1000, first_wait=0.0, poll_interval=0.0)
            for wait in waits:
                for _ in range(random.randrange(60)):
                    await asyncio.sleep(0)
                wait.cancel()
            done, left = await asyncio.wait(waits, timeout=100)
            assert not left
            assert all(wait.cancelled() for wait in done)
        assert not shared._shared[loop]

    run_virtually(main)


@pytest.fixture
def connections(taskdl_server: EmulatorServer) -> dict[str, Any]:
    return taskdl_server.airflow_connections()


class Clients:
    """The clients that hooks made, and their connections' number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hooks: Counter[str] = Counter()
        self.open: list[httpx.AsyncClient] = []
        make = AsyncClients

        def spy(maker: Callable[[], httpx.AsyncClient]) -> AsyncClients:
            def one() -> httpx.AsyncClient:
                self.open.append(maker())
                return self.open[-1]

            self.hooks["made"] += 1
            return make(one)

        monkeypatch.setattr("airflow_provider_taskdl.hooks.base.AsyncClients", spy)


def test_three_hundred_waits_for_two_connections_share_two_hooks(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clients, interval = Clients(monkeypatch), 1.0
    reads = Counter[str]()

    async def counted(conn_id: str) -> TaskApiHook:
        reads[conn_id] += 1
        return await atask_hook(conn_id)

    monkeypatch.setattr(shared, "atask_hook", counted)
    monkeypatch.setattr(shared, "REREAD_SECONDS", 3600.0)
    tasks = [taskdl_emulator.eo_task({"a": b"1"}, ready_after=4.0) for _ in range(150)]
    exports = [taskdl_emulator.bls_task(b"1", ready_after=4.0) for _ in range(150)]
    waits = [
        (f"{service}_default", task.id)
        for service, all_ in (("eo_analysis", tasks), ("baidu_bls", exports))
        for task in all_
    ]

    async def main() -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60.0  # a machine may be busy
        loop.set_debug(True)
        triggers = [
            DownloadLinkTrigger(
                conn_id=conn_id, remote_task_id=task_id, deadline=time.time() + 60, poll_interval=interval,
                first_wait=interval,
            )
            for conn_id, task_id in waits
        ]  # fmt: skip
        return await asyncio.gather(*map(_event, triggers))

    caplog.set_level(logging.WARNING, "asyncio")
    began = time.time()
    events = asyncio.run(main())
    took = time.time() - began
    assert [event["status"] for event in events] == ["ready"] * 300
    assert [event["summary"]["remote_task_id"] for event in events] == [task_id for _, task_id in waits]
    assert clients.hooks["made"] == 2
    assert reads == {"eo_analysis_default": 1, "baidu_bls_default": 1}
    assert all(client.is_closed for client in clients.open)
    assert len(clients.open) <= 2 * 100
    for kind in ("eo.status", "bls.status"):
        looks = Counter(name for seen in taskdl_emulator.seen(kind) for name in seen.names)
        assert len(looks) == 150, kind
        assert max(looks.values()) <= took / interval + 2
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("fault", [Status(503), Status(403), Status(429, retry_after="1")])
def test_over_sockets_a_service_in_trouble_is_asked_no_more_often(taskdl_emulator: Emulator, fault: Status) -> None:
    interval, seconds = 0.5, 3.0

    async def wait(task_ids: list[str]) -> None:
        triggers = [
            DownloadLinkTrigger(
                conn_id="eo_analysis_default", remote_task_id=task_id, deadline=time.time() + seconds,
                poll_interval=interval, first_wait=interval, max_consecutive_errors=1000,
            )
            for task_id in task_ids
        ]  # fmt: skip
        await asyncio.gather(*map(_event, triggers))

    ids = [taskdl_emulator.eo_task({"a": b"1"}, ready_after=3600).id for _ in range(40)]
    taskdl_emulator.fault("eo.*", fault)
    asyncio.run(wait(ids))
    most = 40 * (seconds / interval + 2)
    assert 1 <= taskdl_emulator.count("eo.*") <= most


def test_the_rate_of_a_connection_holds_over_all_who_use_it(
    taskdl_emulator: Emulator, connections: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 40.0
    slowed = connections["eo_analysis_default"]
    slowed["extra"]["requests_per_second"] = rate
    monkeypatch.setenv("AIRFLOW_CONN_SLOWED", json.dumps(slowed))
    ids = [taskdl_emulator.eo_task({"a": b"1"}, ready_after=3600).id for _ in range(30)]

    def in_a_thread() -> None:
        hook = task_hook("slowed")
        for _ in range(20):
            hook.get_state(ids[0])
        hook.close()

    async def main() -> None:
        triggers = [
            DownloadLinkTrigger(
                conn_id="slowed", remote_task_id=task_id, deadline=time.time() + 1.0, poll_interval=0.1,
                first_wait=0.1,
            )
            for task_id in ids
        ]  # fmt: skip
        await asyncio.gather(asyncio.to_thread(in_a_thread), *map(_event, triggers))

    began = time.time()
    asyncio.run(main())
    times = sorted(seen.time for seen in taskdl_emulator.seen("eo.*"))
    assert len(times) >= 20 + 30
    # The first may have been late on its way; from before it on they cannot be faster than the rate.
    assert len(times) - 1 <= rate * (times[-1] - began + 0.02)
