from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.exceptions import AuthenticationError, ConnectionConfigError, ServiceUnavailableError
from airflow_provider_taskdl.hooks.bls import BlsHook
from tests.hooks.wire import transport

UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
CONNECTION: dict[str, Any] = {"conn_type": "baidu_bls", "login": "the-access-key", "password": "the-Geheim-key"}
Connect = Callable[..., BlsHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    def make(answer: Callable[[httpx.Request], httpx.Response] | None = None, **changes: Any) -> BlsHook:
        monkeypatch.setenv("AIRFLOW_CONN_BAIDU_BLS_DEFAULT", json.dumps({**CONNECTION, **changes}))
        hook = BlsHook()
        settings = hook._client_settings
        if answer is not None:
            mock = transport(answer)
            monkeypatch.setattr(hook, "_client_settings", lambda: {**settings(), "transport": mock})
        return hook

    return make


class Service:
    """Keeps the requests and gives the scripted results in turn."""

    def __init__(self, *results: Any, status: int = 200) -> None:
        self.results, self.status = list(results), status
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status, json={"success": True, "code": "OK", "result": self.results.pop(0)})

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://bls-log.bj.baidubce.com"),
        ({"extra": {"region": ""}}, "https://bls-log.bj.baidubce.com"),
        ({"extra": {"region": "gz"}}, "https://bls-log.gz.baidubce.com"),
        ({"host": "bls.example/p/", "extra": {"region": "gz"}}, "https://bls.example/p"),
        ({"host": "http://127.0.0.1", "port": 8080}, "http://127.0.0.1:8080"),
    ],
)
def test_the_region_decides_the_endpoint_unless_there_is_a_host(
    connect: Connect, changes: dict[str, Any], url: str
) -> None:
    assert connect(**changes).access.base_url == url


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"login": None}, "Login"),
        ({"login": " "}, "Login"),
        ({"password": None}, "Password"),
        ({"password": " \n"}, "Password"),
        ({"password": "géheim"}, "Password .* no header field may hold"),
        ({"login": "kéy"}, "Login .* no header field may hold"),
        ({"extra": {"security_token": "ge\nheim"}}, "security_token .* no header field may hold"),
        ({"extra": {"region": "a/b"}}, "region"),
    ],
)
def test_incomplete_credentials_are_a_configuration_error(connect: Connect, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConnectionConfigError, match=f"connection 'baidu_bls_default': .*{said}") as caught:
        connect(**changes).list_files(UUID)
    assert "heim" not in str(caught.value)


@pytest.mark.parametrize(("extra", "token"), [({}, None), ({"security_token": " sts-token "}, "sts-token")])
def test_a_request_is_signed_with_the_connection(connect: Connect, extra: dict[str, Any], token: str | None) -> None:
    service = Service(None)
    hook = connect(service, extra=extra, login=" the-access-key ")
    assert hook.list_files(UUID).files == ()
    [request] = service.requests
    parts = request.headers["authorization"].split("/")
    assert parts[:2] == ["bce-auth-v1", "the-access-key"]
    assert ("x-bce-security-token" in parts[4]) is (token is not None)
    assert request.headers.get("x-bce-security-token") == token
    assert token is None or token in hook.access.secrets
    assert str(request.url) == f"https://bls-log.bj.baidubce.com/v2/logstore/download/link/{UUID}"


def test_each_try_is_a_new_request(connect: Connect) -> None:
    service = Service(None, None)
    hook = connect(service)
    hook.list_files(UUID)
    hook.list_files(UUID)
    assert len({id(request) for request in service.requests}) == 2
    assert all("authorization" in request.headers for request in service.requests)


def test_tasks_are_listed_page_by_page(connect: Connect) -> None:
    pages = [{"total": 5, "tasks": [{"uuid": f"{page}{n}"} for n in range(2)]} for page in (1, 2)]
    service = Service(*pages, {"total": 5, "tasks": [{"uuid": "30"}]})
    hook = connect(service)
    found = hook.list_download_tasks(project="p", log_store_name="ls", order_by="name", order="asc", page_size=2)
    assert service.requests == []
    assert [task.uuid for task in found] == ["10", "11", "20", "21", "30"]
    same = {"project": "p", "logStoreName": "ls", "orderBy": "name", "order": "asc", "pageSize": 2}
    assert service.bodies == [{**same, "pageNo": page} for page in (1, 2, 3)]


