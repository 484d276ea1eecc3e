from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.apis.base import (
    Answer,
    Call,
    TaskApi,
    WireModel,
    check_task_id,
    is_task_id,
    raise_for_status,
    read_json,
    read_model,
)
from airflow_provider_taskdl.apis.bls import BlsApi
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
)
from airflow_provider_taskdl.listing import FileListing


class _Model(WireModel):
    name: str
    size: int | None = None


def _answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a", "size": 3}',
        b'\xef\xbb\xbf{"name": "a", "size": 3}',
        b'{"name": "a", "size": "3", "more": [1]}',
        b' {"size": 3.0, "name": "a"}\n',
    ],
)
def test_a_json_answer_is_read_whatever_else_it_holds(body: bytes) -> None:
    assert read_json(_answer(body), _Model, "S") == _Model(name="a", size=3)


def test_a_number_may_stand_for_a_text() -> None:
    assert read_json(_answer(b'{"name": 17}'), _Model, "S").name == "17"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_answer(b""), "HTTP 200 without a body"),
        (_answer(b" \r\n"), "HTTP 200 without a body"),
        (_answer(b" ", 204), "HTTP 204 without a body"),
        (_answer(b"<html>geheim</html>", content_type="text/html"), r"no JSON \(text/html, 19 bytes\)"),
        (_answer(b'{"name": "geheim'), "no JSON"),
        (_answer(b"\xff\xfe\x00geheim"), "no JSON"),
        (_answer(b"[" * 200_000), "no JSON"),
        (_answer(b'{"name": "a", "size": ' + b"9" * 5000 + b"}"), "no JSON"),
        (_answer(b"null"), "body"),
        (_answer(b'["geheim"]'), "body"),
        (_answer(b"{}"), "name: Field required"),
        (_answer(b'{"name": ["geheim"]}'), "name"),
        (_answer(b'{"name": true}'), "name"),
        (_answer(b'{"name": "\\ud800"}'), "no JSON"),
        (_answer(b'{"\\ud800": "geheim", "name": "a"}'), "no JSON"),
        (_answer(b'{"name": "a", "size": "geheim"}'), "size"),
        (_answer(b'{"name": "a", "size": NaN}'), "size"),
        (_answer(b'{"name": "a", "size": 1e999}'), "size"),
    ],
)
def test_another_body_is_malformed_and_not_quoted(answer: Answer, said: str) -> None:
    with pytest.raises(MalformedResponseError, match=said) as caught:
        read_json(answer, _Model, "S")
    error: BaseException | None = caught.value
    while error is not None:
        assert "geheim" not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


def test_a_malformed_answer_names_the_request() -> None:
    with pytest.raises(MalformedResponseError) as caught:
        read_json(_answer(b"", x_bce_request_id="r-1"), _Model, "S")
    assert caught.value.request_id == "r-1"
    with pytest.raises(MalformedResponseError) as caught:
        read_model({}, _Model, "S", "r-2")
    assert caught.value.request_id == "r-2"


def test_no_more_than_three_problems_are_listed() -> None:
    class Many(WireModel):
        a: int
        b: int
        c: int
        d: int

    with pytest.raises(MalformedResponseError) as caught:
        read_model({}, Many, "S")
    assert caught.value.message.count("required") == 3


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_any_body_gives_a_value_or_malformed(body: bytes | str) -> None:
    raw = body.encode() if isinstance(body, str) else body
    with suppress(MalformedResponseError):
        assert isinstance(read_json(_answer(raw), _Model, "S"), _Model)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, TaskApiError, False),
        (401, AuthenticationError, False),
        (403, AuthenticationError, False),
        (407, AuthenticationError, False),
        (404, TaskApiError, False),
        (408, ServiceUnavailableError, True),
        (409, TaskApiError, False),
        (413, TaskApiError, False),
        (425, ServiceUnavailableError, True),
        (429, RateLimitedError, True),
        (500, ServiceUnavailableError, True),
        (502, ServiceUnavailableError, True),
        (503, ServiceUnavailableError, True),
        (599, ServiceUnavailableError, True),
        (302, MalformedResponseError, True),
    ],
)
def test_the_status_decides_the_error(status: int, kind: type[TaskApiError], retryable: bool) -> None:
    with pytest.raises(TaskApiError) as caught:
        raise_for_status(_answer(b"", status, x_bce_request_id="r"), "S", code="Odd", message="why")
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.request_id, error.retryable) == ("Odd", "r", retryable)


