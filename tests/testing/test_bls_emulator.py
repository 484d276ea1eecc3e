from __future__ import annotations

import warnings
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.auth import BceAuth
from airflow_provider_taskdl.auth.bce import sign
from airflow_provider_taskdl.exceptions import AuthenticationError, TaskApiError, TaskNotFoundError
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.listing import TaskState
from airflow_provider_taskdl.testing import Emulator, EmulatorServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the vendor's package has invalid escapes in its texts
    from baidubce.auth import bce_v1_signer
    from baidubce.auth.bce_credentials import BceCredentials

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
PATH = f"/v2/logstore/download/link/{UUID}"
WINDOW: Any = {"query_start_time": "2025-11-03T00:00:00Z", "query_end_time": "2025-11-03T00:10:00Z"}


@pytest.fixture
def hook(taskdl_server: EmulatorServer) -> Any:
    with_hook = BlsHook()
    yield with_hook
    with_hook.close()


def signed(emulator: Emulator, server: EmulatorServer, **changes: Any) -> str:
    """Return an Authorization for the link of UUID with something changed."""
    facts: dict[str, Any] = {
        "method": "GET", "path": PATH, "headers": {"host": server.base_url.partition("://")[2]},
        "signed_headers": ["host"], "timestamp": datetime.now(timezone.utc),
    }  # fmt: skip
    keys = (changes.pop("ak", emulator.access_key_id), changes.pop("sk", emulator.secret_access_key))
    return sign(*keys, **{**facts, **changes})


def test_the_hook_gets_state_and_link_of_a_finished_task(taskdl_emulator: Emulator, hook: BlsHook) -> None:
    taskdl_emulator.bls_task(b"one\n", id=UUID, name="log.json")
    (file,) = hook.list_files(UUID).files
    assert hook.get_state(UUID) is TaskState.SUCCESS
    assert (file.name, file.size) == ("log.json", None)
    assert file.link is not None
    assert file.link.expires_at is not None
    assert httpx.get(file.link.reveal()).content == b"one\n"
    assert hook.test_connection()[0]
    assert taskdl_emulator.count("bls.link", UUID) == 1
    assert taskdl_emulator.count("bls.status") == 1
    assert taskdl_emulator.bytes_sent("file", "log.json") == 4


def test_a_task_waits_runs_and_ends(taskdl_server: EmulatorServer, hook: BlsHook) -> None:
    time = [1000.0]
    emulator = taskdl_server.emulator
    emulator.now = lambda: time[0]
    task = emulator.bls_task(b"x", queued_for=5, ready_after=10, starts="asked")
    time[0] += 500
    states = []
    for step in (0.0, 4.0, 1.0, 4.9, 0.2):
        time[0] += step
        states.append((str(hook.get_state(task.id)), hook.list_files(task.id).is_ready))
    assert states == [("waiting", False)] * 2 + [("running", False)] * 2 + [("success", True)]


def test_the_time_of_what_is_created_can_begin_with_the_first_question(
    taskdl_server: EmulatorServer, hook: BlsHook
) -> None:
    time, emulator = [1000.0], taskdl_server.emulator
    emulator.now, emulator.ready_after, emulator.starts = lambda: time[0], 10, "asked"
    task_id = hook.create_download_task(log_store_name="web", **WINDOW)
    states = []
    for step in (500.0, 9.0, 1.0):
        time[0] += step
        states.append(str(hook.get_state(task_id)))
    assert states == ["running", "running", "success"]


@pytest.mark.parametrize("ends", ["failed", "expired"])
def test_a_failure_comes_with_its_reason_and_without_a_link(
    taskdl_emulator: Emulator, hook: BlsHook, ends: Any
) -> None:
    task = taskdl_emulator.bls_task(b"x", ends=ends, reason="query too long")
    described = hook.describe_download_task(task.id)
    assert described.state == ends.upper()
    assert described.reason == ("QueryFailed: query too long" if ends == "failed" else None)
    assert not hook.list_files(task.id).is_ready


