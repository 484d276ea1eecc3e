from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.backoff import (
    MAX_RETRY_AFTER,
    equal_jitter,
    full_jitter,
    growing_pause,
    longest_pause,
    parse_retry_after,
)

NOW = datetime(2024, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


@given(st.integers(-5, 10_000), st.floats(0, 60), st.floats(0, 600))
def test_the_jitter_stays_between_nothing_and_the_cap(failures: int, base: float, cap: float) -> None:
    assert 0 <= full_jitter(failures, base=base, cap=cap) <= cap


@pytest.mark.parametrize(("failures", "ceiling"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (500, 10)])
def test_the_ceiling_doubles_with_each_failure(monkeypatch: pytest.MonkeyPatch, failures: int, ceiling: float) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high))
    assert full_jitter(failures, base=1, cap=10) == (0.0, ceiling)  # type: ignore[comparison-overlap]


@given(st.integers(0, 10_000), st.floats(0, 1e300))
def test_the_pause_between_looks_is_their_interval_or_grows_up_to_five_minutes(failures: int, interval: float) -> None:
    assert interval <= growing_pause(failures, interval) <= longest_pause(interval) == max(interval, 300)


def test_the_half_of_an_equal_jitter_is_for_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high - low)
    assert [equal_jitter(n, base=1, cap=10) for n in (1, 3, 5)] == [0.5, 2.0, 5.0]


def test_two_waits_are_not_alike() -> None:
    assert len({full_jitter(5, base=1, cap=100) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("3600", 3600.0),
        ("3601", MAX_RETRY_AFTER),
        ("9" * 400, MAX_RETRY_AFTER),
        ("Mon, 01 Jan 2024 12:00:30 GMT", 30.0),
        ("Mon, 01 Jan 2024 12:00:30 -0000", 30.0),
        ("Mon, 01 Jan 2024 14:00:30 +0200", 30.0),
        ("Monday, 01-Jan-24 12:00:30 GMT", 30.0),
        ("Mon, 01 Jan 2024 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
    ],
)
def test_a_retry_after_is_read_in_both_its_forms(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize("value", [None, "", "soon", "-1", "1.5", "١٢", "²", "Mon, 99 Jan 2024 12:00:30 GMT", "1 s"])
def test_a_retry_after_that_says_nothing_is_none(value: str | None) -> None:
    assert parse_retry_after(value, NOW) is None


def test_a_date_counts_from_the_present() -> None:
    when = datetime.now(timezone.utc) + timedelta(seconds=100)
    seconds = parse_retry_after(when.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    assert seconds is not None
    assert 90 < seconds <= 100


@given(st.text(max_size=60))
def test_any_retry_after_gives_bounded_seconds_or_none(value: str) -> None:
    seconds = parse_retry_after(value)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER
