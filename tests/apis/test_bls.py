from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.apis.base import Answer, Call
from airflow_provider_taskdl.apis.bls import REGIONS, BlsApi, DownloadTask, endpoint
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskDownloadError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import ListedTask, TaskPage, TaskState, TaskStatus

UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
LINK = (
    f"https://bls-test.bj.bcebos.com/test/test_json_{UUID}.json?responseContentDisposition=attachment&authorization="
    "bce-auth-v1%2Fe3dd1082f1004b58ac81ddd9c7d706e4%2F2024-11-05T09%3A29%3A30Z%2F300%2Fhost%2Fd83c3bfbe22cf6ea4ca7457f"
)
LINKED = {
    "code": "OK",
    "success": True,
    "result": {"fileDir": "bls-test/test/", "fileName": f"test_json_{UUID}.json", "link": LINK},
}
TASK = {
    "uuid": UUID, "name": "n", "project": "default", "logStoreName": "ls", "query": "match *", "format": "json",
    "queryStartTime": "2020-01-10T13:23:34Z", "queryEndTime": "2020-01-10T14:23:34Z", "limit": 1000, "order": "desc",
    "state": "SUCCESS", "failedCode": "", "failedMessage": "", "writtenRows": 7, "fileDir": "", "fileName": "f.json",
    "execStartTime": "t", "execEndTime": "t", "createdTime": "t", "updatedTime": "t", "retry": 0,
}  # fmt: skip
NOT_FOUND = {"success": False, "code": "DownloadTaskNotFound", "message": "Download task not found"}
API = BlsApi()
CALLS: dict[str, Callable[[], Call[Any]]] = {
    "link": lambda: API.list_files(UUID),
    "status": lambda: API.get_status(UUID),
    "describe": lambda: API.describe_download_task(UUID),
    "list": API.list_download_tasks,
    "page": lambda: API.list_tasks(1),
    "create": lambda: API.create_download_task(
        log_store_name="ls", query_start_time="2020-01-10", query_end_time="2020-01-11"
    ),
    "delete": lambda: API.delete_download_task(UUID),
}


def _answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {"x-bce-request-id": "r-1", **headers}, raw)


def _shape(call: Call[Any]) -> tuple[Any, ...]:
    return call.method, call.path, dict(call.query), call.body, call.remote_task_id


def test_the_documented_link_is_read() -> None:
    listing = API.list_files(UUID).read(_answer(LINKED))
    [file] = listing.files
    assert (listing.remote_task_id, file.name, file.size) == (UUID, f"test_json_{UUID}.json", None)
    assert file.link is not None
    assert file.link.reveal() == LINK
    assert file.link.expires_at == datetime(2024, 11, 5, 9, 34, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "body",
    [
        {**LINKED, "result": None},
        {"success": True, "code": "OK"},
        {**LINKED, "result": {}},
        {**LINKED, "result": {"fileName": "f", "link": None}},
        {**LINKED, "result": {"fileName": "f", "link": ""}},
        {**LINKED, "result": {"fileName": "f", "link": "  "}},
        {**LINKED, "result": {"fileDir": "", "fileName": "", "link": ""}},
    ],
)
def test_a_null_result_or_empty_link_is_not_ready(body: Any) -> None:
    listing = API.list_files(UUID).read(_answer(body))
    assert listing.files == ()
    assert not listing.is_ready


@pytest.mark.parametrize("name", [None, ""])
def test_a_link_without_a_file_name_is_malformed_and_not_quoted(name: str | None) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        API.list_files(UUID).read(_answer({**LINKED, "result": {"fileName": name, "link": LINK}}))
    assert "bce-auth" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {**LINKED, "message": "", "requestId": "x", "more": [1]},
        {"success": True, "code": "success", "result": LINKED["result"]},
        {"success": True, "code": "Odd", "result": LINKED["result"]},
        {"success": True, "result": LINKED["result"]},
        {"code": "OK", "result": LINKED["result"]},
        {"result": LINKED["result"]},
        b"\xef\xbb\xbf" + json.dumps(LINKED).encode(),
        {**LINKED, "message": "成功"},
    ],
)
def test_the_success_flag_decides_before_the_code(body: Any) -> None:
    assert API.list_files(UUID).read(_answer(body)).is_ready


