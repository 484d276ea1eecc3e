from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.apis.base import Answer, Call
from airflow_provider_taskdl.apis.eo_analysis import EoAnalysisApi
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
from airflow_provider_taskdl.listing import ListedTask, TaskState, TaskStatus

API = EoAnalysisApi()
FILES: list[dict[str, Any]] = [
    {
        "fileName": "ndvi_result.tif",
        "downloadUrl": "https://example.com/download/ndvi_result.tif?token=geheim1",
        "fileSize": 512000,
        "expiresAt": "2024-01-01T11:00:00Z",
    },
    {
        "fileName": "analysis_report.pdf",
        "downloadUrl": "https://example.com/download/analysis_report.pdf?token=geheim2",
        "fileSize": 150000,
        "expiresAt": "2024-01-01T11:00:00Z",
    },
]
URLS: dict[str, Any] = {"taskId": "12345", "downloadUrls": FILES, "totalSize": 662000}
CALLS: dict[str, Callable[[], Call[Any]]] = {
    "files": lambda: API.list_files("12345"),
    "status": lambda: API.get_status("12345"),
    "page": lambda: API.list_tasks(1),
    "page 0": lambda: API.list_tasks(2),
    "probe": API.probe,
}


def _answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, headers, raw)


def _ok(data: Any, **more: Any) -> Answer:
    return _answer({"code": 200, "message": "success", "data": data, **more})


def test_the_documented_files_are_read_in_order() -> None:
    listing = API.list_files("12345").read(_ok(URLS))
    assert listing.is_ready
    assert listing.summary() == {
        "remote_task_id": "12345",
        "file_names": ["ndvi_result.tif", "analysis_report.pdf"],
        "file_count": 2,
        "total_size": 662000,
    }
    for file, sent in zip(listing.files, FILES, strict=True):
        assert file.link is not None
        assert (file.name, file.size, file.link.reveal()) == (sent["fileName"], sent["fileSize"], sent["downloadUrl"])
        assert file.link.expires_at == datetime(2024, 1, 1, 11, tzinfo=timezone.utc)


@pytest.mark.parametrize("data", [None, {}, {"downloadUrls": None}, {"downloadUrls": []}, {"taskId": "12345"}])
def test_no_files_are_not_ready(data: object) -> None:
    listing = API.list_files("12345").read(_ok(data))
    assert listing.files == ()
    assert not listing.is_ready


@pytest.mark.parametrize("url", [None, "", "  "])
def test_one_empty_url_makes_the_listing_not_ready(url: str | None) -> None:
    listing = API.list_files("12345").read(_ok({**URLS, "downloadUrls": [FILES[0], {**FILES[1], "downloadUrl": url}]}))
    assert [file.link is not None for file in listing.files] == [True, False]
    assert not listing.is_ready


@pytest.mark.parametrize("entry", [{}, {"fileName": None, "downloadUrl": None}, {"fileName": "", "downloadUrl": " "}])
def test_an_entry_with_nothing_in_it_yet_is_not_ready(entry: dict[str, Any]) -> None:
    listing = API.list_files("12345").read(_ok({**URLS, "downloadUrls": [FILES[0], entry]}))
    assert [file.link is not None for file in listing.files] == [True, False]


@pytest.mark.parametrize("name", [None, ""])
def test_a_file_without_a_name_is_malformed_and_not_quoted(name: str | None) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        API.list_files("12345").read(_ok({"downloadUrls": [{**FILES[0], "fileName": name}]}))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "size"),
    [({"fileSize": "512000"}, 512000), ({"fileSize": 512000.0}, 512000), ({"fileSize": None}, None), ({}, 512000)],
)
def test_a_size_may_be_text_or_missing(change: dict[str, Any], size: int | None) -> None:
    [file] = API.list_files("12345").read(_ok({"downloadUrls": [{**FILES[0], **change}]})).files
    assert file.size == size


@pytest.mark.parametrize("expires", [None, "", "soon", 1704106800000, ["x"], {}])
def test_an_expiry_that_cannot_be_read_is_no_expiry(expires: object) -> None:
    [file] = API.list_files("12345").read(_ok({"downloadUrls": [{**FILES[0], "expiresAt": expires}]})).files
    assert file.link is not None
    assert file.link.expires_at is None


