from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile, TaskState, expiry_of, parse_time

UTC = timezone.utc
SIGNED = (
    "https://bls-test.bj.bcebos.com/test/a.json?responseContentDisposition=attachment&authorization=bce-auth-v1%2F"
    "e3dd1082f1004b58ac81ddd9c7d706e4%2F2024-11-05T09%3A29%3A30Z%2F300%2Fhost%2Fd83c3bfbe22cf6ea4ca7457f823fdb7e"
)
BCE = "https://h/f?authorization=bce-auth-v1%2Fak%2F2024-01-01T00%3A00%3A00Z%2F{}%2Fhost%2Fab"


def _file(name: str, url: str | None = "https://h/f", size: int | None = None) -> RemoteFile:
    return RemoteFile(name, None if url is None else Link(url), size)


@pytest.mark.parametrize(
    ("url", "expires"),
    [
        (SIGNED, datetime(2024, 11, 5, 9, 34, 30, tzinfo=UTC)),
        (BCE.format(300), datetime(2024, 1, 1, 0, 5, tzinfo=UTC)),
        (BCE.format(-1), None),
        (BCE.format("soon"), None),
        (BCE.format("9" * 30), None),
        ("https://h/f?authorization=bce-auth-v1%2Fak", None),
        ("https://h/f?X-Amz-Date=20240101T000000Z&X-Amz-Expires=60", datetime(2024, 1, 1, 0, 1, tzinfo=UTC)),
        ("https://h/f?x-goog-date=20240101T000000Z&x-goog-expires=60", datetime(2024, 1, 1, 0, 1, tzinfo=UTC)),
        ("https://h/f?X-Amz-Date=yesterday&X-Amz-Expires=60", None),
        ("https://h/f?X-Amz-Expires=60", None),
        ("https://h/f?AWSAccessKeyId=a&Expires=1704067200&Signature=s", datetime(2024, 1, 1, tzinfo=UTC)),
        ("https://h/f?Expires=" + "9" * 40, None),
        ("https://h/f?Expires=%C2%B2", None),
        ("https://h/f?sp=r&se=2024-01-01T00%3A00%3A00Z&sig=x", datetime(2024, 1, 1, tzinfo=UTC)),
        ("https://h/f?se=2024-01-01T00%3A00%3A00Z", None),
        ("https://h/f?token=abc", None),
        ("https://[broken", None),
        ("", None),
    ],
)
def test_a_signed_url_tells_its_own_expiry(url: str, expires: datetime | None) -> None:
    assert expiry_of(url) == expires


@given(
    st.text(max_size=80), st.sampled_from(["authorization=bce-auth-v1/", "Expires=", "se=1&sig=2&x=", "X-Amz-Date="])
)
def test_no_url_breaks_the_reading_of_its_expiry(tail: str, key: str) -> None:
    time = expiry_of(f"https://h/f?{key}{tail}")
    assert time is None or time.tzinfo is not None


@pytest.mark.parametrize("expires_at", [None, datetime(2024, 11, 5, 9, 40, tzinfo=UTC)])
def test_the_earlier_expiry_of_word_and_url_holds(expires_at: datetime | None) -> None:
    assert Link(SIGNED, expires_at).expires_at == datetime(2024, 11, 5, 9, 34, 30, tzinfo=UTC)
    early = datetime(2024, 11, 5, 9, 30, tzinfo=UTC)
    assert Link(SIGNED, early).expires_at == early


@pytest.mark.parametrize(("left", "margin", "soon"), [(10, 30, True), (31, 30, False), (-5, 0, True), (30, 30, False)])
def test_a_link_knows_whether_it_ends_soon(left: float, margin: float, soon: bool) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    assert Link("https://h/f", now + timedelta(seconds=left)).expires_within(margin, now) is soon


def test_a_link_without_expiry_never_ends_soon() -> None:
    assert not Link("https://h/f").expires_within(10**9)


def test_a_link_counts_from_the_present() -> None:
    assert Link(SIGNED).expires_within(0)


