"""Many who wait for BLS exports share list calls: fewer requests, no later news, no harm from a list that is wrong."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_taskdl.hooks import roll_call, shared
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.roll_call import RollCall
from airflow_provider_taskdl.testing import Emulator
from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger
from tests.hooks.wire import async_transport
from tests.virtual_time import VirtualLoop, go_by, run_virtually

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

INTERVAL = 60.0
Page = Callable[[dict[str, Any], list[dict[str, Any]]], httpx.Response]


@dataclass
class Export:
    """A task at the service: when it was made, when it ends and how."""

    uuid: str
    project: str = "default"
    made_at: float = 0.0
    over_at: float = float("inf")
    end: str = "SUCCESS"


def _ok(result: Any) -> httpx.Response:
    return httpx.Response(200, json={"success": True, "code": "OK", "result": result})


@dataclass
class Service:
    """BLS on a virtual clock, without a network; a list without a project is the default one's."""

    loop: VirtualLoop
    exports: dict[str, Export] = field(default_factory=dict)
    seconds: float = 0.05  # that an answer takes
    list_seconds: float = 0.05
    page: Page | None = None  # how it answers lists, if not rightly
    counts: Counter[str] = field(default_factory=Counter)
    broken: set[str] = field(default_factory=set)  # of which neither state nor link are to be had
    login: str = "ak"
    keys: set[str] = field(default_factory=set)  # that lists were asked for with
    on_request: Callable[[str], object] = field(default=lambda kind: None)
    waits: list[asyncio.Task[Any]] = field(default_factory=list)
    news: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return self.counts.total()

    def add(self, count: int, **facts: Any) -> list[Export]:
        begin = len(self.exports)
        new = [Export(f"{'0' * 8}-0000-0000-0000-{n:012x}", **facts) for n in range(begin, begin + count)]
        self.exports.update((each.uuid, each) for each in new)
        return new

    def wait_for(
        self, exports: list[Export], *, conn_id: str = "c", intervals: float = 1000.0, **settings: Any
    ) -> None:
        for export in exports:
            trigger = DownloadLinkTrigger(
                conn_id=conn_id, remote_task_id=export.uuid, deadline=self.loop.time() + intervals * INTERVAL,
                **{"poll_interval": INTERVAL, "first_wait": INTERVAL, **settings},
            )  # fmt: skip
            self.waits.append(asyncio.create_task(self._wait(export, trigger)))

    async def _wait(self, export: Export, trigger: DownloadLinkTrigger) -> None:
        async for event in trigger.run():
            self.news[export.uuid] = (event.payload["status"], self.loop.time() - export.over_at)

    async def end(self) -> None:
        for wait in self.waits:
            wait.cancel()
        await asyncio.gather(*self.waits, return_exceptions=True)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.removeprefix("/v2/logstore/download/").split("/")
        kind = parts[0] if parts[0] in ("list", "link") else "state"
        self.counts[kind] += 1
        self.on_request(kind)
        await asyncio.sleep(random.uniform(0, 2 * (self.list_seconds if kind == "list" else self.seconds)))
        if kind == "list":
            self.keys.add(request.headers["authorization"].split("/")[1])
            return self._list(json.loads(request.content))
        if parts[-1] in self.broken:
            return httpx.Response(503, json={"code": "InternalError"})
        task = self._task(self.exports[parts[-1]])
        if kind == "state":
            return _ok({"task": task})
        link = "https://h.example/a?sign=1" if task["state"] == "SUCCESS" else ""
        return _ok({"fileDir": "", "fileName": "a.json", "link": link})

    def _list(self, body: dict[str, Any]) -> httpx.Response:
        project, now = body.get("project", "default"), self.loop.time()
        known = [each for each in self.exports.values() if each.project == project and each.made_at <= now]
        known.sort(key=lambda each: each.made_at, reverse=True)
        begin = (body["pageNo"] - 1) * body["pageSize"]
        tasks = [self._task(each) for each in known[begin : begin + body["pageSize"]]]
        if self.page:
            return self.page(body, tasks)
        return _ok({"pageNo": body["pageNo"], "pageSize": body["pageSize"], "total": len(known), "tasks": tasks})

    def _task(self, export: Export) -> dict[str, Any]:
        state = "RUNNING" if self.loop.time() < export.over_at else export.end
        return {"uuid": export.uuid, "project": export.project, "state": state, "failedMessage": "disk full"}