def test_an_unfinished_task_can_answer_in_each_way_a_service_might(taskdl_emulator: Emulator, hook: BlsHook) -> None:
    empty, null, missing, early = (
        taskdl_emulator.bls_task(b"x", ready_after=999, unready=how).id
        for how in ("empty", "null", "not-found", "link")
    )
    assert not hook.list_files(empty).is_ready
    assert not hook.list_files(null).is_ready
    with pytest.raises(TaskNotFoundError):
        hook.list_files(missing)
    link = hook.list_files(early).files[0].link
    assert link is not None
    answer = httpx.get(link.reveal())
    assert (answer.status_code, answer.json()["code"]) == (404, "NoSuchKey")


def test_a_task_is_created_described_listed_and_deleted(taskdl_emulator: Emulator, hook: BlsHook) -> None:
    ids = [hook.create_download_task(log_store_name=name, limit=50, **WINDOW) for name in ("web-a", "web-b", "api")]
    described = hook.describe_download_task(ids[0])
    assert (described.log_store_name, described.limit, described.written_rows) == ("web-a", 50, 50)
    assert [task.uuid for task in hook.list_download_tasks(page_size=1, order="asc")] == ids
    assert [task.uuid for task in hook.list_download_tasks(log_store_name="web")] == ids[1::-1]
    assert list(hook.list_download_tasks(project="other")) == []
    page = hook.run(hook.api.list_tasks(1, group="default"))
    assert [(task.remote_task_id, task.group) for task in page.tasks] == [(each, "default") for each in ids[::-1]]
    assert all(task.created is not None for task in page.tasks)
    assert (page.is_last, page.total) == (True, 3)
    assert hook.run(hook.api.list_tasks(1, group="other")).tasks == ()
    link = hook.list_files(ids[0]).files[0].link
    assert link is not None
    assert len(httpx.get(link.reveal()).text.splitlines()) == 50
    hook.delete_download_task(ids[0])
    hook.delete_download_task(ids[0])
    assert httpx.get(link.reveal()).status_code == 404
    with pytest.raises(TaskNotFoundError):
        hook.describe_download_task(ids[0])
    assert taskdl_emulator.count("bls.delete") == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "MalformedJSON"),
        ("[]", "MalformedJSON"),
        ("{}", "InvalidParameter"),
        ('{"logStoreName": "a", "queryStartTime": "now", "queryEndTime": "then"}', "InvalidParameter"),
    ],
)
def test_a_request_for_a_task_that_cannot_be_is_refused(taskdl_server: EmulatorServer, body: str, code: str) -> None:
    auth = BceAuth(taskdl_server.emulator.access_key_id, taskdl_server.emulator.secret_access_key)
    answer = httpx.post(f"{taskdl_server.base_url}/v2/logstore/download", content=body, auth=auth)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["x-bce-request-id"] == answer.json()["requestId"]


def test_without_a_status_endpoint_only_links_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator = Emulator(status_endpoint=False)
    task = emulator.bls_task(b"x")
    with EmulatorServer(emulator) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        hook = BlsHook()
        assert hook.list_files(task.id).is_ready
        with pytest.raises(TaskApiError) as caught:
            hook.get_state(task.id)
        hook.close()
    assert not isinstance(caught.value, TaskNotFoundError | AuthenticationError)