@pytest.mark.parametrize(
    "data",
    [
        [],
        "x",
        {"downloadUrls": "x"},
        {"downloadUrls": {}},
        {"downloadUrls": [None]},
        {"downloadUrls": ["https://h/f?token=geheim"]},
        {"downloadUrls": [{**FILES[0], "fileSize": -1}]},
        {"downloadUrls": [{**FILES[0], "fileSize": True}]},
        {"downloadUrls": [{**FILES[0], "fileSize": 2**63}]},
        {"downloadUrls": FILES, "totalSize": 10**400},
        {"downloadUrls": [{**FILES[0], "fileSize": "large"}]},
        {"downloadUrls": [{**FILES[0], "downloadUrl": ["https://h/f?token=geheim"]}]},
        {**URLS, "totalSize": -1},
    ],
)
def test_files_of_another_shape_are_malformed_and_not_quoted(data: object) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        API.list_files("12345").read(_ok(data))
    assert "geheim" not in f"{caught.value} {vars(caught.value)}"


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "message": "OK", "data": URLS},
        {"code": "200", "data": URLS},
        {"code": 200, "message": None, "data": URLS, "traceId": "x"},
        {"code": 200, "data": {**URLS, "more": 1, "downloadUrls": [{**file, "etag": "x"} for file in FILES]}},
        b"\xef\xbb\xbf" + json.dumps({"code": 200, "data": URLS}).encode(),
    ],
)
def test_the_code_decides_and_the_message_does_not(body: Any) -> None:
    assert API.list_files("12345").read(_answer(body)).is_ready


CODES: list[tuple[int, type[TaskDownloadError]]] = [
    (400, TaskApiError),
    (401, AuthenticationError),
    (403, AuthenticationError),
    (404, TaskNotFoundError),
    (429, RateLimitedError),
    (500, ServiceUnavailableError),
    (503, ServiceUnavailableError),
    (0, TaskApiError),
    (1001, ServiceUnavailableError),
]


@pytest.mark.parametrize("call", ["files", "status"])
@pytest.mark.parametrize("http_status", [200, 400, 404, 500])
@pytest.mark.parametrize(("code", "kind"), CODES)
@pytest.mark.parametrize("form", [int, str])
def test_the_code_in_the_body_decides_whatever_the_http_status(
    call: str, http_status: int, code: int, kind: type[TaskDownloadError], form: type[int] | type[str]
) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        CALLS[call]().read(_answer({"code": form(code), "message": "why", "data": None}, http_status))
    # A code that is none of HTTP's does not turn a failure of the service into one of the request.
    assert type(caught.value) is (ServiceUnavailableError if (code, http_status) == (0, 500) else kind)
    assert caught.value.code == str(code)
    assert "why" in caught.value.message


@pytest.mark.parametrize(
    ("http_status", "code", "kind"),
    [
        (401, 1001, AuthenticationError), (403, 10403, AuthenticationError), (403, 400, AuthenticationError),
        (401, 500, AuthenticationError), (407, 400, AuthenticationError), (503, 14, ServiceUnavailableError),
        (500, -1, ServiceUnavailableError), (429, 1, RateLimitedError), (408, 0, ServiceUnavailableError),
        (503, 400, TaskApiError), (500, 401, AuthenticationError), (429, 500, ServiceUnavailableError),
        (403, 404, TaskNotFoundError),
    ],
)  # fmt: skip
def test_http_has_a_say_on_credentials_and_where_the_code_means_nothing(
    http_status: int, code: int, kind: type[TaskDownloadError]
) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        API.list_files("12345").read(_answer({"code": code, "message": "why"}, http_status))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("http_status", "kind"),
    [
        (302, MalformedResponseError),
        (400, TaskApiError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, MalformedResponseError),
        (408, ServiceUnavailableError),
        (429, RateLimitedError),
        (500, ServiceUnavailableError),
        (502, ServiceUnavailableError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>geheim</html>", b"{}", b'{"code": 200}', b'{"code": "Odd"}', b"[1]"])
def test_without_a_code_the_http_status_decides(http_status: int, kind: type[TaskDownloadError], body: bytes) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        API.list_files("12345").read(_answer(body, http_status))
    assert type(caught.value) is kind
    assert caught.value.code == f"HTTP {http_status}"
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b"null", b"[]", b"{}", b'{"code": "OK", "data": {}}'])
def test_what_is_not_this_api_is_malformed(call: str, body: bytes) -> None:
    with pytest.raises(MalformedResponseError):
        CALLS[call]().read(_answer(body))