def test_the_service_s_words_are_shown_without_links() -> None:
    with pytest.raises(TaskApiError, match=r"refused the request: see https://h/p\?\*\*\* \[code HTTP 400\]"):
        raise_for_status(_answer(b"", 400), "S", code=None, message="see https://h/p?sign=abc")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), [("12", 12.0), ("99999", 3600.0), ("never", None)])
def test_retry_after_is_taken_over(status: int, header: str, seconds: float | None) -> None:
    with pytest.raises(TaskApiError) as caught:
        raise_for_status(_answer(b"", status, retry_after=header), "S", code=None, message=None)
    assert caught.value.retry_after == seconds


def test_a_404_without_a_code_is_not_about_the_task() -> None:
    with pytest.raises(MalformedResponseError, match="no such API"):
        raise_for_status(_answer(b"", 404), "S", code=None, message=None)


def test_another_status_may_decide_but_the_code_tells_what_was_sent() -> None:
    with pytest.raises(RateLimitedError) as caught:
        raise_for_status(_answer(b"", 200), "S", code=None, message=None, status=429)
    assert caught.value.code == "HTTP 200"


@pytest.mark.parametrize(
    ("given_id", "text"), [("12345", "12345"), (" a-b_c.d:e \n", "a-b_c.d:e"), (12345, "12345"), ("1" * 128, "1" * 128)]
)
def test_a_task_id_is_text_without_blanks_around_it(given_id: object, text: str) -> None:
    assert check_task_id(given_id) == text


BAD_IDS: list[Any] = [
    "", "  ", "../x", "..", ".", ".hidden", "a/b", "a\\b", "a b", "a?b", "a#b", "a%2fb", "a\nb", "a\x00b", "{{ x }}",
    "1" * 129, None, True, 1.5, b"x", ["x"], "https://h/p?sign=abc",
    "a::b", "::", "a:::b",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_IDS)
def test_what_is_no_task_id_is_a_configuration_error(bad: object) -> None:
    with pytest.raises(ConnectionConfigError, match="remote_task_id") as caught:
        check_task_id(bad)
    assert "sign=abc" not in str(caught.value)


@pytest.mark.parametrize("text", ["12345", " 12345", *(bad for bad in BAD_IDS if isinstance(bad, str))])
def test_a_listed_id_is_one_only_as_it_stands(text: str) -> None:
    assert is_task_id(text) is (text == "12345")


@given(st.text(max_size=20))
def test_an_accepted_task_id_is_one_segment_of_a_path(text: str) -> None:
    try:
        checked = check_task_id(text)
    except ConnectionConfigError:
        return
    assert checked == text.strip()
    assert not set(checked) & set("/\\?#%& \n\r\t\0")
    assert not checked.startswith(".")
    assert "::" not in checked


def test_an_api_without_states_has_no_status_call() -> None:
    class Bare(TaskApi):
        service = "Bare"

        def list_files(self, remote_task_id: str) -> Call[FileListing]:
            return Call("GET", "/", lambda answer: FileListing(remote_task_id, ()))

        def probe(self) -> Call[None]:
            return Call("GET", "/", lambda answer: None)

    assert Bare().get_status("1") is None
    assert Bare().list_tasks(1) is None


def test_what_a_service_says_is_shortened() -> None:
    answer = Answer(403, {}, json.dumps({"code": "AccessDenied", "message": "x" * 10_000}).encode())
    with pytest.raises(AuthenticationError) as caught:
        BlsApi().probe().read(answer)
    assert len(str(caught.value)) < 700


def test_a_call_can_give_something_else_of_the_same_answer() -> None:
    call = Call("POST", "/p", lambda answer: answer.status, {"q": "1"}, {"b": 2}, "t", is_hint=True)
    other = call.then(str)
    assert other.read(_answer(b"", 204)) == "204"
    same = ("method", "path", "query", "body", "remote_task_id", "is_hint")
    assert [getattr(other, name) for name in same] == [getattr(call, name) for name in same]
