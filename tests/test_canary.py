"""The helper itself: a guard that sees nothing would make every test that uses it worthless."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from airflow_provider_taskdl.exceptions import TransferError
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from tests.canary import CANARY, assert_canary_free, secrets_of


def error_with(**facts: object) -> Exception:
    error = ValueError("harmless")
    vars(error).update(facts)
    return error


def error_from(inner: BaseException, *, hidden: bool) -> Exception:
    error = ValueError("harmless")
    error.__context__, error.__suppress_context__ = inner, hidden
    return error


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("any", logging.DEBUG, __file__, 1, message, args, None)


@pytest.mark.parametrize(
    "thing",
    [
        CANARY,
        CANARY.encode(),
        quote(CANARY, safe=""),
        {"a": [("b", CANARY)]},
        ValueError(CANARY),
        error_with(url=CANARY),
        error_with(deep={"x": [CANARY]}),
        error_from(ValueError(CANARY), hidden=False),
        error_from(ValueError(CANARY), hidden=True),
        UnicodeEncodeError("ascii", CANARY, 0, 1, "harmless"),
        record(f"see {CANARY}"),
        record("see %s", CANARY),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_a_canary_is_seen_wherever_it_sits(thing: object) -> None:
    with pytest.raises(AssertionError, match="shows"):
        assert_canary_free("nothing", thing)


def test_a_canary_is_seen_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.json").write_text(f'{{"link": "{CANARY}"}}')
    with pytest.raises(AssertionError, match=r"file\.json"):
        assert_canary_free(tmp_path)


def test_what_is_clean_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\x00")
    error = TransferError("it failed", target=f"https://h.example/a?sig={CANARY}")
    assert_canary_free(error, record("fine %d", 1), tmp_path, None, 1.5, {"a": error})


def test_without_a_secret_nothing_is_proved() -> None:
    with pytest.raises(AssertionError, match="prove nothing"):
        assert_canary_free("text", secrets=())


def test_the_secrets_of_a_link_are_its_query_and_its_long_values() -> None:
    url = "https://h.example/a?flag=1&sig=abcdefgh%2Fijklmnop"
    listing = FileListing("t", (RemoteFile("a", Link(url)), RemoteFile("b", None)))
    assert secrets_of(listing) == secrets_of(url) == {"flag=1&sig=abcdefgh%2Fijklmnop", "abcdefgh/ijklmnop"}