def test_a_busy_service_may_say_how_long_to_wait() -> None:
    with pytest.raises(RateLimitedError) as caught:
        API.list_files("12345").read(_answer({"code": 429}, 200, **{"retry-after": "9"}))
    assert caught.value.retry_after == 9


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (2, TaskState.RUNNING), ("2", TaskState.RUNNING), ("PROGRESSING", TaskState.RUNNING), (3, TaskState.SUCCESS),
        ("3", TaskState.SUCCESS), ("COMPLETED", TaskState.SUCCESS), (" complete ", TaskState.SUCCESS),
        (4, TaskState.FAILED), ("Failed", TaskState.FAILED), ("EXPIRED", TaskState.EXPIRED),
        ("PENDING", TaskState.WAITING), ("QUEUED", TaskState.WAITING), (0, TaskState.UNKNOWN), (1, TaskState.UNKNOWN),
        (7, TaskState.UNKNOWN), ("", TaskState.UNKNOWN), ("Paused", TaskState.UNKNOWN), (None, TaskState.UNKNOWN),
    ],
)  # fmt: skip
def test_a_state_may_be_a_number_or_a_word(status: object, state: TaskState) -> None:
    assert API.get_status("18").read(_ok({"id": 18, "taskStatus": status})) == TaskStatus(state)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (None, None),
        ([], None),
        ([{"algorithmName": "ndvi", "status": 3}], None),
        ([{"algorithmName": "ndvi", "status": 4}, {"algorithmName": "evi", "status": "3"}], "failed: ndvi"),
        ([{"algorithmName": "ndvi", "status": "4"}, {"status": "FAILED"}], "failed: ndvi, ?"),
    ],
)
def test_the_algorithms_that_failed_are_named(items: object, reason: str | None) -> None:
    data = {"id": 18, "taskStatus": 4, "taskItems": items, "duration": 3}
    assert API.get_status("18").read(_ok(data)) == TaskStatus(TaskState.FAILED, reason)


@pytest.mark.parametrize("data", [None, [], "x", {"taskStatus": [2]}, {"taskItems": "x"}])
def test_a_task_of_another_shape_is_malformed(data: object) -> None:
    with pytest.raises(MalformedResponseError):
        API.get_status("18").read(_ok(data))


@pytest.mark.parametrize(
    ("call", "path", "query"),
    [
        (API.list_files, "/analysis/task/get/Download/url", {"taskId": "1992775676926095360"}),
        (API.get_status, "/analysis/task/query/detailV2", {"id": "1992775676926095360"}),
    ],
)
def test_a_call_has_its_documented_shape(call: Callable[[Any], Call[Any]], path: str, query: dict[str, str]) -> None:
    for task_id in ("1992775676926095360", 1992775676926095360, " 1992775676926095360 "):
        made = call(task_id)
        assert (made.method, made.path, made.query, made.body) == ("GET", path, query, None)
        assert made.remote_task_id == "1992775676926095360"


@pytest.mark.parametrize("bad", ["../x", "", "  ", "a b", "1&taskId=2", "1/2", None])
@pytest.mark.parametrize("call", [API.list_files, API.get_status])
def test_what_is_no_task_id_is_a_configuration_error(call: Callable[[Any], Call[Any]], bad: object) -> None:
    with pytest.raises(ConnectionConfigError):
        call(bad)


@pytest.mark.parametrize(
    "answer",
    [
        _answer({"code": 404, "message": "Task not found", "data": None}),
        _answer({"code": 404, "message": "Task not found", "data": None}, 404),
        _answer({"code": 400, "message": "Request parameter error"}),
        _answer({"code": 400}, 400),
        _ok(None),
        _ok(URLS),
    ],
)
def test_the_probe_passes_where_the_credentials_do(answer: Answer) -> None:
    assert API.probe().read(answer) is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_answer({"code": 401}), AuthenticationError),
        (_answer(b"", 403), AuthenticationError),
        (_answer(b"", 400), TaskApiError),
        (_answer(b"", 404), MalformedResponseError),
        (_answer({"code": 500}), ServiceUnavailableError),
        (_answer({"code": 400}, 401), AuthenticationError),
        (_answer({"code": 400}, 403), AuthenticationError),
        (_answer({"code": 1001}, 401), AuthenticationError),
    ],
)
def test_the_probe_fails_for_any_other_answer(answer: Answer, kind: type[TaskDownloadError]) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        API.probe().read(answer)
    assert type(caught.value) is kind


