"""Whatever a service answers is a value that keeps its promises, or an error of the tree."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from airflow_provider_taskdl.apis.base import Answer, Call
from airflow_provider_taskdl.apis.bls import BlsApi, DownloadTask, DownloadTaskPage
from airflow_provider_taskdl.apis.eo_analysis import EoAnalysisApi
from airflow_provider_taskdl.apis.eo_market import EoMarketApi
from airflow_provider_taskdl.exceptions import TaskApiError
from airflow_provider_taskdl.listing import FileListing, TaskPage, TaskStatus
from tests.canary import CANARY
from tests.fuzz.campaign import NASTY, Several, every, family, hides, judge, secret_urls, texts

UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
LINK = f"https://h.example/f?X-Amz-Signature={CANARY}"
TASK = {"uuid": UUID, "state": "FAILED", "failedCode": "E", "failedMessage": "m", "limit": 1, "writtenRows": 2}
BLS_BODIES: list[Any] = [
    {"success": True, "code": "OK", "result": {"fileName": "a.json", "link": LINK}},
    {"success": True, "code": "OK", "result": {"task": TASK}},
    {"success": True, "code": "OK", "result": {"total": 1, "pageNo": 1, "pageSize": 10, "tasks": [TASK, TASK]}},
    {"success": True, "code": "OK", "result": {"uuid": UUID}},
    {"success": False, "code": "RequestLimited", "message": f"see {LINK}", "requestId": "r"},
]
EO_FILE = {"fileName": "a.tif", "downloadUrl": LINK, "fileSize": 3, "expiresAt": "2025-01-01T00:00:00Z"}
EO_BODIES: list[Any] = [
    {"code": 200, "message": "success", "data": {"downloadUrls": [EO_FILE, EO_FILE], "totalSize": 6}},
    {"code": 200, "data": {"taskStatus": 4, "taskItems": [{"algorithmName": "NDVI", "status": "FAILED"}]}},
    {"code": 200, "data": {"total": 1, "list": [{"id": 7, "taskStatus": "COMPLETED", "createTime": "2025-01-01"}]}},
    {"code": 500, "message": f"see {LINK}", "data": None},
]
MARKET_BODIES: list[Any] = [
    {"code": 200, "message": "OK", "data": {"status": 2, "downloadUrls": [LINK, f"{LINK}&id=7"]}},
    {"code": 200, "data": {"status": 6, "downloadUrls": None}},
    {"code": 400, "message": f"Order not found: {LINK}", "data": None},
]
_bls, _eo, _market = BlsApi(), EoAnalysisApi(), EoMarketApi()
BLS_CALLS: list[Call[Any]] = [
    _bls.list_files(UUID), _bls.get_status(UUID), _bls.describe_download_task(UUID), _bls.list_download_tasks(),
    _bls.create_download_task(log_store_name="l", query_start_time="2025-01-01", query_end_time="2025-01-02"),
    _bls.delete_download_task(UUID), _bls.probe(), _bls.list_tasks(2, group="p"),
]  # fmt: skip
EO_CALLS: list[Call[Any]] = [
    _eo.list_files("7"),
    _eo.get_status("7"),
    _eo.list_tasks(1),
    _eo.list_tasks(2),
    _eo.probe(),
]
MARKET_CALLS: list[Call[Any]] = [_market.list_files("7"), _market.get_status("7"), _market.probe()]

POISON: list[Any] = [
    None, True, False, 0, -1, 3, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, -(10**400), 1.5, 1e308, float("inf"),
    float("nan"), -0.0, "", " ", "3", "-3", "0x10", "1e9", "null", "NaN", "٣", "200", "404", "OK", "success", "SUCCESS",
    [], {}, [None], [[]], [{}], {"": None}, {"task": None}, {"code": 200}, [0] * 200, "x" * 5000, "\u202e" * 600,
    "a\r\nINFO forged", "\x1b[31mred", NASTY, "/etc/passwd", "../a", LINK, f"'{LINK}'", f"\\u0026sig={CANARY}",
    f"https:\\/\\/h.example\\/f?k={CANARY}", f"https%3A%2F%2Fh.example%2Ff%3Fk%3D{CANARY}",
    "2025-01-01T00:00:00+25:00", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "20250101", "now",
]  # fmt: skip
_scalars = st.one_of(st.sampled_from(POISON), texts, secret_urls, st.integers(), st.floats())
_json = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=3),
    st.dictionaries(st.sampled_from(["code", "result", "data", "x"]), _scalars),
)
# Which node (by its number), what to do with it, and what with.
_change = st.tuples(st.integers(0, 40), st.sampled_from(["set", "set", "set", "drop", "double", "rename"]), _json)


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document: its container and key."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        found += [(one, key) for key in keys]
        todo += [one[key] for key in keys]
    return found


def changed(document: Any, changes: list[tuple[int, str, Any]]) -> Any:
    """Return a document with some of its nodes replaced, dropped, doubled or renamed."""
    root = [json.loads(json.dumps(document))]
    for number, verb, value in changes:
        nodes = _nodes(root)[:60]
        holder, key = nodes[number % len(nodes)]
        if verb == "set":
            holder[key] = copy.deepcopy(value)
        elif verb == "drop" and isinstance(holder, dict):
            del holder[key]
        elif verb == "double":
            holder[key] = [holder[key]] * 2
        elif isinstance(holder, dict):
            holder[str(value)[:20]] = holder.pop(key)
    return root[0]


def _deep(body: bytes) -> bytes:
    return body.replace(b"null", b"[" * 100_000 + b"]" * 100_000, 1)


def _twice(body: bytes) -> bytes:
    return b'{"code": 200, "success": true, "result": null, "data": null,' + body.lstrip()[1:]


WRAPS: list[Callable[[bytes], bytes]] = [
    lambda body: body, lambda body: body, lambda body: body, lambda body: body,
    lambda body: b"\xef\xbb\xbf" + body, lambda body: body[:-1], lambda body: body[: len(body) // 2],
    lambda body: body + b"\x00", lambda body: b" \n" + body, lambda body: body + b"{}", lambda body: b"",
    lambda body: body.decode("utf-8", "replace").encode("utf-16"),
    lambda body: body.decode("utf-8", "replace").encode("utf-32"),
    lambda body: body.decode("utf-8", "replace").encode("utf-16-le"),
    lambda body: body.decode("utf-8", "replace").encode("latin-1", "replace"),
    lambda body: body.replace(b"200", b"2e2"), lambda body: body.replace(b"3", b"9" * 5000), _deep, _twice,
    lambda body: body.replace(b'"', b"'"), lambda body: b"<html>" + body, lambda body: body.replace(b"a", b"\\ud800"),
]  # fmt: skip


def _dump(document: Any, ascii_only: bool, wrap: Callable[[bytes], bytes]) -> bytes:
    text = json.dumps(document, ensure_ascii=ascii_only)
    return wrap(text.encode("utf-8", "surrogatepass"))


def bodies(documents: list[Any]) -> st.SearchStrategy[bytes]:
    """Bodies near to what a service answers, and far from it."""
    near = st.builds(changed, st.sampled_from(documents), st.lists(_change, max_size=3))
    return st.one_of(
        st.builds(_dump, near, st.booleans(), st.sampled_from(WRAPS)),
        st.builds(_dump, near, st.booleans(), st.sampled_from(WRAPS)),
        st.builds(_dump, _json, st.booleans(), st.sampled_from(WRAPS)),
        st.binary(max_size=40),
    )


_statuses = st.one_of(
    st.sampled_from([200] * 10 + [201, 204, 206, 301, 302, 304, 400, 401, 403, 404, 408, 410, 425, 429, 500, 503, 504]),
    st.integers(100, 999),
)
_retry_after = st.one_of(
    st.sampled_from(["", "0", "5", "-5", "1e9", "9" * 400, "٣",
     "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Oct 2025 07:28:00 GMT",
                     "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "soon", " 7 ", "5, 6",
                     "1.5"]),
    st.text(st.characters(max_codepoint=255), max_size=20),
)  # fmt: skip
_headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": _retry_after,
        "content-type": st.one_of(st.sampled_from(["text/html", "application/json", "x" * 9000, "a\x1bb"]), texts),
        "x-bce-request-id": st.one_of(st.sampled_from(["r-1", "x" * 9000, LINK, "a\x1bb"]), secret_urls),
    },
)


def _keeps_its_promises(value: Any) -> None:
    if isinstance(value, FileListing):
        for file in value.files:
            assert file.name.encode()
            assert file.name
            assert file.size is None or 0 <= file.size < 2**63
            assert file.link is None or file.link.reveal().strip()
        assert value.total_size is None or 0 <= value.total_size < 2**63
        assert value.is_ready is (bool(value.files) and all(file.link for file in value.files))
        json.dumps(value.summary())
        # A name is shown as it is, whatever the service puts there.
        hides(*[repr(file.link) for file in value.files])
    elif isinstance(value, TaskStatus):
        assert value.reason is None or len(value.reason) <= 4000
    elif isinstance(value, TaskPage):
        assert all(task.remote_task_id for task in value.tasks)
        assert all(task.created is None or task.created.tzinfo for task in value.tasks)
    else:
        assert value is None or isinstance(value, str | DownloadTask | DownloadTaskPage)


def answers(calls: list[Call[Any]], documents: list[Any], headers: int = 2, body: int = 4) -> dict[str, Several]:
    """Return what a family is made of: a service's calls, and the parts of answers near to its documents.

    :param headers: How many sets of header fields each draw gives.
    :param body: How many bodies.
    """
    return {
        "call": every(*calls),
        "status": Several(_statuses, 2),
        "headers": Several(_headers, headers),
        "body": Several(bodies(documents), body),
    }


def read(call: Call[Any], status: int, headers: dict[str, str], body: bytes) -> None:
    """Read one answer as the answer to one call."""
    try:
        value = call.read(Answer(status, headers, body))
    except TaskApiError as error:
        judge(error)
    else:
        _keeps_its_promises(value)


@family(**answers(BLS_CALLS, BLS_BODIES, headers=1, body=3))
def test_any_answer_of_bls_is_understood_or_refused(**answer: Any) -> None:
    read(**answer)


@family(**answers(EO_CALLS, EO_BODIES))
def test_any_answer_of_the_analysis_platform_is_understood_or_refused(**answer: Any) -> None:
    read(**answer)


@family(**answers(MARKET_CALLS, MARKET_BODIES))
def test_any_answer_of_the_market_is_understood_or_refused(**answer: Any) -> None:
    read(**answer)