@pytest.mark.parametrize("code", ["OK", "success", "Odd", None])
def test_a_false_success_flag_is_a_refusal_whatever_the_code(code: str | None) -> None:
    with pytest.raises(TaskApiError) as caught:
        API.list_files(UUID).read(_answer({**LINKED, "success": False, "code": code}))
    assert type(caught.value) is TaskApiError
    assert (caught.value.code, caught.value.request_id) == (code or "HTTP 200", "r-1")


def test_a_bad_code_without_a_flag_is_a_refusal() -> None:
    with pytest.raises(TaskApiError, match="no!"):
        API.list_files(UUID).read(_answer({"code": "InvalidParameter", "message": "no!"}))


def test_a_body_that_comes_with_204_is_read_as_the_page_shows_it() -> None:
    assert CALLS["link"]().read(_answer(LINKED, 204)).is_ready


@pytest.mark.parametrize("call", sorted(set(CALLS) - {"delete"}))
@pytest.mark.parametrize("answer", [_answer(b"", 204), _answer(b"")])
def test_an_answer_without_a_body_is_malformed(call: str, answer: Answer) -> None:
    with pytest.raises(MalformedResponseError, match="without a body"):
        CALLS[call]().read(answer)


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(
    "body",
    [
        b"<html>login</html>",
        b"[]",
        b"null",
        b'{"success": "maybe"}',
        b'{"result": 5}',
        b"{}",
        b'{"status": "ok"}',
        b'{"error": "invalid_token"}',
        b'{"message": "no Route matched"}',
    ],
)
def test_what_is_not_this_api_is_malformed(call: str, body: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        CALLS[call]().read(_answer(body, content_type="text/html"))


ERRORS: list[tuple[int, str, type[TaskDownloadError]]] = [
    (404, "DownloadTaskNotFound", TaskNotFoundError), (400, "InvalidParameter", TaskApiError),
    (400, "MalformedJSON", TaskApiError), (400, "InappropriateJSON", TaskApiError),
    (401, "Unauthorized", AuthenticationError), (403, "AccessDenied", AuthenticationError),
    (403, "InvalidAccessKeyId", AuthenticationError), (400, "SignatureDoesNotMatch", AuthenticationError),
    (400, "InvalidHTTPAuthHeader", AuthenticationError), (400, "IamSignatureInvalid", AuthenticationError),
    (400, "RequestExpired", AuthenticationError), (400, "MissingDateHeader", AuthenticationError),
    (401, "AuthError", AuthenticationError), (403, "OptInRequired", AuthenticationError),
    (404, "ProjectNotFound", TaskApiError), (404, "LogStoreNotFound", TaskApiError),
    (404, "InvalidVersion", TaskApiError), (412, "PreconditionFailed", TaskApiError),
    (413, "RequestOverload", TaskApiError), (429, "RequestLimited", RateLimitedError),
    (500, "InternalError", ServiceUnavailableError), (503, "ServiceUnavailable", ServiceUnavailableError),
]  # fmt: skip


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(("status", "code", "kind"), ERRORS)
def test_each_documented_error_has_its_class(call: str, status: int, code: str, kind: type[TaskDownloadError]) -> None:
    if call == "delete" and kind is TaskNotFoundError:
        assert CALLS[call]().read(_answer({"code": code}, status)) is None
        return
    with pytest.raises(TaskDownloadError) as caught:
        CALLS[call]().read(_answer({"code": code, "message": "why", "requestId": "x"}, status))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.request_id) == (code, "r-1")


@pytest.mark.parametrize(("status", "code", "kind"), [row for row in ERRORS if row[0] != 404 or "Task" in row[1]])
def test_an_error_is_the_same_with_status_200(status: int, code: str, kind: type[TaskDownloadError]) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        API.list_files(UUID).read(_answer({"success": False, "code": code, "message": "why"}))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, MalformedResponseError), (400, TaskApiError), (401, AuthenticationError), (403, AuthenticationError),
        (404, MalformedResponseError), (429, RateLimitedError), (502, ServiceUnavailableError),
        (504, ServiceUnavailableError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"", b"<html>geheim</html>", b"[]", b'{"code": ["x"]}'])
