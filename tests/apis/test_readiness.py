from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.apis.base import Answer, Call, TaskApi
from airflow_provider_taskdl.apis.readiness import Decision, LinkWatch
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    PausedError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile, TaskState, TaskStatus

Reply = TaskStatus | FileListing | TaskApiError

A, B = RemoteFile("a", Link("https://h/a")), RemoteFile("b", None)
READY, NONE, PART = FileListing("7", (A,)), FileListing("7", ()), FileListing("7", (A, B))
WAITING, RUNNING, SUCCESS = (TaskStatus(state) for state in (TaskState.WAITING, TaskState.RUNNING, TaskState.SUCCESS))
FAILED, EXPIRED = TaskStatus(TaskState.FAILED, "disk full"), TaskStatus(TaskState.EXPIRED)
UNKNOWN = TaskStatus(TaskState.UNKNOWN)
DOWN, BUSY = ServiceUnavailableError("down"), RateLimitedError("busy", retry_after=120.0)
PAUSED = PausedError("the service asked everybody to wait", retry_after=120.0)
ODD, MISSING, REFUSED, BAD = (
    MalformedResponseError("odd"), TaskNotFoundError("unknown"), AuthenticationError("no"), TaskApiError("bad"),
)  # fmt: skip


def _unread(answer: Answer) -> Any:
    raise AssertionError("the script answers")


class Api(TaskApi):
    service = "Script"

    def list_files(self, remote_task_id: str) -> Call[FileListing]:
        return Call("GET", "/links", _unread, remote_task_id=remote_task_id)

    def get_status(self, remote_task_id: str) -> Call[TaskStatus] | None:
        return Call("GET", "/status", _unread, remote_task_id=remote_task_id)

    def probe(self) -> Call[None]:
        return Call("GET", "/", _unread)


class Statusless(Api):
    def get_status(self, remote_task_id: str) -> None:
        return None


def _watch(api: TaskApi | None = None, **settings: Any) -> LinkWatch:
    return LinkWatch(**{"api": api or Api(), "remote_task_id": "7", "interval": 10.0, **settings})


def _look(watch: LinkWatch, **replies: Reply) -> tuple[Decision | TaskApiError, list[str]]:
    """Drive one look by hand; give its outcome and what was asked."""
    steps, asked = watch.look(), []
    try:
        call = next(steps)
        while True:
            asked.append(call.path[1:])
            reply = replies[asked[-1]]
            call = steps.throw(reply) if isinstance(reply, TaskApiError) else steps.send(reply)
    except StopIteration as stop:
        decision: Decision = stop.value
        return decision, asked
    except TaskApiError as error:
        return error, asked


BOTH = ["status", "links"]


@pytest.mark.parametrize("state", [SUCCESS, UNKNOWN])
def test_all_files_with_links_are_the_end_of_the_wait(state: TaskStatus) -> None:
    outcome, asked = _look(_watch(), status=state, links=READY)
    assert (outcome, asked) == (Decision(listing=READY), BOTH)


@pytest.mark.parametrize(("listing", "why"), [(NONE, "no files yet"), (PART, "1 of 2 files have a link")])
@pytest.mark.parametrize("state", [SUCCESS, UNKNOWN])
def test_no_files_or_a_missing_link_is_waited_for(state: TaskStatus, listing: FileListing, why: str) -> None:
    outcome, _ = _look(_watch(), status=state, links=listing)
    assert outcome == Decision(wait=10.0, why=why)


@pytest.mark.parametrize("state", [WAITING, RUNNING])
def test_a_task_that_still_runs_saves_the_link_call(state: TaskStatus) -> None:
    outcome, asked = _look(_watch(), status=state)
    assert (outcome, asked) == (Decision(wait=10.0, why=f"the task is {state.state}"), ["status"])


@pytest.mark.parametrize(
    ("state", "message"),
    [(FAILED, "the task failed at the service: disk full"), (EXPIRED, "the task has expired at the service")],
)
@pytest.mark.parametrize("not_found", ["fail", "wait"])
def test_a_task_that_failed_ends_the_wait_with_its_reason(
    state: TaskStatus, message: str, not_found: Literal["fail", "wait"]
) -> None:
    outcome, asked = _look(_watch(not_found=not_found), status=state)
    assert isinstance(outcome, TaskFailedError)
    assert (outcome.message, outcome.remote_task_id, asked) == (message, "7", ["status"])


