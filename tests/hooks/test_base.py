from __future__ import annotations

import asyncio
import gc
import gzip
import json
import pickle
import re
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_taskdl.apis.base import Call
from airflow_provider_taskdl.apis.readiness import LinkWatch
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    PausedError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskDownloadError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.hooks.base import TaskApiHook, atask_hook, task_hook
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.hooks.exchange import MAX_ANSWER_BYTES
from airflow_provider_taskdl.hooks.pace import forget_paces
from airflow_provider_taskdl.listing import FileListing, TaskState
from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.airflow_versions import AIRFLOW
from tests.hooks.twins import list_async, list_sync
from tests.hooks.wire import transport

UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
SECRET, STS, TOKEN, PROXY_PASSWORD = "sk-Geheim/+=1", "sts-Geheim/+=2", "tok-Geheim/+=3", "proxy-Geheim4"
BLS = {
    "conn_type": "baidu_bls",
    "login": "the-access-key",
    "password": SECRET,
    "extra": {"security_token": STS, "proxy": f"http://u:{PROXY_PASSWORD}@proxy.example:3128"},
}
EO = {"conn_type": "eo_analysis", "host": "https://eo.example/svc", "password": TOKEN}
FILES = [{"fileName": "a.tif", "downloadUrl": "https://files.example/a?token=x", "fileSize": 3}]
LINKED = {"success": True, "code": "OK", "result": {"fileName": "a.json", "link": "https://files.example/a?sign=x"}}
Answer = Callable[[httpx.Request], httpx.Response]
Runner = Callable[[TaskApiHook, str], FileListing]


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that counts what was taken from it."""

    def __init__(self, chunk: bytes, count: int) -> None:
        self.chunk, self.count, self.taken, self.closed = chunk, count, 0, False

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            self.taken += len(self.chunk)
            yield self.chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in iter(self):
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture(params=[list_sync, list_async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.param
    return runner


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a hook whose client is answered by a function."""

    def make(kind: type[TaskApiHook], answer: Answer | None = None, **changes: Any) -> TaskApiHook:
        connection = {**(BLS if kind is BlsHook else EO), **changes}
        monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps(connection))
        hook = kind("service")
        settings = hook._client_settings
        if answer is not None:
            mock = transport(answer)
            monkeypatch.setattr(hook, "_client_settings", lambda: {**settings(), "proxy": None, "transport": mock})
        return hook

    return make


def _json(body: Any, status: int = 200, **headers: str) -> Answer:
    return lambda request: httpx.Response(status, json=body, headers=headers)


