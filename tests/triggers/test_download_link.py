from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.hooks import settings
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.testing import Emulator, Status
from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger
from airflow_provider_taskdl.triggers.events import read_event
from tests.airflow_versions import deserialize, serialize

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

SETTINGS = {
    "conn_id": "my_conn", "remote_task_id": "7", "deadline": 1_900_000_000.5, "poll_interval": 0.25,
    "not_found": "wait", "max_consecutive_errors": 4, "errors": 2, "first_wait": 1.5, "grace": 7.5,
}  # fmt: skip


def _trigger(task_id: str, *, seconds: float = 20.0, **settings: Any) -> DownloadLinkTrigger:
    defaults = {"conn_id": "eo_analysis_default", "poll_interval": 0.05, "deadline": time.time() + seconds}
    return DownloadLinkTrigger(remote_task_id=task_id, **{**defaults, **settings})


async def _events(trigger: DownloadLinkTrigger) -> list[dict[str, Any]]:
    return [event.payload async for event in trigger.run()]


def _one_event(trigger: DownloadLinkTrigger) -> dict[str, Any]:
    (event,) = asyncio.run(asyncio.wait_for(_events(trigger), 30))
    stored: dict[str, Any] = json.loads(json.dumps(event))
    return stored


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[TaskApiHook]:
    """The hooks whose async clients were closed."""
    hooks: list[TaskApiHook] = []
    aclose = TaskApiHook.aclose

    async def spy(hook: TaskApiHook) -> None:
        assert hook._clients_of
        await aclose(hook)
        hooks.append(hook)

    monkeypatch.setattr(TaskApiHook, "aclose", spy)
    return hooks


def test_an_equal_trigger_comes_back_from_the_database() -> None:
    trigger = DownloadLinkTrigger(**SETTINGS)  # type: ignore[arg-type]
    path, kwargs = trigger.serialize()
    assert path == "airflow_provider_taskdl.triggers.download_link.DownloadLinkTrigger"
    assert kwargs == SETTINGS
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert deserialize(serialize(kwargs)) == kwargs
    module, _, name = path.rpartition(".")
    kind = getattr(__import__(module, fromlist=[name]), name)
    assert kind(**kwargs).serialize() == (path, kwargs)


def test_what_an_earlier_version_stored_is_enough() -> None:
    needed = {name: SETTINGS[name] for name in ("conn_id", "remote_task_id", "deadline", "poll_interval")}
    _, kwargs = DownloadLinkTrigger(**needed).serialize()  # type: ignore[arg-type]
    assert kwargs == {
        **needed,
        "not_found": "fail",
        "max_consecutive_errors": 10,
        "errors": 0,
        "first_wait": 0.0,
        "grace": 0.0,
    }


def test_it_waits_until_the_links_are_there(taskdl_emulator: Emulator, closed: list[TaskApiHook]) -> None:
    task = taskdl_emulator.eo_task({"b.tif": b"123", "a.tif": b""}, ready_after=0.3)
    began = time.time()
    event = _one_event(_trigger(task.id))
    assert time.time() - began >= 0.25
    assert event == {
        "version": 1,
        "status": "ready",
        "summary": {"remote_task_id": task.id, "file_names": ["b.tif", "a.tif"], "file_count": 2, "total_size": 3},
    }
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("fault", "settings", "error"),
    [
        (Status(401), {}, "AuthenticationError"),
        (Status(403), {}, "AuthenticationError"),
        (Status(404), {}, "TaskNotFoundError"),
        (Status(400), {}, "TaskApiError"),
        (Status(503), {"max_consecutive_errors": 1}, "ServiceUnavailableError"),
        (Status(503), {"max_consecutive_errors": 3, "errors": 3}, "ServiceUnavailableError"),
        (Status(429, retry_after="0"), {"max_consecutive_errors": 1}, "RateLimitedError"),
    ],
)
def test_an_error_of_the_contract_becomes_one_event_and_the_same_error_again(
    taskdl_emulator: Emulator, closed: list[TaskApiHook], fault: Status, settings: dict[str, Any], error: str
) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"})
    taskdl_emulator.fault("eo.*", fault)
    event = _one_event(_trigger(task.id, **settings))
    assert (event["status"], event["error"]["type"], event["error"]["remote_task_id"]) == ("error", error, task.id)
    with pytest.raises(TaskDownloadError) as caught:
        read_event(event)
    assert type(caught.value).__name__ == error
    assert len(closed) == 1


def test_a_connection_of_another_kind_is_an_event_too(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http", "host": "example.org"}))
    event = _one_event(_trigger("7", conn_id="other"))
    assert (event["status"], event["error"]["type"]) == ("error", "ConnectionConfigError")


def test_a_bug_keeps_its_traceback(taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskApiHook, "arun_steps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _one_event(_trigger("7"))


@pytest.mark.parametrize(("poll_interval", "seconds"), [(0.05, 0.4), (60.0, 1.0)])
def test_it_ends_at_the_deadline_after_a_last_look(
    taskdl_emulator: Emulator, closed: list[TaskApiHook], poll_interval: float, seconds: float
) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=60)
    began = time.time()
    event = _one_event(_trigger(task.id, seconds=seconds, poll_interval=poll_interval))
    assert event == {"version": 1, "status": "timeout", "remote_task_id": task.id}
    # The loop's clock and the world's may differ by a little.
    assert seconds - 0.01 <= time.time() - began < seconds + 5
    if poll_interval > seconds:  # else the look before may end after the deadline, and is the last one
        assert taskdl_emulator.seen("eo.status")[-1].time >= began + seconds - 0.01
    assert len(closed) == 1


def test_what_is_ready_at_the_last_look_is_not_too_late(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=1.0)
    assert _one_event(_trigger(task.id, seconds=1.5, poll_interval=60))["status"] == "ready"


@pytest.mark.parametrize(("ready_after", "status"), [(0, "ready"), (60, "timeout")])
def test_a_deadline_that_passed_while_no_triggerer_ran_leaves_one_look(
    taskdl_emulator: Emulator, ready_after: float, status: str
) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=ready_after)
    assert _one_event(_trigger(task.id, seconds=-100, first_wait=30))["status"] == status
    assert taskdl_emulator.count("eo.status") == 1