@pytest.mark.parametrize(
    ("pages", "count"),
    [
        ([None], 0),
        ([{"total": 0, "tasks": []}], 0),
        ([{"total": 2, "tasks": [{}, {}]}], 2),
        ([{"total": 9, "tasks": [{}]}, {"total": 9, "tasks": []}], 1),
        ([{"total": 2, "tasks": [{}]}, {"total": 1, "tasks": [{}]}], 2),
    ],
)
def test_the_listing_ends_with_the_total_or_an_empty_page(connect: Connect, pages: list[Any], count: int) -> None:
    service = Service(*pages)
    assert len(list(connect(service).list_download_tasks())) == count
    assert service.results == []


def test_without_a_total_a_short_page_is_the_last(connect: Connect) -> None:
    service = Service({"tasks": [{"uuid": "1"}, {"uuid": "2"}]}, {"tasks": [{"uuid": "3"}]})
    assert [task.uuid for task in connect(service).list_download_tasks(page_size=2)] == ["1", "2", "3"]


def test_a_failing_page_ends_the_listing_with_its_error(connect: Connect) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if json.loads(request.content)["pageNo"] == 2:
            return httpx.Response(503)
        return httpx.Response(200, json={"success": True, "result": {"total": 9, "tasks": [{"uuid": "1"}]}})

    found = connect(answer).list_download_tasks()
    assert next(found).uuid == "1"
    with pytest.raises(ServiceUnavailableError):
        next(found)


def test_a_task_is_created_once(connect: Connect) -> None:
    service = Service({"uuid": UUID})
    uuid = connect(service).create_download_task(
        log_store_name="ls",
        query_start_time="2020-01-10T13:23:34Z",
        query_end_time="2020-01-10T14:23:34+01:00",
        name="n",
        project="p",
        log_stream_name="s",
        query="match *",
        format="csv",
        limit=5,
        order="asc",
        file_dir="b/d/",
    )
    assert uuid == UUID
    [request] = service.requests
    assert (request.method, request.url.path) == ("POST", "/v2/logstore/download")
    assert service.bodies == [
        {
            "name": "n", "project": "p", "logStoreName": "ls", "logStreamName": "s", "query": "match *",
            "queryStartTime": "2020-01-10T13:23:34Z", "queryEndTime": "2020-01-10T13:23:34Z", "format": "csv",
            "limit": 5, "order": "asc", "fileDir": "b/d/",
        }
    ]  # fmt: skip


def test_an_unavailable_service_is_not_asked_twice_to_create(connect: Connect) -> None:
    service = Service(None, None, status=503)
    with pytest.raises(ServiceUnavailableError):
        connect(service).create_download_task(
            log_store_name="ls", query_start_time="2020-01-10", query_end_time="2020-01-11"
        )
    assert len(service.requests) == 1


def test_a_task_is_described(connect: Connect) -> None:
    service = Service({"task": {"uuid": UUID, "state": "FAILED", "failedCode": "E", "failedMessage": "m"}})
    task = connect(service).describe_download_task(UUID)
    assert (task.uuid, task.task_state, task.reason) == (UUID, "failed", "E: m")


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(204),
        httpx.Response(200, json={"success": True, "code": "success", "message": ""}),
        httpx.Response(404, json={"code": "DownloadTaskNotFound"}),
    ],
)
def test_a_deleted_task_is_gone(connect: Connect, response: httpx.Response) -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        return response

    connect(answer).delete_download_task(UUID)
    assert seen == [("DELETE", f"/v2/logstore/download/{UUID}")]


def test_a_refused_deletion_is_an_error(connect: Connect) -> None:
    with pytest.raises(AuthenticationError):
        connect(lambda request: httpx.Response(403, json={"code": "AccessDenied"})).delete_download_task(UUID)


@pytest.mark.parametrize(
    ("status", "body", "works", "said"),
    [
        (404, {"code": "DownloadTaskNotFound"}, True, "Baidu Log Service at bls-log.bj.baidubce.com accepts"),
        (401, {"code": "Unauthorized", "message": "invalid the-Geheim-key"}, False, "it refused the credentials"),
        (400, {"code": "SignatureDoesNotMatch"}, False, "it refused the credentials"),
        (503, {}, False, "Baidu Log Service is not available"),
        (404, {}, False, "no such API"),
    ],
)
def test_the_connection_test_changes_nothing(connect: Connect, status: int, body: Any, works: bool, said: str) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return httpx.Response(status, json=body)

    outcome, text = connect(answer).test_connection()
    assert outcome is works
    assert said in text
    assert "Geheim" not in text
    assert seen == ["GET"]
