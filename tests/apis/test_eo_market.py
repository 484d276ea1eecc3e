from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.apis.base import Answer
from airflow_provider_taskdl.apis.eo_market import EoMarketApi
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    ServiceUnavailableError,
    TaskApiError,
    TaskDownloadError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import TaskState

API = EoMarketApi()
HOST = "https://eo.example/market/product/download"
URLS = [f"{HOST}?orderNo=O1&id=81&sign=geheim", f"{HOST}?orderNo=O1&id=82&sign=geheim"]


def _answer(body: Any, status: int = 200) -> Answer:
    return Answer(status, {}, json.dumps(body).encode())


def _ok(data: Any) -> Answer:
    return _answer({"code": 200, "message": "OK", "data": data})


def test_a_call_has_its_documented_shape() -> None:
    for call in (API.list_files(" O1 "), API.get_status("O1")):
        assert (call.method, call.path, call.query, call.body) == (
            "POST", "/market/order/downloadLinks", {}, {"orderNo": "O1"},
        )  # fmt: skip
        assert call.remote_task_id == "O1"


def test_links_come_in_order_and_are_named_by_their_host() -> None:
    listing = API.list_files("O1").read(_ok({"status": 2, "downloadUrls": URLS}))
    assert listing.is_ready
    assert [file.link.reveal() for file in listing.files if file.link] == URLS
    assert [(file.name, file.size, file.is_named_by_host) for file in listing.files] == [
        ("81", None, True), ("82", None, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b%20c.tif?X-Amz-Signature=geheim", "b c.tif"),
        ("https://h/a?sign=1&id=7", "7"),
        ("https://h/a?id=", "a"),
        ("https://h/a?id=%2e%2e%2fx", "../x"),  # judged later, as every name is
        ("https://h", "h"),
        ("https://[", "["),
        ("?", "file"),
        ("https://h/a.tif%3Fsign%3Dgeheim", "a.tif"),
    ],
)
def test_what_stays_of_a_link_tells_it_from_others(url: str, name: str) -> None:
    [file] = API.list_files("O1").read(_ok({"downloadUrls": [url]})).files
    assert file.name == name


@pytest.mark.parametrize("data", [None, {}, {"status": 1}, {"status": 5, "downloadUrls": None}, {"downloadUrls": []}])
def test_no_links_are_not_ready(data: object) -> None:
    assert API.list_files("O1").read(_ok(data)).files == ()


@pytest.mark.parametrize("url", [None, "", " "])
def test_one_empty_link_makes_the_listing_not_ready(url: str | None) -> None:
    listing = API.list_files("O1").read(_ok({"status": 2, "downloadUrls": [URLS[0], url]}))
    assert [file.link is not None for file in listing.files] == [True, False]


@pytest.mark.parametrize("data", [[], "x", {"downloadUrls": URLS[0]}, {"downloadUrls": [{"url": URLS[0]}]}])
def test_links_of_another_shape_are_malformed_and_not_quoted(data: object) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        API.list_files("O1").read(_ok(data))
    assert "geheim" not in f"{caught.value} {vars(caught.value)}"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (1, TaskState.WAITING), (2, TaskState.SUCCESS), ("3", TaskState.SUCCESS), (4, TaskState.RUNNING),
        (5, TaskState.RUNNING), (6, TaskState.FAILED), (0, TaskState.UNKNOWN), (7, TaskState.UNKNOWN),
        (None, TaskState.UNKNOWN),
    ],
)  # fmt: skip
def test_the_state_stands_beside_the_links(status: object, state: TaskState) -> None:
    assert API.get_status("O1").read(_ok({"status": status, "downloadUrls": []})).state is state


def test_the_links_alone_tell_of_a_failure() -> None:
    with pytest.raises(TaskFailedError, match="acquisition"):
        API.list_files("O1").read(_ok({"status": 6, "downloadUrls": []}))


@pytest.mark.parametrize("http_status", [200, 400, 500])
@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (400, "Order not found", TaskNotFoundError),
        (400, "orderNo is required", TaskApiError),
        (400, None, TaskApiError),
        (404, "", TaskNotFoundError),
        (401, "Unauthorized", AuthenticationError),
        (500, "Order not found", ServiceUnavailableError),
    ],
)
def test_the_code_in_the_body_decides(
    http_status: int, code: int, message: str | None, kind: type[TaskDownloadError]
) -> None:
    for call in (API.list_files("O1"), API.get_status("O1")):
        with pytest.raises(TaskDownloadError) as caught:
            call.read(_answer({"code": code, "message": message, "data": None}, http_status))
        assert type(caught.value) is kind


@pytest.mark.parametrize("code", [200, 400, 404])
def test_the_probe_passes_where_the_key_does(code: int) -> None:
    assert API.probe().read(_answer({"code": code, "message": "Order not found"})) is None


@pytest.mark.parametrize(("code", "kind"), [(401, AuthenticationError), (500, ServiceUnavailableError)])
def test_the_probe_fails_for_any_other_answer(code: int, kind: type[TaskDownloadError]) -> None:
    with pytest.raises(kind):
        API.probe().read(_answer({"code": code}))


@pytest.mark.parametrize("bad", ["../x", "", "a b", None])
def test_what_is_no_order_number_is_a_configuration_error(bad: Any) -> None:
    for call in (API.list_files, API.get_status):
        with pytest.raises(ConnectionConfigError):
            call(bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.sampled_from(URLS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["code", "data", "status", "downloadUrls"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(body=JSON, url=st.text(max_size=30))
def test_any_json_gives_a_value_or_an_error_of_the_tree(body: Any, url: str) -> None:
    for sent in (body, {"code": 200, "data": body}, {"code": 200, "data": {"downloadUrls": [url]}}):
        for call in (API.list_files("O1"), API.get_status("O1"), API.probe()):
            with suppress(TaskDownloadError):
                call.read(_answer(sent))