def test_a_hook_serves_one_event_loop_after_another(taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"})
    hook = EoAnalysisHook()

    async def ask() -> bool:
        try:
            return (await hook.alist_files(task.id)).is_ready and (await hook.alist_files(task.id)).is_ready
        finally:
            await hook.aclose()

    assert [asyncio.run(ask()) for _ in range(3)] == [True] * 3
    hook.close()


def test_clients_of_an_event_loop_that_is_over_are_not_used_again(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(EoAnalysisHook, _json({"code": 200, "data": None}))
    for _ in range(3):  # nobody closes it
        assert asyncio.run(hook.alist_files("1")).files == ()
        gc.collect()
    assert len(hook._clients_of) == 1
    monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps({**EO, "password": "another one"}))
    assert hook._has_changed(), "they are no reason to go on with the old credentials"


def _shown(error: BaseException) -> str:
    """Return all that anything can show of an error and of those it came from."""
    texts, seen = [], set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        texts += [str(one), repr(one), repr(vars(one)), repr(one.args), repr(pickle.dumps(str(one)))]
        texts.append("".join(traceback.format_exception(one)))
        todo += [one.__cause__, one.__context__]
    return "\n".join([*texts, repr(pickle.dumps(error)), json.dumps(getattr(error, "to_dict", dict)())])


def test_both_clients_give_the_same_listing(connect: Callable[..., TaskApiHook], run: Runner) -> None:
    hook = connect(EoAnalysisHook, _json({"code": 200, "data": {"downloadUrls": FILES}}))
    listing = run(hook, "12345")
    assert [(file.name, file.size) for file in listing.files] == [("a.tif", 3)]


@pytest.mark.parametrize(
    ("kind", "status", "body", "error"),
    [
        (BlsHook, 404, {"code": "DownloadTaskNotFound"}, TaskNotFoundError),
        (BlsHook, 401, {"code": "Unauthorized"}, AuthenticationError),
        (BlsHook, 400, {"code": "InvalidParameter"}, TaskApiError),
        (BlsHook, 429, {"code": "RequestLimited"}, RateLimitedError), (BlsHook, 204, None, MalformedResponseError),
        (EoAnalysisHook, 200, {"code": 404}, TaskNotFoundError),
        (EoAnalysisHook, 401, {"code": 401}, AuthenticationError),
        (EoAnalysisHook, 200, {"code": 500}, ServiceUnavailableError),
        (EoAnalysisHook, 302, None, MalformedResponseError), (EoAnalysisHook, 200, "page", MalformedResponseError),
    ],
)  # fmt: skip
def test_both_clients_give_the_same_error(
    connect: Callable[..., TaskApiHook],
    run: Runner,
    kind: type[TaskApiHook],
    status: int,
    body: Any,
    error: type[TaskDownloadError],
) -> None:
    task = UUID if kind is BlsHook else "12345"
    with pytest.raises(TaskDownloadError) as caught:
        run(connect(kind, _json(body, status, location="https://elsewhere.example/")), task)
    assert type(caught.value) is error
    assert caught.value.remote_task_id == task
    assert (caught.value.target or "").startswith("GET https://")


@pytest.mark.parametrize(
    ("raised", "error", "said"),
    [
        (httpx.ConnectTimeout("slow"), ServiceUnavailableError, r"did not answer within 30 s \(ConnectTimeout\)"),
        (httpx.ReadTimeout("slow"), ServiceUnavailableError, r"within 30 s \(ReadTimeout\)"),
        (httpx.PoolTimeout("slow"), ServiceUnavailableError, "within 30 s"),
        (httpx.ConnectError("no route"), ServiceUnavailableError, r"cannot be reached \(ConnectError: no route\)"),
        (httpx.ReadError(""), ServiceUnavailableError, "cannot be reached"),
        (httpx.RemoteProtocolError("cut"), ServiceUnavailableError, "cannot be reached"),
        (httpx.ProxyError("407"), ServiceUnavailableError, "cannot be reached"),
        (httpx.ConnectError("[SSL] record layer failure (x)"), ServiceUnavailableError, "does not speak TLS"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] x"), ConnectionConfigError, "CA bundle"),
    ],
)  # fmt: skip
def test_what_happens_on_the_way_is_an_error_of_the_tree(
    connect: Callable[..., TaskApiHook],
    run: Runner,
    raised: httpx.HTTPError,
    error: type[TaskDownloadError],
    said: str,
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(TaskDownloadError, match=said) as caught:
        run(connect(EoAnalysisHook, fail), "12345")
    assert type(caught.value) is error
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("status", [200, 500])
def test_an_oversized_answer_is_refused_without_being_read_whole(
    connect: Callable[..., TaskApiHook], run: Runner, status: int
) -> None:
    stream = Stream(b" " * 2**20, 1000)
    with pytest.raises(MalformedResponseError, match="longer than 8 MiB"):
        run(connect(EoAnalysisHook, lambda request: httpx.Response(status, stream=stream)), "12345")
    assert stream.taken == MAX_ANSWER_BYTES + 2**20
    assert stream.closed


def test_an_answer_that_unpacks_to_too_much_is_refused(connect: Callable[..., TaskApiHook], run: Runner) -> None:
    packed = gzip.compress(b" " * (MAX_ANSWER_BYTES + 1))
    answer = httpx.Response(200, stream=Stream(packed, 1), headers={"content-encoding": "gzip"})
    with pytest.raises(MalformedResponseError, match="longer than 8 MiB"):
        run(connect(EoAnalysisHook, lambda request: answer), "12345")


def test_an_answer_that_cannot_be_unpacked_is_malformed(connect: Callable[..., TaskApiHook], run: Runner) -> None:
    answer = httpx.Response(200, stream=Stream(b"plain", 1), headers={"content-encoding": "gzip"})
    with pytest.raises(MalformedResponseError, match="cannot be unpacked"):
        run(connect(EoAnalysisHook, lambda request: answer), "12345")


def _echo(status: int, shape: Callable[[str], Any], secrets: tuple[str, ...]) -> Answer:
    """Answer with all that was sent, and with secrets in clear, as no service should."""

    def answer(request: httpx.Request) -> httpx.Response:
        sent = " ".join(f"{name}: {value}" for name, value in request.headers.items())
        text = f"{request.method} {request.url} {sent} {' '.join(secrets)}"
        return httpx.Response(status, json=shape(text), headers={"x-bce-request-id": text})

    return answer


@pytest.mark.parametrize("kind", [BlsHook, EoAnalysisHook])
@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
@pytest.mark.parametrize(
    "shape",
    [
        lambda text: {"success": False, "code": "X", "message": text},
        lambda text: {"success": False, "code": text, "message": "m"},
        lambda text: {"code": 500, "message": text},
        lambda text: {"code": 401, "message": text},
        lambda text: {"code": 200, "data": {"downloadUrls": text}, "success": True, "result": text},
        lambda text: text,
    ],
)
def test_no_error_shows_a_secret_that_the_service_echoes(
    connect: Callable[..., TaskApiHook], run: Runner, kind: type[TaskApiHook], status: int, shape: Callable[[str], Any]
) -> None:
    secrets = (SECRET, STS) if kind is BlsHook else (TOKEN,)
    with pytest.raises(TaskDownloadError) as caught:
        run(connect(kind, _echo(status, shape, secrets)), UUID)
    shown = _shown(caught.value)
    assert not any(secret in shown for secret in ("Geheim", "bce-auth-v1", "the-access-key"))


@pytest.mark.parametrize("kind", [BlsHook, EoAnalysisHook])
def test_no_error_of_the_client_shows_what_was_sent(
    connect: Callable[..., TaskApiHook], run: Runner, kind: type[TaskApiHook]
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.LocalProtocolError(f"Illegal header value {dict(request.headers)}", request=request)

    with pytest.raises(ServiceUnavailableError) as caught:
        run(connect(kind, fail), UUID)
    assert not any(secret in _shown(caught.value) for secret in ("Geheim", "bce-auth-v1"))


@pytest.mark.parametrize("kind", [BlsHook, EoAnalysisHook])
def test_no_view_of_a_hook_shows_a_secret(connect: Callable[..., TaskApiHook], kind: type[TaskApiHook]) -> None:
    hook = connect(kind)
    assert hook.access.secrets
    assert "Geheim" not in f"{hook!r} {hook.access!r} {hook.access.auth!r} {hook.access.extras!r}"


def test_a_call_sends_path_query_and_json_below_the_base_url(connect: Callable[..., TaskApiHook]) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"x")

    hook = connect(EoAnalysisHook, answer)
    assert hook.run(Call("POST", "/p", lambda a: a.body, query={"a": "b c"}, body={"k": "ö"})) == b"x"
    [request] = seen
    assert (request.method, str(request.url)) == ("POST", "https://eo.example/svc/p?a=b%20c")
    assert (json.loads(request.content), request.headers["content-type"]) == ({"k": "ö"}, "application/json")
    assert request.headers["accept"] == "application/json"


@pytest.mark.parametrize(("status", "is_hint", "holds"), [(503, False, True), (503, True, False), (429, True, True)])
def test_a_hint_that_is_to_come_later_speaks_for_itself_unless_it_is_about_the_caller(
    connect: Callable[..., TaskApiHook], status: int, is_hint: bool, holds: bool
) -> None:
    hook = connect(EoAnalysisHook, _json({"code": status}, status, **{"retry-after": "60"}))
    state = replace(EoAnalysisHook.api.get_status("7"), is_hint=is_hint)
    for number in range(2):
        with pytest.raises(PausedError if holds and number else TaskApiError) as caught:
            hook.run(state)
        assert isinstance(caught.value, PausedError) is (holds and number == 1)
    forget_paces()


@pytest.mark.parametrize(
    ("extra", "timeout", "proxy"),
    [({}, 30.0, None), ({"timeout": 3, "proxy": "http://p.example:1"}, 3.0, "http://p.example:1")],
)
def test_the_extras_reach_the_client(
    connect: Callable[..., TaskApiHook], extra: dict[str, Any], timeout: float, proxy: str | None
) -> None:
    settings = connect(EoAnalysisHook, extra=extra)._client_settings()
    assert (settings["timeout"], settings["proxy"], settings["follow_redirects"]) == (timeout, proxy, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extra": {"timeout": "soon"}}, "connection 'service': .*timeout"),
        ({"extra": {"verify": "/no/such/bundle"}}, "/no/such/bundle"),
        ({"host": "ftp://h"}, "connection 'service': .*http"),
        ({"password": ""}, "connection 'service': Password"),
    ],
)
def test_a_connection_that_cannot_be_used_says_why(
    connect: Callable[..., TaskApiHook], run: Runner, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConnectionConfigError, match=said) as caught:
        run(connect(EoAnalysisHook, **changes), "12345")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://u:{}/x@proxy:3128", "u:{}/x@proxy:3128", "ftp://u:{}@p", "socks5://u:{}@p"])
def test_an_environment_whose_proxy_is_no_url_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, connect: Callable[..., TaskApiHook], run: Runner, name: str, proxy: str
) -> None:
    for other in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.upper(), raising=False)
    monkeypatch.setenv(name, proxy.format(PROXY_PASSWORD))
    with pytest.raises(ConnectionConfigError, match="environment") as caught:
        run(connect(EoAnalysisHook), "12345")
    assert PROXY_PASSWORD not in _shown(caught.value)
    assert caught.value.__context__ is None


