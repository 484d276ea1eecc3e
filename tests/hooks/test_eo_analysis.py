from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.exceptions import AuthenticationError, ConnectionConfigError
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from tests.hooks.wire import transport

CONNECTION: dict[str, Any] = {"conn_type": "eo_analysis", "host": "https://eo.example/svc/", "password": "the-Geheim"}


def _hook(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> EoAnalysisHook:
    monkeypatch.setenv("AIRFLOW_CONN_EO_ANALYSIS_DEFAULT", json.dumps({**CONNECTION, **changes}))
    return EoAnalysisHook()


def _sent(monkeypatch: pytest.MonkeyPatch, hook: EoAnalysisHook) -> httpx.Request:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"code": 200, "data": None})

    settings = hook._client_settings
    mock = transport(answer)
    monkeypatch.setattr(hook, "_client_settings", lambda: {**settings(), "transport": mock})
    hook.list_files("12345")
    hook.close()
    [request] = seen
    return request


@pytest.mark.parametrize(
    ("extra", "name", "value"),
    [
        ({}, "authorization", "Bearer the-Geheim"),
        ({"header_name": ""}, "authorization", "Bearer the-Geheim"),
        ({"header_prefix": None}, "authorization", "the-Geheim"),
        ({"header_prefix": ""}, "authorization", "the-Geheim"),
        ({"header_prefix": "Token "}, "authorization", "Token the-Geheim"),
        ({"header_name": "X-API-Key", "header_prefix": ""}, "x-api-key", "the-Geheim"),
    ],
)
def test_the_token_is_sent_as_the_connection_says(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], name: str, value: str
) -> None:
    request = _sent(monkeypatch, _hook(monkeypatch, extra=extra))
    assert request.headers[name] == value
    assert ("authorization" in request.headers) is (name == "authorization")


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://eo.example/svc"),
        ({"host": "eo.example"}, "https://eo.example"),
        ({"host": "http://10.0.0.1/a/b", "port": 8081}, "http://10.0.0.1:8081/a/b"),
    ],
)
def test_the_documented_path_stands_below_the_host_s_prefix(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], url: str
) -> None:
    request = _sent(monkeypatch, _hook(monkeypatch, **changes))
    assert (request.method, str(request.url)) == ("GET", f"{url}/analysis/task/get/Download/url?taskId=12345")


def test_blanks_around_the_token_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = _hook(monkeypatch, password=" the-Geheim\n")
    assert _sent(monkeypatch, hook).headers["authorization"] == "Bearer the-Geheim"
    assert hook.access.secrets == ("the-Geheim",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": None}, "API token.* is empty"),
        ({"password": "  "}, "API token.* is empty"),
        ({"password": "the\r\nGeheim"}, "no header field may hold"),
        ({"password": "the-Gehéim"}, "no header field may hold"),
        ({"host": None}, "needs a host"),
        ({"host": "https://u:the-Geheim@eo.example"}, "may hold no user"),
        ({"extra": {"header_name": "the Geheim"}}, "header_name"),
        ({"extra": {"header_prefix": "the\r\nGeheim"}}, "header_prefix"),
        ({"extra": {"allowed_link_hosts": "http://the-Geheim"}}, "allowed_link_hosts"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConnectionConfigError, match=f"connection 'eo_analysis_default': .*{said}") as caught:
        _hook(monkeypatch, **changes).list_files("1")
    assert "eheim" not in str(caught.value)


def test_another_connection_is_taken_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps({**CONNECTION, "host": "mine.example"}))
    hook = EoAnalysisHook("mine")
    assert hook.access.host == "mine.example"


def test_a_bad_task_id_reaches_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = _hook(monkeypatch)
    for call in (hook.list_files, hook.get_state):
        with pytest.raises(ConnectionConfigError, match="remote_task_id"):
            call("../x")


@pytest.mark.parametrize("first_page", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("tells_total", [True, False])
def test_tasks_are_listed_wherever_the_platform_begins_to_count_pages(
    monkeypatch: pytest.MonkeyPatch, first_page: int, count: int, tells_total: bool
) -> None:
    hook, asked = _hook(monkeypatch), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(body := json.loads(request.content))
        if body["page"] < first_page:
            return httpx.Response(200, json={"code": 400, "message": "page is a positive number"})
        start = (body["page"] - first_page) * body["size"]
        page = list(range(count))[max(0, start) : max(0, start + body["size"])]
        tasks = [{"id": number, "taskName": "area-1", "taskStatus": "COMPLETED"} for number in page]
        return httpx.Response(200, json={"code": 200, "data": {"total": count if tells_total else None, "list": tasks}})

    settings = hook._client_settings
    monkeypatch.setattr(hook, "_client_settings", lambda: {**settings(), "transport": transport(answer)})
    found = list(hook.list_analysis_tasks("area-1", page_size=2))
    hook.close()
    assert sorted(str(task.id) for task in found) == [str(number) for number in range(count)]
    assert {(task.task_name, str(task.task_state)) for task in found} <= {("area-1", "success")}
    assert all(body["taskName"] == "area-1" for body in asked)
    assert len(asked) <= count // 2 + 2
    assert len({body["page"] for body in asked}) == len(asked)


def test_a_first_page_that_is_refused_for_another_reason_is_no_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = _hook(monkeypatch)

    def answer(request: httpx.Request) -> httpx.Response:
        page = json.loads(request.content)["page"]
        return httpx.Response(200, json={"code": 200 if page else 403, "data": {"list": []}})

    settings = hook._client_settings
    monkeypatch.setattr(hook, "_client_settings", lambda: {**settings(), "transport": transport(answer)})
    with pytest.raises(AuthenticationError):
        list(hook.list_analysis_tasks("area-1"))
    hook.close()