def test_without_the_service_s_own_words_the_status_decides(
    status: int, kind: type[TaskDownloadError], body: bytes
) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        API.list_files(UUID).read(_answer(body, status))
    assert type(caught.value) is kind
    assert "geheim" not in str(caught.value)


def test_an_expired_request_hints_at_the_clock() -> None:
    with pytest.raises(AuthenticationError, match="clock"):
        API.list_files(UUID).read(_answer({"code": "RequestExpired", "message": "Request has expired."}, 400))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("WAITING", TaskState.WAITING), ("RUNNING", TaskState.RUNNING), ("SUCCESS", TaskState.SUCCESS),
        ("FAILED", TaskState.FAILED), ("EXPIRED", TaskState.EXPIRED), ("running", TaskState.RUNNING),
        ("Archived", TaskState.UNKNOWN), ("", TaskState.UNKNOWN), (None, TaskState.UNKNOWN), (3, TaskState.UNKNOWN),
    ],
)  # fmt: skip
def test_each_state_has_its_word(state: object, expected: TaskState) -> None:
    body = {"success": True, "code": "OK", "result": {"task": {**TASK, "state": state}}}
    assert API.get_status(UUID).read(_answer(body)) == TaskStatus(expected, group="default")


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [("Oops", "disk full", "Oops: disk full"), ("Oops", None, "Oops"), (None, "disk full", "disk full"), (7, "", "7")],
)
def test_the_reason_of_a_failure_is_the_service_s_own(code: object, message: str | None, reason: str) -> None:
    task = {**TASK, "state": "FAILED", "failedCode": code, "failedMessage": message}
    body = {"success": True, "code": "OK", "result": {"task": task}}
    assert API.get_status(UUID).read(_answer(body)) == TaskStatus(TaskState.FAILED, reason, "default")


def test_a_described_task_has_all_documented_fields() -> None:
    body = {"success": True, "code": "OK", "result": {"task": {**TASK, "limit": "1000"}}}
    task = API.describe_download_task(UUID).read(_answer(body))
    sent = {name: value for name, value in TASK.items() if name != "retry"}
    assert {**task.model_dump(by_alias=True, exclude_unset=True)} == sent


@pytest.mark.parametrize("result", [None, {}, {"task": None}, {"task": "x"}])
@pytest.mark.parametrize("call", ["describe", "status"])
def test_no_described_task_is_malformed(call: str, result: object) -> None:
    with pytest.raises(MalformedResponseError):
        CALLS[call]().read(_answer({"success": True, "code": "OK", "result": result}))


def test_a_page_of_tasks_is_read_in_order() -> None:
    result = {"pageNo": "2", "pageSize": 2, "total": 4, "tasks": [TASK, {"uuid": "u", "state": "RUNNING"}]}
    page = API.list_download_tasks().read(_answer({"success": True, "code": "OK", "result": result}))
    assert (page.total, page.page_no, page.page_size) == (4, 2, 2)
    assert [(task.uuid, task.task_state) for task in page.tasks] == [(UUID, "success"), ("u", "running")]


def test_a_page_says_of_each_task_where_it_is_and_whose_it_is() -> None:
    failed = {"uuid": "f", "state": "FAILED", "failedCode": "E", "project": "p", "createdTime": "2025-01-01T00:00:00Z"}
    tasks = [failed, {"uuid": "s", "state": "Odd", "createdTime": "now"}, {"uuid": None}, {"uuid": ""}]
    call = API.list_tasks(2, group="p")
    body = {"orderBy": "createdTime", "order": "desc", "pageNo": 2, "pageSize": 100, "project": "p"}
    assert _shape(call) == ("POST", "/v2/logstore/download/list", {}, body, None)
    assert "project" not in (API.list_tasks(1).body or {})
    page = call.read(_answer({"success": True, "code": "OK", "result": {"total": 9, "pageSize": 2, "tasks": tasks}}))
    known = TaskStatus(TaskState.FAILED, "E", "p")
    assert page.tasks == (
        ListedTask("f", known, datetime(2025, 1, 1, tzinfo=timezone.utc), "p"),
        ListedTask("s", TaskStatus(TaskState.UNKNOWN)),
    )
    assert (page.is_last, page.total) == (False, 9)


