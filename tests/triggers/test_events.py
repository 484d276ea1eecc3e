from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    RateLimitedError,
    TaskDownloadError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.triggers.events import error_event, read_event, ready_event, timeout_event

LISTING = FileListing("7", (RemoteFile("a b.tif", Link("https://h/a?token=secret"), 3), RemoteFile("c", None, 4)), 7)
SUMMARY = {"remote_task_id": "7", "file_names": ["a b.tif", "c"], "file_count": 2, "total_size": 7}


def _as_stored(event: dict[str, Any]) -> dict[str, Any]:
    """Through the database and back, as Airflow does it."""
    stored: dict[str, Any] = json.loads(json.dumps(event))
    return stored


def test_files_that_are_there_give_their_summary() -> None:
    assert read_event(_as_stored(ready_event(LISTING))) == SUMMARY


def test_an_event_holds_no_link() -> None:
    assert "secret" not in json.dumps(ready_event(LISTING))
    assert "https" not in json.dumps(ready_event(LISTING))


LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    "files",
    [
        [RemoteFile("a\0.tif", None), RemoteFile("\ud800", None)],
        [RemoteFile(f"f{number}", None, LARGEST) for number in range(3)],
        [RemoteFile("a", None, -(2**70))],
    ],
)
@pytest.mark.parametrize("total", [None, 2**64])
def test_no_listing_makes_an_event_that_ends_the_triggerer(files: list[RemoteFile], total: int | None) -> None:
    # Neither the message that a triggerer sends nor PostgreSQL takes any other.
    for event in (ready_event(FileListing("7\0", tuple(files), total)), timeout_event("7\0")):
        text = json.dumps(event, ensure_ascii=False)
        assert text.encode()
        assert r"\u0000" not in text
        size = event.get("summary", {}).get("total_size")
        assert size is None or -(2**63) <= size < 2**64


def test_a_deadline_gives_the_sensors_own_time_out() -> None:
    with pytest.raises(AirflowSensorTimeout, match="remote task 7"):
        read_event(_as_stored(timeout_event("7")))


@pytest.mark.parametrize(
    "error",
    [
        TaskFailedError("disk full", remote_task_id="7", request_id="r-1"),
        TaskNotFoundError("unknown", remote_task_id="7", code="DownloadTaskNotFound"),
        AuthenticationError("refused", code="AccessDenied", target="GET https://h/p"),
        RateLimitedError("busy", retry_after=7.5),
        TaskFailedError("odd", retryable=True),
    ],
)
def test_an_error_comes_back_as_what_it_was(error: TaskDownloadError) -> None:
    with pytest.raises(TaskDownloadError) as caught:
        read_event(_as_stored(error_event(error)))
    assert type(caught.value) is type(error)
    assert vars(caught.value) == vars(error)


READY, FAILED = ready_event(LISTING), error_event(TaskFailedError("no"))


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"status": "ready"},
        {"status": "ready", "summary": SUMMARY},
        {**READY, "version": 2},
        {**READY, "version": None},
        {**READY, "status": "success"},
        {**READY, "status": None},
        {**READY, "summary": None},
        {**READY, "summary": "all of it"},
        {**READY, "version": "https://h/a?token=secret"},
        {**READY, "status": "https://h/a?token=secret"},
        {**FAILED, "error": None},
        {**FAILED, "version": 0},
        "ready",
        ["ready"],
    ],
)
def test_nothing_but_a_clear_yes_is_success(event: Any) -> None:
    with pytest.raises(TaskDownloadError, match="not understood") as caught:
        read_event(event)
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


def test_an_error_of_a_type_that_is_not_known_stays_an_error() -> None:
    event = error_event(TaskFailedError("from a later version"))
    event["error"]["type"] = "SomethingNewError"
    with pytest.raises(TaskDownloadError, match="from a later version") as caught:
        read_event(event)
    assert type(caught.value) is TaskDownloadError