def test_it_comes_no_sooner_than_the_service_asked(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"})
    taskdl_emulator.fault("eo.status", Status(429, retry_after="1"), times=1)
    assert _one_event(_trigger(task.id))["status"] == "ready"
    first, second = taskdl_emulator.seen("eo.*")[:2]
    assert second.time - first.time >= 1.0


def test_a_back_off_that_the_worker_began_is_kept(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"})
    began = time.time()
    _one_event(_trigger(task.id, first_wait=0.5, errors=1))
    assert taskdl_emulator.seen("eo.*")[0].time - began >= 0.5


def test_errors_never_become_a_hot_loop(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"})
    taskdl_emulator.fault("eo.*", Status(503))
    assert _one_event(_trigger(task.id, seconds=3.0, poll_interval=0.1))["status"] == "timeout"
    assert 2 <= taskdl_emulator.count("eo.*") <= 10


def test_a_cancelled_wait_ends_at_once_and_closes_its_client(
    taskdl_emulator: Emulator, closed: list[TaskApiHook]
) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=60)
    seen: list[dict[str, Any]] = []

    async def run() -> float:
        async def consume() -> None:
            seen.extend(await _events(_trigger(task.id, poll_interval=30)))

        waiting = asyncio.create_task(consume())
        while not taskdl_emulator.count("eo.status"):
            assert not waiting.done()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        began = time.time()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return time.time() - began

    assert asyncio.run(run()) < 10
    assert taskdl_emulator.count("eo.status") == 1
    assert (seen, len(closed)) == ([], 1)


class _LoopWatch:
    """Notes what a thread does that would stop an event loop: name look-ups, files, other processes, sleeps."""

    EVENTS = ("open", "socket.getaddrinfo", "subprocess.Popen", "sqlite3.connect", "time.sleep")

    def __init__(self) -> None:
        self.thread: int | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if self.thread is not None and event in self.EVENTS and threading.get_ident() == self.thread:
            self.seen.append(f"{event} {args!r}")


@pytest.fixture(scope="module")
def loop_watch() -> _LoopWatch:
    return _LoopWatch()  # an audit hook cannot be taken out again


def test_nothing_but_the_network_is_waited_for_on_the_loop(
    taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, loop_watch: _LoopWatch
) -> None:
    elsewhere: dict[str, bool] = {}

    def spy(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            elsewhere[name] = threading.get_ident() != loop_watch.thread
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    ready, slow = taskdl_emulator.eo_task({"a": b"1"}), taskdl_emulator.eo_task({"a": b"1"}, ready_after=0.3)

    async def run() -> None:
        await _events(_trigger(ready.id))  # loads what is loaded once per process
        spy(BaseHook, "get_connection")
        spy(httpx, "create_ssl_context")
        settings._ssl_context.cache_clear()
        loop_watch.thread = threading.get_ident()
        try:
            (event,) = await _events(_trigger(slow.id))
        finally:
            loop_watch.thread = None
        assert event["status"] == "ready"

    asyncio.run(run())
    assert loop_watch.seen == []
    # Airflow's own async way to the connection does without the sync one, from 3.1 on.
    assert elsewhere in ({"create_ssl_context": True}, {"create_ssl_context": True, "get_connection": True})


def test_no_step_holds_the_loop_for_long(taskdl_emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=0.3)

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        await _events(_trigger(task.id))
        caplog.clear()
        loop.slow_callback_duration = 0.5
        loop.set_debug(True)
        await _events(_trigger(task.id))
        return [record.getMessage() for record in caplog.records if record.name == "asyncio"]

    caplog.set_level(logging.WARNING, "asyncio")
    # The garbage collector or a busy machine may hold it up once; what we do holds it up each time.
    held_up = [asyncio.run(run()) for _ in range(3)]
    assert [] in held_up, held_up


def test_the_watch_of_the_loop_sees_what_blocks(loop_watch: _LoopWatch) -> None:
    loop_watch.thread = threading.get_ident()
    try:
        with open(__file__):
            pass
    finally:
        loop_watch.thread = None
    assert any(entry.startswith("open") for entry in loop_watch.seen)
    loop_watch.seen.clear()


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
def test_two_hundred_waits_share_one_loop(taskdl_emulator: Emulator, closed: list[TaskApiHook]) -> None:
    tasks = [taskdl_emulator.eo_task({"a": b"1"}, ready_after=1.0) for _ in range(200)]
    gaps: list[float] = []

    async def pulse() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    async def run() -> list[list[dict[str, Any]]]:
        beat = asyncio.create_task(pulse())
        waits = [_events(_trigger(task.id, poll_interval=0.5, seconds=60)) for task in tasks]
        results = await asyncio.gather(*waits)
        beat.cancel()
        return results

    results = asyncio.run(run())
    assert [events[0]["summary"]["remote_task_id"] for events in results] == [task.id for task in tasks]
    assert all(len(events) == 1 for events in results)
    assert len(closed) == 1
    assert sorted(gaps)[len(gaps) // 2] < 0.5