def test_the_vendors_own_signer_is_accepted(taskdl_server: EmulatorServer) -> None:
    emulator = taskdl_server.emulator
    emulator.bls_task(b"x", id=UUID)
    headers = {
        b"Host": taskdl_server.base_url.partition("://")[2].encode(),
        b"Content-Type": b"application/json; charset=utf-8",
        b"x-bce-date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
        b"x-bce-request-id": b"2eeba101-4cc7-4cfe-b5ac-a3be8d060e33",
    }
    now = int(datetime.now(timezone.utc).timestamp())
    credentials = BceCredentials(emulator.access_key_id, emulator.secret_access_key)
    headers[b"Authorization"] = bce_v1_signer.sign(credentials, b"GET", PATH.encode(), headers, {}, timestamp=now)
    sent = {name.decode(): value.decode() for name, value in headers.items()}
    assert httpx.get(taskdl_server.base_url + PATH, headers=sent).json()["success"] is True
    sent["x-bce-request-id"] = "changed"
    assert httpx.get(taskdl_server.base_url + PATH, headers=sent).json()["code"] == "Unauthorized"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({}, 200, "OK"),
        ({"expires_in": -1, "timestamp": datetime(2015, 1, 1, tzinfo=timezone.utc)}, 200, "OK"),
        ({"ak": "another"}, 401, "Unauthorized"),
        ({"sk": "another"}, 401, "Unauthorized"),
        ({"method": "POST"}, 401, "Unauthorized"),
        ({"path": PATH + "/"}, 401, "Unauthorized"),
        ({"query": "a=1"}, 401, "Unauthorized"),
        ({"headers": {"host": "bls-log.bj.baidubce.com"}}, 401, "Unauthorized"),
        ({"signed_headers": ["accept"], "headers": {"accept": "*/*"}}, 400, "IamSignatureInvalid"),
        ({"signed_headers": ["host", "x-bce-date"]}, 400, "IamSignatureInvalid"),
        ({"timestamp": datetime.now(timezone.utc) - timedelta(hours=1)}, 400, "RequestExpired"),
        ({"expires_in": -2}, 400, "InvalidHTTPAuthHeader"),
    ],
)
def test_a_signature_is_recomputed_from_the_request_as_it_came(
    taskdl_server: EmulatorServer, changes: dict[str, Any], status: int, code: str
) -> None:
    taskdl_server.emulator.bls_task(b"x", id=UUID)
    headers = {"Authorization": signed(taskdl_server.emulator, taskdl_server, **changes)}
    answer = httpx.get(taskdl_server.base_url + PATH, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("authorization", ["Bearer x", "bce-auth-v1/a/b", "bce-auth-v2/a/2015-04-27T08:23:49Z/1//x"])
def test_what_is_no_signature_is_refused(taskdl_server: EmulatorServer, authorization: str) -> None:
    answer = httpx.get(taskdl_server.base_url + PATH, headers={"Authorization": authorization})
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidHTTPAuthHeader")
    assert httpx.get(taskdl_server.base_url + PATH).status_code == 401


@pytest.mark.parametrize(("known", "given"), [("token", None), ("token", "other"), (None, "token")])
def test_a_session_token_must_be_the_right_one(known: str | None, given: str | None) -> None:
    emulator = Emulator(security_token=known)
    emulator.bls_task(b"x", id=UUID)
    with EmulatorServer(emulator) as server:
        for token, status in ((known, 200), (given, 401)):
            auth = BceAuth(emulator.access_key_id, emulator.secret_access_key, token)
            assert httpx.get(server.base_url + PATH, auth=auth).status_code == status


def test_a_default_signature_covers_every_field_of_the_vendor(taskdl_server: EmulatorServer) -> None:
    emulator = taskdl_server.emulator
    emulator.bls_task(b"x", id=UUID)
    host = taskdl_server.base_url.partition("://")[2]
    fields = {"host": host, "x-bce-date": "2025-11-03T00:00:00Z"}
    authorization = signed(emulator, taskdl_server, headers=fields, signed_headers=None)
    headers = {"Authorization": authorization, "x-bce-date": fields["x-bce-date"]}
    assert httpx.get(taskdl_server.base_url + PATH, headers=headers).status_code == 200
    del headers["x-bce-date"]
    assert httpx.get(taskdl_server.base_url + PATH, headers=headers).status_code == 401