@pytest.mark.parametrize(
    ("page", "result", "is_last"),
    [
        (1, {"total": 2, "pageSize": 100, "tasks": [TASK] * 2}, True),
        (1, {"total": 2, "tasks": [TASK] * 2}, True),
        (1, {"total": 3, "pageSize": 2, "tasks": [TASK] * 2}, False),
        (2, {"total": 3, "pageSize": 2, "tasks": [TASK]}, True),
        (2, {"total": 9, "pageSize": 2, "tasks": [TASK] * 2}, False),
        (3, {"total": 250, "tasks": [TASK] * 50}, False),
        (4, {"total": 250, "tasks": []}, True),
        (1, {"tasks": [TASK]}, False),
        (2, {"tasks": []}, True),
        (1, None, True),
    ],
)
def test_the_last_page_is_the_one_that_completes_the_total_or_is_empty(page: int, result: Any, is_last: bool) -> None:
    found: TaskPage = API.list_tasks(page).read(_answer({"success": True, "code": "OK", "result": result}))
    assert found.is_last is is_last


@pytest.mark.parametrize("result", [None, {}, {"total": 0, "tasks": None}, {"tasks": []}])
def test_no_tasks_are_an_empty_page(result: object) -> None:
    body = {"success": True, "code": "OK", "result": result}
    assert API.list_download_tasks().read(_answer(body)).tasks == ()


def test_what_a_task_is_called_is_shortened() -> None:
    described = {"uuid": UUID, "name": "n" * 100_000, "project": "p" * 100_000}
    page = API.list_tasks(1).read(_answer({"success": True, "result": {"tasks": [described]}}))
    assert (page.tasks[0].name, page.tasks[0].group) == ("n" * 500 + "…", "p" * 500 + "…")


@pytest.mark.parametrize("result", [None, {}, {"uuid": ""}, {"uuid": None}, {"uuid": "1\nERROR forged"}])
def test_a_created_task_without_a_uuid_is_malformed(result: object) -> None:
    with pytest.raises(MalformedResponseError):
        CALLS["create"]().read(_answer({"success": True, "code": "OK", "result": result}))


def test_a_created_task_gives_its_uuid() -> None:
    assert CALLS["create"]().read(_answer({"success": True, "code": "OK", "result": {"uuid": UUID}})) == UUID


@pytest.mark.parametrize(
    "answer",
    [
        _answer(b"", 204),
        _answer(b""),
        _answer({"success": True, "code": "success", "message": ""}, 204),
        _answer({"success": True, "code": "success", "message": ""}),
        _answer({"code": "success"}),
        _answer(NOT_FOUND, 404),
        _answer(NOT_FOUND),
    ],
)
def test_a_task_that_is_gone_counts_as_deleted(answer: Answer) -> None:
    assert CALLS["delete"]().read(answer) is None


@pytest.mark.parametrize("answer", [_answer(NOT_FOUND, 404), _answer(LINKED), _answer({**LINKED, "result": None})])
def test_the_probe_passes_where_the_credentials_do(answer: Answer) -> None:
    assert API.probe().read(answer) is None


@pytest.mark.parametrize("answer", [_answer({"code": "Unauthorized"}, 401), _answer(b"", 404), _answer(b"", 503)])
def test_the_probe_fails_with_the_error_of_the_link_call(answer: Answer) -> None:
    with pytest.raises(TaskApiError) as caught:
        API.probe().read(answer)
    with pytest.raises(TaskApiError) as expected:
        API.list_files(UUID).read(answer)
    assert type(caught.value) is type(expected.value)


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("link", ("GET", f"/v2/logstore/download/link/{UUID}", {}, None, UUID)),
        ("status", ("GET", f"/v2/logstore/download/{UUID}", {}, None, UUID)),
        ("describe", ("GET", f"/v2/logstore/download/{UUID}", {}, None, UUID)),
        ("delete", ("DELETE", f"/v2/logstore/download/{UUID}", {}, None, UUID)),
    ],
)
def test_a_call_about_one_task_has_its_documented_shape(call: str, shape: tuple[Any, ...]) -> None:
    assert _shape(CALLS[call]()) == shape


