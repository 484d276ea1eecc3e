"""The rows of the matrix for the services' answers, one by one, by both clients."""

from __future__ import annotations

import gc
import json
import logging
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    MalformedResponseError,
    ServiceUnavailableError,
    TaskApiError,
    TaskDownloadError,
)
from airflow_provider_taskdl.hooks import exchange
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.hooks.eo_market import EoMarketHook
from airflow_provider_taskdl.hooks.exchange import MAX_ANSWER_BYTES
from airflow_provider_taskdl.hooks.pace import forget_paces
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Fault, Redirect, Task
from tests.canary import CANARY, assert_canary_free
from tests.faults.api_matrix import (
    FILES,
    LENGTHS,
    NAMED,
    RETRY_AFTER,
    ROWS,
    SIZES,
    STATUSES,
    WAIT,
    WEATHER,
    Row,
    Service,
    endless,
)
from tests.hooks.twins import list_async, list_sync
from tests.transfer.harness import empty, until
from tests.transfer.hosts import Answer, Host, Visit, head, whole

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]
Lists = Callable[[TaskApiHook, str], FileListing]
SERVICES: dict[Service, type[TaskApiHook]] = {"bls": BlsHook, "eo": EoAnalysisHook, "market": EoMarketHook}
TOO_LONG = ("longer than 8 MiB", "behind its end")
UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"


@pytest.fixture(autouse=True)
def _no_pace_of_another_row() -> None:
    forget_paces()


@pytest.fixture(params=[list_sync, list_async], ids=["sync", "async"])
def lists(request: pytest.FixtureRequest) -> Lists:
    """Ask for a task's files by one of the two clients."""
    found: Lists = request.param
    return found


@pytest.fixture(params=list(SERVICES))
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.param
    return found


@pytest.fixture
def hook_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TaskApiHook]:
    """Make the hook for a service at some address; its credentials are the canary."""

    def make(service: Service, url: str, seconds: float = 10.0) -> TaskApiHook:
        connection = {
            "conn_type": SERVICES[service].conn_type, "host": url, "login": "key", "password": CANARY,
            "extra": {"timeout": seconds},
        }  # fmt: skip
        monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps(connection))
        return SERVICES[service]("service")

    return make


@pytest.fixture(scope="module")
def world() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator(token=CANARY, secret_access_key=CANARY, access_key_id="key")) as server:
        yield server


@pytest.fixture
def emulator(world: EmulatorServer) -> Emulator:
    emulator = world.emulator
    empty(emulator)
    return emulator


def _task(emulator: Emulator, service: Service) -> Task:
    if service == "bls":
        return emulator.bls_task(b"x")
    return (emulator.eo_task if service == "eo" else emulator.market_order)({"a.tif": b"123"})


