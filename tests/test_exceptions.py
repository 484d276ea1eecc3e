from __future__ import annotations

import inspect
import json
import pickle

import pytest

from airflow_provider_taskdl import exceptions
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    DestinationError,
    DownloadFailedError,
    IntegrityError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskDownloadError,
    TaskFailedError,
    TransferError,
    UnsafeLinkError,
)

TREE = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if issubclass(kind, TaskDownloadError)]
RETRYABLE = {
    "TaskNotReadyError", "ServiceUnavailableError", "RateLimitedError", "PausedError", "MalformedResponseError",
    "TransferError",
    "LinkExpiredError", "LinkRefusedError", "SourceChangedError", "IntegrityError", "DestinationError",
}  # fmt: skip
FULL = {
    "remote_task_id": "17",
    "file": "a.tif",
    "target": "https://h/p?sign=abc",
    "code": "E1",
    "request_id": "r-1",
    "retryable": True,
    "retry_after": 2.5,
}
FACTS = ["message", "remote_task_id", "file", "target", "code", "request_id"]


def _full(kind: type[TaskDownloadError] = TaskApiError) -> TaskDownloadError:
    return kind("it broke", **FULL)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TREE)
def test_each_error_knows_whether_a_retry_can_help(kind: type[TaskDownloadError]) -> None:
    expected = kind.__name__ in RETRYABLE
    assert kind("x").retryable is expected
    assert kind("x", retryable=not expected).retryable is not expected


@pytest.mark.parametrize("kind", TREE)
def test_each_error_is_drawn_in_the_tree_of_the_docstring(kind: type[TaskDownloadError]) -> None:
    assert kind.__name__ in (exceptions.__doc__ or "")


@pytest.mark.parametrize("kind", TREE)
def test_an_error_survives_pickle_with_all_it_knows(kind: type[TaskDownloadError]) -> None:
    error = _full(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), vars(copy), copy.args) == (str(error), vars(error), error.args)


@pytest.mark.parametrize("kind", TREE)
def test_an_error_survives_json(kind: type[TaskDownloadError]) -> None:
    error = _full(kind)
    copy = TaskDownloadError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(copy) is kind
    assert copy.to_dict() == error.to_dict()


def test_an_unknown_type_in_json_gives_the_root() -> None:
    error = TaskDownloadError.from_dict({"type": "Surprise", "message": "m", "more": 1})
    assert type(error) is TaskDownloadError
    assert (error.message, error.retryable) == ("m", False)


def test_an_empty_description_still_gives_an_error() -> None:
    assert str(TaskDownloadError.from_dict({})) == "unknown error"


def test_the_text_names_every_known_fact() -> None:
    assert str(_full()) == "it broke [task 17, file a.tif, target https://h/p?***, code E1, request id r-1]"


def test_the_text_is_only_the_message_where_nothing_else_is_known() -> None:
    assert str(TaskApiError("it broke")) == "it broke"


@pytest.mark.parametrize("name", ["message", "remote_task_id", "target", "code", "request_id"])
def test_no_fact_shows_the_query_of_a_url(name: str) -> None:
    url = "https://h/p?token=geheim"
    error = TaskApiError(url) if name == "message" else TaskApiError("m", **{name: url})  # type: ignore[arg-type]
    assert getattr(error, name) == "https://h/p?***"
    for shown in (str(error), repr(error), str(vars(error)), str(error.args), str(error.to_dict())):
        assert "geheim" not in shown


@pytest.mark.parametrize("name", ["message", "remote_task_id", "target", "code", "request_id"])
def test_hide_takes_a_secret_out_of_every_text(name: str) -> None:
    text = "echo s3cr3t/key and s3cr3t%2Fkey"
    error = TaskApiError(text) if name == "message" else TaskApiError("m", **{name: text})  # type: ignore[arg-type]
    error.hide(["s3cr3t/key"])
    assert getattr(error, name) == "echo *** and ***"
    for shown in (str(error), repr(error), str(vars(error)), str(error.args)):
        assert "s3cr3t" not in shown


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("text", ["a\r\nINFO forged", "\x1b[31mred", "\u202egpj.exe", "\u2028", "\ud800", "\x00"])
def test_no_fact_can_forge_a_line_or_break_a_log(name: str, text: str) -> None:
    error = TaskApiError(text) if name == "message" else TaskApiError("m", **{name: text})  # type: ignore[arg-type]
    assert str(error).isprintable()
    assert str(error).encode()


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_that_is_added_later_is_shown_as_one_that_was_known(name: str) -> None:
    error = TaskApiError("m")
    setattr(error, name, "1]\nERROR forged, see https://h/p?X-Amz-Signature=geheim" + "x" * 100_000)
    assert getattr(error, name).startswith(r"1]\nERROR forged, see https://h/p?***")
    assert len(str(error)) < 5000
    assert str(error).isprintable()


def test_a_line_end_within_a_query_ends_nothing() -> None:
    assert "geheim" not in str(TaskApiError("see https://h/p?a=1\n&token2=geheim"))


@pytest.mark.parametrize(("name", "limit"), [("message", 4000), ("file", 1000), ("remote_task_id", 1000)])
def test_a_foreign_text_is_shortened(name: str, limit: int) -> None:
    text = "x" * 100_000
    error = TaskApiError(text) if name == "message" else TaskApiError("m", **{name: text})  # type: ignore[arg-type]
    assert getattr(error, name) == "x" * limit + "…"


@pytest.mark.parametrize("cut", range(1, 15))
def test_what_is_left_of_a_secret_that_was_cut_is_hidden(cut: int) -> None:
    error = TaskApiError("m", request_id="x" * (1000 - cut) + "s3cr3t/key-0123456789")
    error.hide(["s3cr3t/key-0123456789"])
    assert "s3cr" not in str(error)


def test_hiding_nothing_changes_nothing() -> None:
    error = _full()
    before = dict(vars(error))
    error.hide([])
    assert vars(error) == before


@pytest.mark.parametrize(
    ("errors", "retryable"),
    [
        ((), False),
        ((UnsafeLinkError("a"),), False),
        ((UnsafeLinkError("a"), IntegrityError("b")), True),
        ((DestinationError("a", retryable=False),), False),
    ],
)
def test_several_failures_are_retryable_if_one_of_them_is(
    errors: tuple[TaskDownloadError, ...], retryable: bool
) -> None:
    assert DownloadFailedError("several", errors=errors).retryable is retryable


def test_several_failures_keep_their_order_through_pickle() -> None:
    error = DownloadFailedError("several", errors=[IntegrityError("b", file="b"), UnsafeLinkError("a", file="a")])
    copy = pickle.loads(pickle.dumps(error))
    assert [(type(one), one.file) for one in copy.errors] == [(IntegrityError, "b"), (UnsafeLinkError, "a")]


def test_the_branches_of_the_tree_are_told_apart() -> None:
    for kind in (AuthenticationError, RateLimitedError, ServiceUnavailableError, TaskFailedError):
        assert issubclass(kind, TaskApiError)
    for other in (UnsafeLinkError, IntegrityError, DownloadFailedError):
        assert issubclass(other, TransferError)
    assert not issubclass(ConnectionConfigError, TaskApiError | TransferError)