@pytest.mark.parametrize("error", [REFUSED, BAD])
@pytest.mark.parametrize("not_found", ["fail", "wait"])
def test_a_refusal_ends_the_wait(error: TaskApiError, not_found: Literal["fail", "wait"]) -> None:
    outcome, _ = _look(_watch(not_found=not_found), status=SUCCESS, links=error)
    assert outcome is error
    assert error.remote_task_id == "7"


def test_weather_that_no_retry_can_mend_ends_the_wait() -> None:
    too_long = MalformedResponseError("too long", retryable=False)
    outcome, _ = _look(_watch(), status=SUCCESS, links=too_long)
    assert outcome is too_long


def test_an_unknown_task_fails_or_is_waited_for() -> None:
    assert _look(_watch(), status=SUCCESS, links=MISSING)[0] is MISSING
    outcome, _ = _look(_watch(not_found="wait", errors=4), status=SUCCESS, links=MISSING)
    assert outcome == Decision(wait=10.0, why="unknown", error=MISSING)


@pytest.mark.parametrize("error", [MISSING, REFUSED, BAD, ODD])
@pytest.mark.parametrize("listing", [READY, NONE])
def test_a_status_endpoint_of_no_use_leaves_it_to_the_links(error: TaskApiError, listing: FileListing) -> None:
    watch = _watch()
    outcome, asked = _look(watch, status=error, links=listing)
    assert isinstance(outcome, Decision)
    assert (outcome.listing, asked, watch.errors) == (listing if listing is READY else None, BOTH, 0)


def test_a_useless_status_endpoint_is_logged_once_and_given_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = _watch()
    asked = [_look(watch, status=MISSING, links=NONE)[1] for _ in range(5)]
    assert asked == [BOTH, BOTH, BOTH, ["links"], ["links"]]
    assert len([r for r in caplog.records if "links alone decide" in r.message]) == 1


def test_one_good_state_makes_the_status_endpoint_trusted_again() -> None:
    watch = _watch()
    for reply in (ODD, ODD, UNKNOWN, ODD, ODD, ODD):
        assert _look(watch, status=reply, links=NONE)[1] == BOTH
    assert _look(watch, links=NONE)[1] == ["links"]


@pytest.mark.parametrize("settings", [{"check_status": False}, {"api": Statusless()}])
def test_the_links_alone_suffice(settings: dict[str, Any]) -> None:
    outcome, asked = _look(_watch(**settings), links=READY)
    assert (outcome, asked) == (Decision(listing=READY), ["links"])


@pytest.mark.parametrize("error", [DOWN, BUSY])
def test_an_unavailable_status_endpoint_is_skipped_every_other_time(error: TaskApiError) -> None:
    watch = _watch(max_consecutive_errors=1)
    asked = [_look(watch, status=error, links=NONE) for _ in range(4)]
    assert [paths for _, paths in asked] == [["status"], ["links"], ["status"], ["links"]]
    assert all(isinstance(outcome, Decision) for outcome, _ in asked)
    assert _look(watch, status=error)[1] == ["status"]
    assert _look(watch, links=READY)[0] == Decision(listing=READY)


@pytest.mark.parametrize("error", [DOWN, BUSY, ODD])
def test_weather_is_waited_out_so_many_times_in_a_row(error: TaskApiError) -> None:
    watch = _watch(check_status=False, max_consecutive_errors=3)
    for count in (1, 2, 3):
        outcome, _ = _look(watch, links=error)
        assert isinstance(outcome, Decision)
        assert outcome.listing is None
        assert f"({count} of at most 3 in a row)" in outcome.why
        assert watch.errors == count
    outcome, _ = _look(watch, links=error)
    assert outcome is error
    assert error.remote_task_id == "7"


def test_an_outage_of_both_endpoints_counts_every_look() -> None:
    watch = _watch(max_consecutive_errors=4)
    outcomes = [_look(watch, status=DOWN, links=DOWN)[0] for _ in range(5)]
    assert [isinstance(outcome, Decision) for outcome in outcomes] == [True] * 4 + [False]