def _check(row: Row, ask: Callable[[], FileListing], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    if row.outcome in (FILES, WAIT):
        listing = ask()
        assert listing.is_ready is (row.outcome == FILES)
        assert_canary_free(listing, listing.summary())
    else:
        with pytest.raises(TaskDownloadError) as caught:
            ask()
        error = caught.value
        assert type(error) is row.outcome
        assert error.retryable is row.retryable, "whether another try may help"
        assert row.says in str(error)
        assert error.__cause__ is error.__context__ is None
        assert_canary_free(error, error.to_dict())
    assert_canary_free(caplog.records)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_answer_comes_to_what_the_matrix_says(
    row: Row, service: Service, lists: Lists, hook_for: Callable[..., TaskApiHook], world: EmulatorServer,
    emulator: Emulator, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if row.name in NAMED and service == "market":
        row = replace(row, outcome=FILES)  # its listing holds no names to be wrong
    if isinstance(row.fault, Fault):
        task = _task(emulator, service)
        emulator.fault(f"{service}.link", _worded(row.fault, service))
        url = world.base_url + ("" if service == "bls" else emulator.eo_prefix)
        _check(row, lambda: lists(hook_for(service, url, row.seconds), task.id), caplog)
        assert emulator.count(f"{service}.link") == len(emulator.requests) == row.requests
        return
    with Host(row.fault(service)) as host:
        _check(row, lambda: lists(hook_for(service, host.url(""), row.seconds), UUID), caplog)
        until(lambda: len(host.requests) >= row.requests)  # it may be read after it was given up
        assert len(host.requests) == row.requests


def _worded(fault: Fault, service: Service) -> Fault:
    """Return a refusal in the service's own words: codes are names at BLS, numbers at the others."""
    error = getattr(fault, "error", None)
    if error is None:
        return fault
    if service != "bls":
        return replace(fault, error=None)  # type: ignore[type-var]
    return fault if not error.isdigit() else replace(fault, error=None)  # type: ignore[type-var]


@pytest.mark.parametrize("row", SIZES, ids=lambda row: row.name)
def test_a_size_comes_to_what_the_matrix_says(
    row: Row, lists: Lists, hook_for: Callable[..., TaskApiHook], caplog: pytest.LogCaptureFixture
) -> None:
    assert not isinstance(row.fault, Fault)
    with Host(row.fault("eo")) as host:
        _check(row, lambda: lists(hook_for("eo", host.url("")), "7"), caplog)
        assert len(host.requests) == row.requests


def test_nobody_at_the_port_is_weather(service: Service, lists: Lists, hook_for: Callable[..., TaskApiHook]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ServiceUnavailableError, match="cannot be reached") as caught:
        lists(hook_for(service, f"http://127.0.0.1:{port}"), UUID)
    assert caught.value.retryable


@pytest.mark.parametrize("said", RETRY_AFTER, ids=lambda said: f"{said[:32]!r}")
def test_every_status_comes_to_what_the_matrix_says(
    said: str, service: Service, lists: Lists, hook_for: Callable[..., TaskApiHook]
) -> None:
    statuses = iter(range(400, 505))
    expected = RETRY_AFTER[said]
    with Host(by=lambda request: whole(b"", f"{next(statuses)} x", Retry_After=said or None)) as host:
        hook = hook_for(service, host.url(""))
        for status in range(400, 505):
            forget_paces()  # the next question would wait as long as was asked for
            vars(hook).pop("_pace", None)
            with pytest.raises(TaskApiError) as caught:
                _once(hook, lists)
            error, kind = caught.value, STATUSES.get(status, TaskApiError)
            assert type(error) is kind, status
            assert error.retryable is kind.default_retryable
            if kind in WEATHER and expected is not None:
                assert expected[0] <= (-1 if error.retry_after is None else error.retry_after) <= expected[1]
            else:
                assert error.retry_after is None
        hook.close()
        assert len(host.requests) == 105, "a hook asks once: whether to ask again is for others to decide"


def _once(hook: TaskApiHook, lists: Lists) -> FileListing:
    return hook.list_files(UUID) if lists is list_sync else list_async(hook, UUID)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_follow_no_redirect(
    status: int, service: Service, lists: Lists, hook_for: Callable[..., TaskApiHook], world: EmulatorServer,
    emulator: Emulator,
) -> None:  # fmt: skip
    with Host(whole(b"{}")) as other:
        emulator.fault(f"{service}.link", Redirect(other.url("/x"), status))
        url = world.base_url + ("" if service == "bls" else emulator.eo_prefix)
        with pytest.raises(MalformedResponseError, match="redirect"):
            lists(hook_for(service, url), _task(emulator, service).id)
        assert other.connections == 0
    assert len(emulator.requests) == 1


@pytest.mark.parametrize("row", [row for row in LENGTHS if row.says in TOO_LONG], ids=lambda row: row.name)
def test_what_is_too_long_is_neither_read_nor_unpacked_whole(
    row: Row, lists: Lists, hook_for: Callable[..., TaskApiHook]
) -> None:
    assert not isinstance(row.fault, Fault)
    with Host(row.fault("eo")) as host:
        hook = hook_for("eo", host.url(""))
        assert hook.access.tls  # whose certificates are no part of an answer
        gc.collect()
        tracemalloc.start()
        try:
            with pytest.raises(MalformedResponseError):
                lists(hook, "7")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # The body grows by an eighth at a time, so that it is there twice for a moment; the host's own pieces are small.
    assert peak < 2.5 * MAX_ANSWER_BYTES + (9 * 2**20 if "huge" in row.name else 0)


def _drip(start: bytes, piece: bytes) -> Callable[[Service], Answer]:
    def answer(visit: Visit) -> None:
        visit.send(start)
        while True:
            visit.send(piece)
            time.sleep(0.01)

    return lambda service: answer


@pytest.mark.parametrize(
    "answer",
    [
        _drip(head(Content_Length=10**9), b" "),
        _drip(head(), b" "),
        _drip(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        _drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=[
        "a byte now and then",
        "a byte now and then, as long as the connection is there",
        "a field now and then",
        "please wait",
        "please go on, without end",
    ],
)
def test_an_answer_that_does_not_end_is_given_up(
    answer: Callable[[Service], Answer], lists: Lists, hook_for: Callable[..., TaskApiHook],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(exchange, "MAX_ANSWER_SECONDS", 0.5)
    with Host(answer("eo")) as host:
        with pytest.raises(ServiceUnavailableError, match=r"did not finish its answer within 0\.5 s") as caught:
            lists(hook_for("eo", host.url("")), "7")
        assert caught.value.retryable
        assert caught.value.__context__ is None
        until(lambda: host.requests)
        assert len(host.requests) == 1


def test_the_connection_after_one_that_was_given_up_works(
    lists: Lists, hook_for: Callable[..., TaskApiHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    listing: Any = {"code": 200, "data": {"downloadUrls": []}}
    slow = _drip(head(Content_Length=10**9), b" ")("eo")
    with Host(slow, whole(json.dumps(listing).encode())) as host:
        hook = hook_for("eo", host.url(""))
        with monkeypatch.context() as patch:
            patch.setattr(exchange, "MAX_ANSWER_SECONDS", 0.5)
            with pytest.raises(ServiceUnavailableError):
                lists(hook, "7")
        assert not lists(hook, "7").is_ready


def test_a_connection_that_comes_after_the_time_is_of_no_use(
    hook_for: Callable[..., TaskApiHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_ANSWER_SECONDS", 0.2)
    connect = socket.create_connection

    def slow(*args: Any, **kwargs: Any) -> socket.socket:
        time.sleep(0.5)
        return connect(*args, **kwargs)

    was_heard_out = threading.Event()

    def answer(visit: Visit) -> None:
        visit.send(head(Content_Length=10**9))
        for _ in range(500):
            visit.send(b" ")
            time.sleep(0.01)
        was_heard_out.set()

    with Host(answer) as host:
        hook = hook_for("eo", host.url(""))
        assert hook.access.tls  # is read in its own time
        monkeypatch.setattr(socket, "create_connection", slow)
        with pytest.raises(ServiceUnavailableError, match="did not finish its answer"):
            list_sync(hook, "7")
        assert not was_heard_out.is_set()