NAMES = ["code", "message", "data", "downloadUrls", "fileName", "downloadUrl", "fileSize", "expiresAt", "taskStatus"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(200),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(call=st.sampled_from(sorted(CALLS)), status=st.sampled_from([200, 204, 302, 400, 404, 500]), body=JSON)
def test_any_json_gives_a_value_or_an_error_of_the_tree(call: str, status: int, body: Any) -> None:
    for sent in (body, {"code": 200, "data": body}):
        with suppress(TaskDownloadError):
            CALLS[call]().read(_answer(sent, status))


@given(call=st.sampled_from(sorted(CALLS)), status=st.integers(100, 599), body=st.binary(max_size=40))
def test_any_bytes_give_a_value_or_an_error_of_the_tree(call: str, status: int, body: bytes) -> None:
    with suppress(TaskDownloadError):
        CALLS[call]().read(_answer(body, status))


def test_an_analysis_is_asked_for_as_the_page_has_it() -> None:
    algorithms = [{"algorithm": "neu_extract_building_segmentation", "analyzeParam": {"a": 1}}]
    call = API.create_analysis_task(meta_data_id=7, task_name="n", algorithms=algorithms, slice_width=256)
    assert (call.method, call.path) == ("POST", "/analysis/task/create")
    assert call.body == {"metaDataId": 7, "taskName": "n", "algorithms": algorithms, "sliceWidth": 256}
    # The documented answer, and the long ids of other pages as number and as text.
    for task_id in (18, 1992775676926095360, "1992775676926095360"):
        assert call.read(_ok({"taskId": task_id})) == str(task_id)
    for answer in (_ok(None), _ok({}), _ok({"taskId": ""}), _ok({"taskId": "18\nERROR"})):
        with pytest.raises(MalformedResponseError):
            call.read(answer)
    with pytest.raises(TaskApiError, match="Invalid algorithm code") as caught:
        call.read(_answer({"code": 400, "message": "Invalid algorithm code", "data": None}))
    assert (type(caught.value), caught.value.retryable) == (TaskApiError, False)


def test_a_page_of_analyses_is_read() -> None:
    call = API.list_analysis_tasks(task_name="n", page=2, size=50)
    assert (call.method, call.path) == ("POST", "/analysis/task/page/query")
    assert call.body == {"page": 2, "size": 50, "taskName": "n"}
    line = {"id": 18, "taskName": "n", "algorithmCode": "c", "taskStatus": "COMPLETED", "progress": 100}
    page = call.read(_ok({"total": 1, "list": [line, {"id": "19", "taskStatus": 4}, {}]}))
    found = [(task.id, task.task_name, str(task.task_state)) for task in page.tasks]
    assert (page.total, found) == (1, [("18", "n", "success"), ("19", None, "failed"), (None, None, "unknown")])
    assert [call.read(_ok(data)).tasks for data in (None, {}, {"list": None})] == [(), (), ()]


def test_a_page_says_of_each_task_where_it_is() -> None:
    call = API.list_tasks(1, group="whatever")
    assert (call.method, call.path, call.body) == ("POST", "/analysis/task/page/query", {"page": 1, "size": 100})
    line = {"id": 18, "taskStatus": "COMPLETED", "createTime": "2024-01-01T10:00:00Z"}
    page = call.read(_ok({"total": 3, "list": [line, {"id": "19", "taskStatus": "Paused", "createTime": 5}, {}]}))
    assert page.tasks == (
        ListedTask("18", TaskStatus(TaskState.SUCCESS), datetime(2024, 1, 1, 10, tzinfo=timezone.utc)),
        ListedTask("19", TaskStatus(TaskState.UNKNOWN)),
    )
    assert (page.total, page.is_last) == (3, True)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("most", [100, 40])
@pytest.mark.parametrize("count", [0, 1, 40, 100, 101, 250])
@pytest.mark.parametrize("tells_total", [True, False])
def test_all_tasks_are_on_the_pages_until_the_last_wherever_pages_begin(
    first: int, most: int, count: int, tells_total: bool
) -> None:
    found: list[str] = []
    for number in range(1, 20):
        call = API.list_tasks(number)
        assert call.body is not None
        begin = (call.body["page"] - first) * most
        ids = [{"id": number} for number in range(count)[begin : begin + most]] if begin >= 0 else []
        answer = _ok({"total": count if tells_total else None, "list": ids})
        page = call.read(answer if begin >= 0 else _answer({"code": 400, "message": "page is a positive number"}))
        found += [task.remote_task_id for task in page.tasks]
        if page.is_last:
            break
    assert sorted(found) == sorted(map(str, range(count)))
    assert number <= count // most + 4


def test_only_page_0_may_be_refused() -> None:
    refusal = _answer({"code": 400, "message": "no"})
    assert API.list_tasks(2).read(refusal).tasks == ()
    for page in (1, 3):
        with pytest.raises(TaskApiError):
            API.list_tasks(page).read(refusal)
    with pytest.raises(AuthenticationError):
        API.list_tasks(2).read(_answer({"code": 403}))