@pytest.mark.parametrize("replies", [{"links": NONE}, {"links": PART}, {"links": READY}, {"links": MISSING}])
def test_an_answer_ends_the_row_of_errors(replies: dict[str, Reply]) -> None:
    watch = _watch(check_status=False, max_consecutive_errors=2, not_found="wait")
    for _ in range(3):
        for _ in range(2):
            assert isinstance(_look(watch, links=DOWN)[0], Decision)
        assert isinstance(_look(watch, **replies)[0], Decision)
        assert watch.errors == 0


def test_a_running_task_ends_the_row_of_errors() -> None:
    watch = _watch(errors=2, max_consecutive_errors=2)
    _look(watch, status=RUNNING)
    assert watch.errors == 0


def test_the_row_goes_on_where_an_earlier_watch_ended() -> None:
    assert _look(_watch(check_status=False, max_consecutive_errors=2, errors=2), links=DOWN)[0] is DOWN


def test_no_error_is_waited_out_where_none_is_allowed() -> None:
    assert _look(_watch(check_status=False, max_consecutive_errors=0), links=DOWN)[0] is DOWN


@pytest.mark.parametrize(
    ("asked_for", "expected"), [(None, 10.0), (3.0, 10.0), (120.0, 120.0), (3600.0, 3600.0), (1e9, 3600.0)]
)
def test_retry_after_lengthens_the_wait_up_to_an_hour(
    monkeypatch: pytest.MonkeyPatch, asked_for: float | None, expected: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    outcome, _ = _look(_watch(), status=RateLimitedError("busy", retry_after=asked_for))
    assert isinstance(outcome, Decision)
    assert outcome.wait == expected


def test_those_who_were_told_the_same_time_come_back_over_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    outcome, _ = _look(_watch(), status=RateLimitedError("busy", retry_after=120.0))
    assert isinstance(outcome, Decision)
    assert outcome.wait == 130.0


@pytest.mark.parametrize("replies", [{"status": PAUSED}, {"status": SUCCESS, "links": PAUSED}])
@pytest.mark.parametrize("errors", [0, 2, 10])
def test_a_look_that_could_not_ask_counts_neither_way(
    monkeypatch: pytest.MonkeyPatch, replies: dict[str, Reply], errors: int
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    watch = _watch(errors=errors, refusals=1)
    outcome, asked = _look(watch, **replies)
    assert outcome == Decision(wait=130.0, why=PAUSED.message, error=PAUSED)
    assert (asked, watch.errors) == (list(replies), errors)


def test_the_state_is_asked_for_as_something_that_one_can_do_without() -> None:
    steps = _watch().look()
    assert next(steps).is_hint
    assert not steps.send(SUCCESS).is_hint


@given(interval=st.floats(0, 10_000), errors=st.integers(0, 10**6))
def test_the_back_off_is_at_least_the_interval_and_bounded(interval: float, errors: int) -> None:
    watch = _watch(check_status=False, interval=interval, errors=errors, max_consecutive_errors=10**9)
    outcome, _ = _look(watch, links=DOWN)
    assert isinstance(outcome, Decision)
    assert outcome.error is DOWN
    assert interval <= outcome.wait <= max(interval, 300.0)


@pytest.mark.parametrize(("errors", "ceiling"), [(0, 20), (1, 40), (3, 160), (4, 300), (9, 300)])
def test_the_back_off_doubles(monkeypatch: pytest.MonkeyPatch, errors: int, ceiling: float) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    outcome, _ = _look(_watch(check_status=False, errors=errors, max_consecutive_errors=99), links=DOWN)
    assert isinstance(outcome, Decision)
    assert outcome.wait == ceiling


def test_another_word_for_not_found_is_a_configuration_error() -> None:
    with pytest.raises(ConnectionConfigError, match="'ignore'"):
        _watch(not_found="ignore")


@pytest.mark.parametrize("make", [lambda: KeyError("bug"), lambda: ConnectionConfigError("wrong")])
def test_what_is_no_answer_of_the_service_passes_through(make: Callable[[], Exception]) -> None:
    steps, error = _watch().look(), make()
    next(steps)
    with pytest.raises(type(error)) as caught:
        steps.throw(error)
    assert caught.value is error