def test_plain_http_and_unknown_extras_are_warned_of(
    connect: Callable[..., TaskApiHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(EoAnalysisHook, host="http://eo.example", extra={"zeta": 1})
    said: list[str] = []
    monkeypatch.setattr(hook.log, "warning", lambda text, *args: said.append(text % args))
    assert hook.access.base_url == "http://eo.example"
    assert "without encryption" in said[0]
    assert "zeta" in said[1]


@pytest.mark.parametrize("host", ["127.0.0.1:8099", "localhost", "[::1]:80/prefix"])
def test_plain_http_that_stays_on_this_machine_is_not_warned_of(
    connect: Callable[..., TaskApiHook], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    hook = connect(EoAnalysisHook, host=f"http://{host}")
    said: list[str] = []
    monkeypatch.setattr(hook.log, "warning", said.append)
    assert hook.access.base_url == f"http://{host}"
    assert said == []


@pytest.mark.parametrize(
    ("changes", "answer", "works", "said"),
    [
        ({}, _json({"code": 404}), True, "EO analysis platform at eo.example accepts the credentials"),
        ({}, _json({"code": 200, "data": None}), True, "accepts"),
        ({}, _json({"code": 401, "message": TOKEN}), False, "it refused the credentials"),
        ({}, _json({"code": 500}), False, "^EO analysis platform is not available"),
        ({}, _json({}, 404), False, "no such API"), ({}, _json({}, 429), False, "fewer requests"),
        ({"extra": {"zeta": 1}}, _json({"code": 404}), False, "zeta.*known: allowed_link_hosts"),
        # Airflow's button tests under an id of its own making: that is not shown.
        pytest.param(
            {"extra": "[1]"}, None, False, "^the connection's extra is not a JSON object",
            marks=pytest.mark.skipif(
                AIRFLOW in ((3, 0), (3, 1)),
                reason="Airflow 3.0 and 3.1 do not find a connection whose extra is no JSON object",
            ),
        ),
        ({"password": None}, None, False, "^Password .the API token. is empty"),
    ],
)  # fmt: skip
def test_the_connection_test_tells_what_is_wrong(
    connect: Callable[..., TaskApiHook], changes: dict[str, Any], answer: Answer | None, works: bool, said: str
) -> None:
    outcome, text = connect(EoAnalysisHook, answer, **changes).test_connection()
    assert outcome is works
    assert re.search(said, text)
    assert "Geheim" not in text


def test_an_unreachable_host_is_told_from_refused_credentials(connect: Callable[..., TaskApiHook]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    works, text = connect(EoAnalysisHook, fail).test_connection()
    assert not works
    assert text.startswith("EO analysis platform at eo.example cannot be reached (ConnectError: no route)")


def test_a_host_without_tls_is_told_how_to_write_http(connect: Callable[..., TaskApiHook]) -> None:
    with EmulatorServer(Emulator()) as plain:
        hook = connect(EoAnalysisHook, host=plain.base_url.removeprefix("http://"))
        works, text = hook.test_connection()
        hook.close()
    assert not works
    assert text.startswith("EO analysis platform at 127.0.0.1 does not speak TLS on this port; http:// is used only")


@pytest.mark.parametrize(("status", "state"), [(2, TaskState.RUNNING), (3, TaskState.SUCCESS), (9, TaskState.UNKNOWN)])
def test_both_clients_give_the_same_state(connect: Callable[..., TaskApiHook], status: int, state: TaskState) -> None:
    hook = connect(EoAnalysisHook, _json({"code": 200, "data": {"taskStatus": status}}))
    assert hook.get_state("1") is asyncio.run(hook.aget_state("1")) is state


def test_a_service_without_states_gives_unknown(
    connect: Callable[..., TaskApiHook], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(EoAnalysisHook)
    monkeypatch.setattr(type(hook.api), "get_status", lambda api, task: None)
    assert hook.get_state("1") is asyncio.run(hook.aget_state("1")) is TaskState.UNKNOWN


@pytest.mark.parametrize("status", [{"code": 200, "data": {"taskStatus": 3}}, {"code": 404}, "page"])
def test_both_clients_run_the_same_steps(connect: Callable[..., TaskApiHook], status: Any) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if "detailV2" in request.url.path:
            return httpx.Response(200, json=status)
        return httpx.Response(200, json={"code": 200, "data": {"downloadUrls": FILES}})

    hook = connect(EoAnalysisHook, answer)
    by_sync = hook.run_steps(LinkWatch(hook.api, "1", 5.0).look())
    by_async = asyncio.run(hook.arun_steps(LinkWatch(hook.api, "1", 5.0).look()))
    assert by_sync == by_async
    assert by_sync.listing is not None
    assert asked[:2] == asked[2:] == ["/svc/analysis/task/query/detailV2", "/svc/analysis/task/get/Download/url"]


def test_both_clients_end_the_steps_with_the_same_error(connect: Callable[..., TaskApiHook]) -> None:
    hook = connect(EoAnalysisHook, _json({"code": 401}))
    with pytest.raises(AuthenticationError) as by_sync:
        hook.run_steps(LinkWatch(hook.api, "1", 5.0).look())
    with pytest.raises(AuthenticationError) as by_async:
        asyncio.run(hook.arun_steps(LinkWatch(hook.api, "1", 5.0).look()))
    assert str(by_sync.value) == str(by_async.value)


def _atask_hook(conn_id: str) -> TaskApiHook:
    return asyncio.run(atask_hook(conn_id))


@pytest.mark.parametrize("find", [task_hook, _atask_hook])
@pytest.mark.parametrize("kind", ["http", "no_such_type", None])
def test_a_connection_of_another_type_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, find: Callable[[str], TaskApiHook], kind: str | None
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": kind, "host": "h", "password": SECRET}))
    with pytest.raises(
        ConnectionConfigError, match=f"'other' is of type {kind!r}, which lists no task files"
    ) as caught:
        find("other")
    assert "Geheim" not in _shown(caught.value)


@pytest.mark.parametrize("find", [task_hook, _atask_hook])
def test_a_connection_of_a_known_type_gives_its_hook(
    monkeypatch: pytest.MonkeyPatch, find: Callable[[str], TaskApiHook]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SERVICE", json.dumps(EO))
    monkeypatch.setattr(Connection, "get_hook", lambda connection: EoAnalysisHook(connection.conn_id))
    hook = find("service")
    monkeypatch.delenv("AIRFLOW_CONN_SERVICE")
    assert hook.access.base_url == "https://eo.example/svc"


def test_a_closed_hook_opens_a_new_client(connect: Callable[..., TaskApiHook]) -> None:
    hook = connect(EoAnalysisHook, _json({"code": 200, "data": None}))
    for _ in range(2):
        assert not hook.list_files("1").is_ready
        hook.close()
    hook.close()


def test_a_hook_that_nobody_keeps_leaves_no_connection_open(connect: Callable[..., TaskApiHook]) -> None:
    with EmulatorServer(Emulator()) as server:
        hook = connect(EoAnalysisHook, host=server.base_url)
        with pytest.raises(TaskApiError):
            hook.list_files("1")
        client = hook._client
        del hook
        gc.collect()
        assert client.is_closed