def test_the_page_call_sends_its_parameters_as_json() -> None:
    body = {"orderBy": "createdTime", "order": "desc", "pageNo": 1, "pageSize": 10}
    assert _shape(API.list_download_tasks()) == ("POST", "/v2/logstore/download/list", {}, body, None)
    call = API.list_download_tasks(
        project="p", log_store_name="ls", order_by="name", order="asc", page_no=3, page_size=50
    )
    assert call.body == {
        "project": "p", "logStoreName": "ls", "orderBy": "name", "order": "asc", "pageNo": 3, "pageSize": 50,
    }  # fmt: skip


def test_the_create_call_sends_what_was_given_and_nothing_else() -> None:
    call = API.create_download_task(
        log_store_name="ls",
        query_start_time="2020-01-10T13:23:34Z",
        query_end_time=datetime(2020, 1, 10, 16, 0, tzinfo=timezone(timedelta(hours=2))),
    )
    body = {"logStoreName": "ls", "queryStartTime": "2020-01-10T13:23:34Z", "queryEndTime": "2020-01-10T14:00:00Z"}
    assert _shape(call) == ("POST", "/v2/logstore/download", {}, body, None)
    full = API.create_download_task(
        log_store_name="ls", query_start_time="2020-01-10", query_end_time=datetime(2020, 1, 11), name="n",  # noqa: DTZ001
        project="p", log_stream_name="s", query="match *", format="csv", limit=5, order="asc", file_dir="b/d/",
    )  # fmt: skip
    assert full.body == {
        "name": "n", "project": "p", "logStoreName": "ls", "logStreamName": "s", "query": "match *",
        "queryStartTime": "2020-01-10T00:00:00Z", "queryEndTime": "2020-01-11T00:00:00Z", "format": "csv", "limit": 5,
        "order": "asc", "fileDir": "b/d/",
    }  # fmt: skip


def test_a_time_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConnectionConfigError, match="'yesterday' is not an ISO 8601 time"):
        API.create_download_task(log_store_name="ls", query_start_time="yesterday", query_end_time="2020-01-10")


@pytest.mark.parametrize(
    "bad", ["list", "link", "../x", "", " ", "a b", "12345", UUID + "0", UUID[:-1], f"{UUID}/x", UUID.replace("-", "")]
)
@pytest.mark.parametrize("call", [API.list_files, API.get_status, API.describe_download_task, API.delete_download_task])
def test_what_is_no_uuid_reaches_no_other_route(call: Callable[[str], Call[Any]], bad: str) -> None:
    with pytest.raises(ConnectionConfigError):
        call(bad)


def test_a_uuid_may_be_upper_case_and_padded() -> None:
    assert API.list_files(f" {UUID.upper()}\n").path.endswith(f"/{UUID.upper()}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["success", "code", "message", "result", "task", "tasks", "link", "fileName", "uuid", "total"]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(call=st.sampled_from(sorted(CALLS)), status=st.sampled_from([200, 204, 302, 400, 404, 429, 500]), body=JSON)
def test_any_json_gives_a_value_or_an_error_of_the_tree(call: str, status: int, body: Any) -> None:
    with suppress(TaskDownloadError):
        CALLS[call]().read(_answer(body, status))


@given(call=st.sampled_from(sorted(CALLS)), status=st.integers(100, 599), body=st.binary(max_size=40))
def test_any_bytes_give_a_value_or_an_error_of_the_tree(call: str, status: int, body: bytes) -> None:
    with suppress(TaskDownloadError):
        CALLS[call]().read(_answer(body, status))


def test_each_published_region_has_an_endpoint() -> None:
    assert sorted(REGIONS) == ["bd", "bj", "cd", "fwh", "gz", "hkg", "nj", "su", "yq"]
    assert endpoint("gz") == "https://bls-log.gz.baidubce.com"


def test_a_task_of_which_nothing_is_known_can_be_held() -> None:
    assert (DownloadTask().task_state, DownloadTask().reason) == (TaskState.UNKNOWN, None)