@pytest.mark.parametrize("url", [SIGNED, "https://h/%7Ea?b=%2f&B=+&&c", "not a url", "https://h/ä?ö"])
def test_a_link_reveals_its_url_byte_for_byte(url: str) -> None:
    assert Link(url).reveal() == url


def test_a_link_shows_no_query() -> None:
    link = Link(SIGNED)
    file = RemoteFile("a.json", link)
    for shown in (str(link), repr(link), f"{link}", f"{link!r:>100}", str(file), repr(FileListing("1", (file,)))):
        assert "https://bls-test.bj.bcebos.com/test/a.json" in shown
        assert "bce-auth" not in shown
        assert "e3dd1082" not in shown


def test_a_pickled_link_has_no_url() -> None:
    stored = pickle.dumps(RemoteFile("a.json", Link(SIGNED)))
    assert b"e3dd1082" not in stored
    link = pickle.loads(stored).link
    assert (link.shown, link.expires_at) == (Link(SIGNED).shown, Link(SIGNED).expires_at)
    with pytest.raises(ValueError, match="ask the service for a new one"):
        link.reveal()


def test_a_copied_link_keeps_its_url() -> None:
    link = Link(SIGNED)
    assert copy.copy(link).reveal() == copy.deepcopy([link])[0].reveal() == SIGNED


def test_links_are_equal_by_url() -> None:
    assert Link(SIGNED) == Link(SIGNED)
    assert hash(Link(SIGNED)) == hash(Link(SIGNED))
    assert Link(SIGNED) != Link(SIGNED + "0")
    assert Link(SIGNED) != SIGNED


@pytest.mark.parametrize(
    ("files", "ready"),
    [
        ((), False),
        ((_file("a"),), True),
        ((_file("a", None),), False),
        ((_file("a"), _file("b", None)), False),
        ((_file("a"), _file("b")), True),
    ],
)
def test_a_listing_is_ready_when_it_has_files_and_all_have_links(files: tuple[RemoteFile, ...], ready: bool) -> None:
    assert FileListing("1", files).is_ready is ready


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ((1, 2), None, 3), ((1, 2), 9, 9), ((1, None), None, None), ((1, None), 9, 9), ((0,), 0, 0), ((), None, 0),
        ((2**63 - 2, 1), None, 2**63 - 1), ((2**63 - 1, 1), None, None), ((1,), 2**64, None), ((-(2**64),), None, None),
    ],
)  # fmt: skip
def test_the_summary_has_the_total_the_service_named_or_the_sum_as_far_as_a_store_could_hold_it(
    sizes: tuple[int | None, ...], total: int | None, expected: int | None
) -> None:
    files = tuple(_file(f"f{n}", size=size) for n, size in enumerate(sizes))
    assert FileListing("1", files, total).summary()["total_size"] == expected


def test_the_summary_is_json_without_links_in_the_order_of_the_service() -> None:
    listing = FileListing("1", (_file("b", SIGNED, 2), _file("a", SIGNED, 1)))
    expected = {"remote_task_id": "1", "file_names": ["b", "a"], "file_count": 2, "total_size": 3}
    assert json.loads(json.dumps(listing.summary())) == expected


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-01-01T11:00:00Z", datetime(2024, 1, 1, 11, tzinfo=UTC)),
        (" 2024-01-01t11:00:00z ", datetime(2024, 1, 1, 11, tzinfo=UTC)),
        ("2024-01-01T11:00:00", datetime(2024, 1, 1, 11, tzinfo=UTC)),
        ("2024-01-01 11:00:00.250+02:00", datetime(2024, 1, 1, 9, 0, 0, 250_000, tzinfo=UTC)),
        ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, time: datetime) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01T00:00:00Z", "1704067200000"])
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month|hour|day"):
        parse_time(text)


@pytest.mark.parametrize("state", list(TaskState))
def test_a_state_is_shown_as_its_word(state: TaskState) -> None:
    assert f"{state}" == str(state) == state.value


def test_a_day_without_hyphens_is_one_on_every_python() -> None:
    assert parse_time(" 20251101 ") == parse_time("2025-11-01")