Run = Callable[[Callable[[Service], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a test with a service of its own, in virtual time; in the end nothing is left."""
    logging.disable(logging.INFO)

    def run_it(test: Callable[[Service], Coroutine[Any, Any, None]]) -> None:
        async def main(loop: VirtualLoop) -> None:
            service = Service(loop)

            async def hook(conn_id: str) -> TaskApiHook:
                made = BlsHook(conn_id)
                extra = json.dumps({"check_status": False} if conn_id == "links-only" else {})
                made.connection = Connection(
                    conn_id=conn_id, conn_type="baidu_bls", login=service.login, password="sk", extra=extra
                )
                settings = {"transport": async_transport(service.answer), "auth": made.access.auth}
                monkeypatch.setattr(made, "_client_settings", lambda: settings)
                return made

            go_by(loop, monkeypatch, "hooks.shared", "triggers.download_link", now=loop.time)
            monkeypatch.setattr(shared, "atask_hook", hook)
            await test(service)
            await service.end()
            assert not shared._shared[loop]

        random.seed(7)
        run_virtually(main)

    yield run_it
    logging.disable(logging.NOTSET)


def _end_at_random(exports: list[Export], begin: float, intervals: float) -> None:
    for export in exports:
        export.over_at = begin + random.uniform(0.5, intervals) * INTERVAL
        export.end = random.choice(["SUCCESS", "SUCCESS", "FAILED", "EXPIRED"])


def _latest(service: Service, exports: list[Export]) -> float:
    """The latest news, in intervals; each must be right."""
    right = {"SUCCESS": "ready", "FAILED": "error", "EXPIRED": "error"}
    assert {each.uuid: right[each.end] for each in exports} == {
        each.uuid: service.news[each.uuid][0] for each in exports if each.uuid in service.news
    }
    return max(service.news[each.uuid][1] for each in exports) / INTERVAL


def _singly(exports: list[Export], begin: float) -> float:
    """How many requests they make at most who ask one by one."""
    return sum((each.over_at - begin) / INTERVAL + 3 for each in exports)


def test_a_thousand_make_a_twentieth_of_the_requests_and_none_has_later_news(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(1000)
        _end_at_random(exports[::10], service.loop.time(), 19)
        service.wait_for(exports)
        await asyncio.sleep(20 * INTERVAL)
        # A thousand that ask one by one ask at least 18 times each in the time (see the next test).
        assert service.requests <= 18 * 1000 / 20
        assert _latest(service, exports[::10]) <= 0.9

    run(test)


@pytest.mark.parametrize(("conn_id", "count"), [("links-only", 100), ("c", 2)])
def test_without_states_and_for_very_few_each_asks_for_itself(run: Run, conn_id: str, count: int) -> None:
    async def test(service: Service) -> None:
        service.wait_for(service.add(count), conn_id=conn_id)
        await asyncio.sleep(20 * INTERVAL)
        assert service.counts["list"] == 0
        assert 18 * count <= service.requests <= 21 * count

    run(test)


def test_it_stays_so_for_as_long_as_they_wait(run: Run) -> None:
    async def test(service: Service) -> None:
        service.wait_for(service.add(300))
        await asyncio.sleep(20 * INTERVAL)
        before = service.requests
        await asyncio.sleep(40 * INTERVAL)
        assert service.requests - before <= 40 / 1.1 * 300 / 20

    run(test)


def test_each_project_s_list_is_found_by_a_first_look(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = [each for number in range(5) for each in service.add(20, project=f"p{number}")]
        _end_at_random(exports, service.loop.time(), 40)
        service.wait_for(exports)
        await asyncio.sleep(42 * INTERVAL)
        assert _latest(service, exports) <= 1
        assert service.requests <= _singly(exports, 1000.0) / 4

    run(test)


def test_tasks_beyond_the_first_pages_are_asked_for_one_by_one(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(60)
        service.add(1000, made_at=1.0, over_at=2.0)
        _end_at_random(exports, service.loop.time(), 30)
        service.wait_for(exports)
        await asyncio.sleep(32 * INTERVAL)
        assert _latest(service, exports) <= 1.12
        assert 1 <= service.counts["list"] <= 8
        assert service.requests - service.counts["list"] <= _singly(exports, 1000.0)

    run(test)


def test_who_comes_later_is_found_as_well(run: Run) -> None:
    async def test(service: Service) -> None:
        for _ in range(100):
            (export,) = service.add(1, made_at=service.loop.time())
            export.over_at = service.loop.time() + random.uniform(0.0, 30) * INTERVAL
            service.wait_for([export])
            await asyncio.sleep(random.uniform(0, INTERVAL))
        await asyncio.sleep(32 * INTERVAL)
        exports = list(service.exports.values())
        assert _latest(service, exports) <= 1.12
        waited = sum((each.over_at - each.made_at) / INTERVAL for each in exports)
        assert service.requests <= waited / 2

    run(test)


def _page(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Page:
    return lambda body, tasks: _ok({"total": 60, "pageSize": 100, "tasks": [change(task) for task in tasks]})


BAD_PAGES: dict[str, Page] = {
    "refused": lambda body, tasks: httpx.Response(403, json={"code": "AccessDenied", "message": "no"}),
    "missing": lambda body, tasks: httpx.Response(404, json={}),
    "down": lambda body, tasks: httpx.Response(503, json={"code": "ServiceUnavailable"}),
    "down, says when": lambda body, tasks: httpx.Response(503, json={}, headers={"retry-after": "3000"}),
    "a gateway's": lambda body, tasks: httpx.Response(200, text="<html>"),
    "malformed": lambda body, tasks: _ok({"tasks": [None]}),
    "empty": lambda body, tasks: _ok({"total": 0, "tasks": []}),
    "empty without end": lambda body, tasks: _ok({"total": 10**9, "tasks": []}),
    "somebody else's": _page(lambda task: {**task, "uuid": "f" + task["uuid"][1:]}),
    "without ids": _page(lambda task: {**task, "uuid": None}),
    "without states": _page(lambda task: {**task, "state": None}),
    "strange states": _page(lambda task: {**task, "state": "PAUSED"}),
    "all done": _page(lambda task: {**task, "state": "SUCCESS"}),
    "all failed": _page(lambda task: {**task, "state": "FAILED"}),
    "any state": _page(lambda task: {**task, "state": random.choice(["RUNNING", "SUCCESS", "WAITING", "EXPIRED"])}),
    "at times": lambda body, tasks: _ok({"tasks": tasks}) if random.random() < 0.5 else httpx.Response(500),
    "each twice": lambda body, tasks: _ok({"tasks": [*tasks, *({**task, "state": "RUNNING"} for task in tasks)]}),
}


@pytest.mark.parametrize("name", BAD_PAGES)
def test_a_list_that_is_of_no_use_costs_little_and_delays_nobody(run: Run, name: str) -> None:
    async def test(service: Service) -> None:
        service.page = BAD_PAGES[name]
        exports = service.add(60)
        _end_at_random(exports, service.loop.time(), 30)
        service.wait_for(exports)
        await asyncio.sleep(32 * INTERVAL)
        # A list that says "running" of what is over at random is believed until it is found out.
        assert _latest(service, exports) <= (6 if name == "any state" else 1.12)
        assert service.requests <= _singly(exports, 1000.0) * 1.1

    run(test)


def test_a_list_that_comes_late_delays_nobody(run: Run) -> None:
    async def test(service: Service) -> None:
        service.list_seconds = 3 * INTERVAL
        exports = service.add(60)
        _end_at_random(exports, service.loop.time(), 30)
        service.wait_for(exports)
        await asyncio.sleep(32 * INTERVAL)
        assert _latest(service, exports) <= 1.12
        assert service.requests <= _singly(exports, 1000.0) * 1.1

    run(test)


@pytest.mark.parametrize("state", ["RUNNING", "WAITING"])
def test_a_list_that_does_not_change_is_found_out(run: Run, state: str) -> None:
    async def test(service: Service) -> None:
        service.page = _page(lambda task: {**task, "state": state})
        exports = service.add(60)
        _end_at_random(exports, service.loop.time(), 30)
        service.wait_for(exports)
        await asyncio.sleep(60 * INTERVAL)
        late = sorted(service.news[each.uuid][1] / INTERVAL for each in exports)
        assert late[-1] <= 30
        assert late[20] <= 1.12  # who ended after it was found out
        assert service.requests <= _singly(exports, 1000.0) * 1.1

    run(test)


def test_a_list_that_was_down_is_used_again(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(100)
        service.wait_for(exports)
        await asyncio.sleep(5 * INTERVAL)
        service.page = BAD_PAGES["down"]
        await asyncio.sleep(10 * INTERVAL)
        service.page = None
        await asyncio.sleep(20 * INTERVAL)
        before = service.requests
        await asyncio.sleep(10 * INTERVAL)
        assert service.requests - before <= 10 * 100 / 10

    run(test)


def test_when_a_list_goes_down_the_looks_in_its_place_are_spread(run: Run) -> None:
    async def test(service: Service) -> None:
        service.wait_for(service.add(400))
        await asyncio.sleep(5 * INTERVAL)
        service.page = BAD_PAGES["down"]
        most, end = 0, service.loop.time() + 2 * INTERVAL
        while service.loop.time() < end:
            before = service.counts["state"]
            await asyncio.sleep(INTERVAL / 20)
            most = max(most, service.counts["state"] - before)
        assert 400 / 10 <= most <= 400 / 3

    run(test)


def test_the_rounds_go_on_without_those_who_leave(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(60)
        _end_at_random(exports, service.loop.time() + 10 * INTERVAL, 10)
        service.wait_for(exports)
        for wait in service.waits[:40]:
            await asyncio.sleep(random.uniform(0.0, INTERVAL / 8))
            wait.cancel()
        assert service.counts["list"] >= 3
        before = service.counts["state"]
        await asyncio.sleep(21 * INTERVAL)
        assert _latest(service, exports[40:]) <= 1
        assert service.counts["state"] - before <= 2 * 20

    run(test)


def test_the_rounds_rest_while_too_few_wait_and_begin_anew_with_those_who_come(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, go_round = [0], RollCall._round

    async def counted(self: RollCall, tick: float) -> None:
        rounds[0] += 1
        await go_round(self, tick)

    monkeypatch.setattr(RollCall, "_round", counted)

    async def test(service: Service) -> None:
        async with shared.shared_hook("c"):  # as a watcher keeps it
            for exports in (service.add(30), service.add(30)):
                service.counts.clear()
                service.wait_for(exports)
                await asyncio.sleep(5 * INTERVAL)
                assert service.counts["list"] >= 5
                await service.end()
                await asyncio.sleep(INTERVAL)
                rounds[0] = 0
                await asyncio.sleep(50 * INTERVAL)
                assert rounds == [0]

    run(test)


def test_a_list_that_hangs_ends_with_the_last_who_waits(run: Run) -> None:
    async def test(service: Service) -> None:
        service.list_seconds = 1e6
        service.wait_for(service.add(30))
        await asyncio.sleep(INTERVAL / 4)
        assert service.counts["list"] == 1
        await service.end()
        assert not shared._shared[service.loop]

    run(test)


def test_the_deadline_is_kept_and_its_look_made(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(50)
        service.wait_for(exports, intervals=10)
        await asyncio.sleep(10 * INTERVAL - 1)
        assert service.news == {}
        before = service.counts["state"]
        await asyncio.sleep(2)
        assert {status for status, _ in service.news.values()} == {"timeout"}
        assert (len(service.news), service.counts["state"] - before) == (50, 50)

    run(test)


def test_who_has_an_error_keeps_to_its_pause_and_its_count(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(50)
        service.broken = {exports[0].uuid}
        service.wait_for(exports[:1], first_wait=0.0, max_consecutive_errors=3)
        service.wait_for(exports[1:])
        began = service.loop.time()
        await asyncio.gather(*service.waits[:1])
        # Four looks: at once, and after pauses of one to two, one to four and one to five intervals.
        assert service.news[exports[0].uuid][0] == "error"
        assert 3 * INTERVAL <= service.loop.time() - began <= 13 * INTERVAL

    run(test)


def test_after_a_change_of_the_connection_the_lists_are_asked_for_with_the_new_one(run: Run) -> None:
    async def test(service: Service) -> None:
        exports = service.add(30)
        _end_at_random(exports, service.loop.time() + 4 * INTERVAL, 4)
        service.wait_for(exports)
        await asyncio.sleep(2 * INTERVAL)
        service.login = "other"
        await asyncio.sleep(3 * INTERVAL)
        service.keys.clear()
        await asyncio.sleep(6 * INTERVAL)
        assert service.keys == {"other"}
        assert _latest(service, exports) <= 1

    run(test)


def test_what_the_rounds_do_is_done_in_nobody_s_name(run: Run) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    async def test(service: Service) -> None:
        seen: set[tuple[bool, str]] = set()
        service.on_request = lambda kind: seen.add((kind == "list", who.get()))
        who.set("one who waits")
        service.wait_for(service.add(30))
        await asyncio.sleep(3 * INTERVAL)
        assert (True, "nobody") in seen
        assert (True, "one who waits") not in seen

    run(test)


def test_each_kind_of_trouble_is_told_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(roll_call.log, "info", lambda text, *args: said.append(text % args))

    async def test(service: Service) -> None:
        service.page = BAD_PAGES["refused"]
        service.wait_for(service.add(30))
        await asyncio.sleep(20 * INTERVAL)
        service.page = BAD_PAGES["down"]
        await asyncio.sleep(40 * INTERVAL)

    run(test)
    assert len(said) == 2, said
    assert all("each task is asked for by itself" in text for text in said)
    assert "refused the credentials" in said[0]
    assert "not available" in said[1]


def test_over_sockets_they_share_the_lists_of_the_emulator(taskdl_emulator: Emulator) -> None:
    interval = 1.0
    exports = [taskdl_emulator.bls_task(b"1", ready_after=5 * interval) for _ in range(40)]

    async def wait(task_id: str) -> str:
        trigger = DownloadLinkTrigger(
            conn_id="baidu_bls_default", remote_task_id=task_id, deadline=time.time() + 120, poll_interval=interval,
            first_wait=interval,
        )  # fmt: skip
        (event,) = [event.payload async for event in trigger.run()]
        return str(event["status"])

    async def main() -> list[str]:
        return await asyncio.gather(*(wait(export.id) for export in exports))

    began = time.time()
    assert asyncio.run(main()) == ["ready"] * 40
    turns = (time.time() - began) / interval
    assert 2 <= taskdl_emulator.count("bls.list") <= 8 * turns
    # Some before the first list, each once in the end; one by one it is at least five times each.
    assert 40 <= taskdl_emulator.count("bls.status") <= 40 * 4
    assert taskdl_emulator.count("bls.link") == 40
