"""Links are fresh when they are handed out, and the service is asked once however many threads wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TypeVar

import pytest

from airflow_provider_taskdl import listing as listings
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    RateLimitedError,
    ServiceUnavailableError,
    SourceChangedError,
    TaskApiError,
    TaskDownloadError,
    TaskNotReadyError,
    TransferError,
)
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.transfer import link_source, retry
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from tests.transfer.harness import FAST, Lister, listing, remote

THREADS = 16
T = TypeVar("T")


def links(number: int, life: float | None = None, size: int | None = None) -> FileListing:
    """A listing of two files; ``number`` is in its links."""
    ends = None if life is None else datetime.now(timezone.utc) + timedelta(seconds=life)
    return listing(*(remote(f"http://h/{name}?n={number}", name, size, ends) for name in "ab"))


def in_threads(work: Callable[[], T]) -> list[T]:
    start = threading.Barrier(THREADS)

    def run(_: int) -> T:
        start.wait(5)
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


class Wall:
    """The world's clock, which goes by hand where the life of links is reckoned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        wall = self

        class Moved(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.fromtimestamp(wall.now, tz)

        for module in (link_source, listings):
            monkeypatch.setattr(module, "datetime", Moved)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


class Slow(Lister):
    """Takes its time, so that the others have to wait."""

    def __call__(self) -> FileListing:
        answer = super().__call__()
        time.sleep(0.05)
        return answer


@pytest.mark.parametrize("life", [None, 3600.0, 40.0])
def test_a_link_that_has_time_left_is_handed_out_as_it_is(life: float | None) -> None:
    lister = Lister([links(2)])
    source = LinkSource(links(1, life), lister, FAST)
    for _ in range(3):
        assert source.current("a").reveal() == "http://h/a?n=1"
    assert lister.calls == 0


def test_a_link_is_replaced_before_it_ends(wall: Wall) -> None:
    lister = Lister([links(2, 3600)])
    source = LinkSource(links(1, 100), lister, FAST)
    wall.now += 79
    assert source.current("a").reveal() == "http://h/a?n=1"
    wall.now += 10
    assert source.current("a").reveal() == "http://h/a?n=2"
    assert source.current("b").reveal() == "http://h/b?n=2"
    assert lister.calls == source.renewals == 1


def test_many_threads_with_an_ending_link_ask_once(wall: Wall) -> None:
    lister = Slow([links(2, 3600)])
    source = LinkSource(links(1, 100), lister, FAST)
    wall.now += 90
    assert set(in_threads(lambda: source.current("a").reveal())) == {"http://h/a?n=2"}
    assert lister.calls == 1


def test_many_threads_with_a_refused_link_ask_once() -> None:
    lister = Slow([links(2), links(3)])
    source = LinkSource(links(1), lister, FAST)
    refused = {name: source.current(name) for name in "ab"}
    got = in_threads(lambda: source.renew("a", refused["a"]).reveal())
    assert set(got) == {"http://h/a?n=2"}
    assert source.renew("b", refused["b"]).reveal() == "http://h/b?n=2"
    assert lister.calls == 1


def test_a_renewed_link_that_is_refused_is_renewed_again() -> None:
    source = LinkSource(links(1), Lister([links(2), links(3)]), FAST)
    second = source.renew("a", source.current("a"))
    assert source.renew("a", second).reveal() == "http://h/a?n=3"


def test_the_same_link_given_again_is_renewed_again() -> None:
    lister = Lister([links(1)])
    source = LinkSource(links(1), lister, FAST)
    for call in range(1, 4):
        source.renew("a", source.current("a"))
        assert lister.calls == call


@pytest.mark.parametrize("life", [-3600.0, -1.0, 0.0])
def test_a_clock_that_is_wrong_does_not_make_a_storm(life: float) -> None:
    """Every link is over on arrival by this machine's clock; only a refusal tells that one really is."""
    lister = Lister([links(2, life)])
    source = LinkSource(links(1, life), lister, FAST)
    assert set(in_threads(lambda: source.current("a").reveal())) == {"http://h/a?n=1"}
    assert lister.calls == 0
    source.renew("a", source.current("a"))
    assert {source.current("a").reveal() for _ in range(50)} == {"http://h/a?n=2"}
    assert lister.calls == 1


def test_a_service_that_gives_the_same_ending_link_is_not_asked_without_end() -> None:
    ends = links(1, 0.5)
    lister = Lister([ends])
    source = LinkSource(ends, lister, FAST)
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        source.current("a")
        time.sleep(0.002)
    assert 1 <= lister.calls < 25


@pytest.mark.parametrize("by", ["current", "renew"])
def test_a_renewed_listing_with_another_size_is_a_changed_source(by: str, wall: Wall) -> None:
    source = LinkSource(links(1, 100, size=10), Lister([links(2, size=11)]), FAST)
    first = source.current("a")
    wall.now += 100
    for _ in range(2):
        with pytest.raises(SourceChangedError, match="another size") as caught:
            source.current("a") if by == "current" else source.renew("a", first)
        assert caught.value.file == "a"


@pytest.mark.parametrize(("before", "after"), [(10, 10), (10, None), (None, 10), (None, None)])
def test_a_size_that_is_not_named_is_no_other_size(before: int | None, after: int | None) -> None:
    source = LinkSource(links(1, size=before), Lister([links(2, size=after)]), FAST)
    assert source.renew("a", source.current("a")).reveal() == "http://h/a?n=2"


class Time:
    """A clock that goes by hand, and counts as ``time`` where pauses are reckoned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(retry, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


ONE = listing(remote("http://h/b?n=2", "b"))
NO_LINK = [listing(), listing(remote("http://h/b?n=2", "b")), listing(RemoteFile("a", None))]
NO_LINK_IDS = ["no files", "another file", "a file without a link"]
PATIENT = RetryPolicy(failures=3, base=1.0, cap=8.0, patience=60.0)


def asks(source: LinkSource, refused: Link, name: str = "a") -> TaskDownloadError:
    with pytest.raises(TaskDownloadError) as caught:
        source.renew(name, refused)
    return caught.value


def test_many_threads_share_one_failure(clock: Time) -> None:
    lister = Slow([ServiceUnavailableError("busy", code="E1"), links(2)])
    source = LinkSource(links(1), lister, PATIENT)
    refused = source.current("a")
    errors = in_threads(lambda: asks(source, refused))
    assert lister.calls == 1
    assert {type(error) for error in errors} == {ServiceUnavailableError}
    assert {error.code for error in errors} == {"E1"}
    assert len({id(error) for error in errors}) == THREADS, "each adds its file to its own"
    assert all(0.5 <= (error.retry_after or 0) <= 1.0 for error in errors)


def test_after_the_pause_the_next_asks_again(clock: Time) -> None:
    lister = Lister([ServiceUnavailableError("busy"), links(2)])
    source = LinkSource(links(1), lister, PATIENT)
    refused = source.current("a")
    pause = asks(source, refused).retry_after
    assert pause is not None
    clock.now += pause - 0.1
    assert asks(source, refused).retry_after == pytest.approx(0.1)
    assert lister.calls == 1
    clock.now += 0.1
    assert source.renew("a", refused).reveal() == "http://h/a?n=2"
    assert source.renewals == lister.calls == 2


@pytest.mark.parametrize(("asked", "waits"), [(20.0, 20.0), (3600.0, 60.0)])
def test_the_service_says_how_long_the_pause_is_up_to_a_bound(asked: float, waits: float, clock: Time) -> None:
    source = LinkSource(links(1), Lister([RateLimitedError("slow", retry_after=asked)]), PATIENT)
    assert asks(source, source.current("a")).retry_after == waits


def test_a_link_that_is_good_needs_no_service(clock: Time) -> None:
    source = LinkSource(links(1), Lister([AuthenticationError("refused")]), PATIENT)
    asks(source, source.current("a"))
    assert source.current("b").reveal() == "http://h/b?n=1"


def test_a_refusal_for_good_is_everybodys_and_no_second_question(clock: Time) -> None:
    lister = Lister([AuthenticationError("refused")])
    source = LinkSource(links(1), lister, PATIENT)
    refused = {name: source.current(name) for name in "ab"}
    for _ in range(100):
        for name, link in refused.items():
            error = asks(source, link, name)
            assert isinstance(error, AuthenticationError)
        clock.now += 1000
    assert lister.calls == 1


def outlast(source: LinkSource, refused: Link, clock: Time) -> int:
    """Ask as often as is told until it is given up; return how often it was not."""
    began, count = clock.now, 0
    while isinstance(error := asks(source, refused), TaskApiError):
        assert clock.now - began < PATIENT.outage or count < PATIENT.failures
        count += 1
        clock.now += error.retry_after or 0
    assert count >= PATIENT.failures
    assert clock.now - began >= PATIENT.outage
    return count


def test_a_service_that_is_down_is_given_up_for_all_files_and_asked_now_and_then(clock: Time) -> None:
    lister = Lister([ServiceUnavailableError("busy")])
    source = LinkSource(links(1), lister, PATIENT)
    refused = {name: source.current(name) for name in "ab"}
    waited_for = outlast(source, refused["a"], clock)
    for calls in range(waited_for + 1, waited_for + 4):
        for name in "ab" * 10:
            given_up = asks(source, refused[name], name)
            assert isinstance(given_up, TransferError)
            assert given_up.retryable
            assert f"after {calls} failures in a row; the last: busy" in given_up.message
        assert lister.calls == calls
        clock.now += PATIENT.cap
    lister.answers = [links(2)]
    assert source.renew("b", refused["b"]).reveal() == "http://h/b?n=2"


@pytest.mark.parametrize("pause", [0.0, 30.0])
def test_a_service_that_starts_again_is_waited_for_however_often_it_refuses_meanwhile(
    pause: float, clock: Time
) -> None:
    lister = Lister([ServiceUnavailableError("busy", retry_after=pause)])
    source = LinkSource(links(1), lister, PATIENT)
    refused, began = source.current("a"), clock.now
    while clock.now - began < PATIENT.outage or lister.calls < PATIENT.failures:
        error = asks(source, refused)
        assert isinstance(error, ServiceUnavailableError)
        clock.now += error.retry_after or 0
    lister.answers = [links(2)]
    assert source.renew("a", refused).reveal() == "http://h/a?n=2"


@pytest.mark.parametrize("error", [ServiceUnavailableError("busy"), AuthenticationError("refused")])
def test_a_link_that_still_holds_is_good_while_there_is_no_new_one(error: TaskDownloadError, wall: Wall) -> None:
    source = LinkSource(links(1, 100), Lister([error]), FAST)
    wall.now += 85  # its last fifth
    assert source.current("a").reveal() == "http://h/a?n=1"
    assert source.renewals == 1
    wall.now += 20
    with pytest.raises(type(error)):
        source.current("a")


def test_an_answer_ends_the_count_of_failures(clock: Time) -> None:
    weather = [ServiceUnavailableError("busy")] * PATIENT.failures
    source = LinkSource(links(1), Lister([*weather, links(2), *weather, links(3)]), PATIENT)
    for number in (2, 3):
        refused = source.current("a")
        for _ in range(PATIENT.failures):
            clock.now += asks(source, refused).retry_after or 0
        assert source.renew("a", refused).reveal() == f"http://h/a?n={number}"


@pytest.mark.parametrize("lacking", NO_LINK, ids=NO_LINK_IDS)
def test_a_listing_without_a_link_for_now_is_waited_out(lacking: FileListing, clock: Time) -> None:
    lister = Lister([lacking, lacking, links(2)])
    source = LinkSource(links(1, size=10), lister, PATIENT)
    error = asks(source, source.current("a"))
    for calls in (1, 2):
        assert isinstance(error, TaskNotReadyError)
        assert error.retryable
        with pytest.raises(TaskNotReadyError):
            source.current("a")
        assert lister.calls == calls
        clock.now += error.retry_after or 0
        if calls == 1:
            with pytest.raises(TaskNotReadyError) as caught:
                source.current("a")
            error = caught.value
    assert source.current("a").reveal() == "http://h/a?n=2"


@pytest.mark.parametrize(
    "lacking", [listing(), listing(RemoteFile("b", None))], ids=["no files", "a file without a link"]
)
def test_a_listing_without_links_for_now_leaves_the_others_those_that_hold(lacking: FileListing, clock: Time) -> None:
    lister = Lister([lacking, links(2)])
    source = LinkSource(links(1, 3600), lister, PATIENT)
    refused = source.current("a")
    asks(source, refused)
    assert source.current("b").reveal() == "http://h/b?n=1"
    with pytest.raises(TaskNotReadyError):
        source.current("a")  # and not the one that was refused
    assert lister.calls == 1


def test_a_link_that_is_about_to_end_is_used_to_its_end_while_the_listing_is_empty(wall: Wall) -> None:
    lister = Lister([listing()])
    source = LinkSource(links(1, 100), lister, PATIENT)
    wall.now += 85  # its last fifth
    assert {source.current("a").reveal() for _ in range(20)} == {"http://h/a?n=1"}
    assert lister.calls == 1
    wall.now += 20
    with pytest.raises(TaskNotReadyError):
        source.current("a")


def test_a_file_that_is_not_listed_any_more_keeps_no_other_from_its_link(clock: Time) -> None:
    lister = Lister([ONE])
    source = LinkSource(links(1), lister, PATIENT)
    refused = source.current("a")
    outlast(source, refused, clock)
    assert "no link to this file" in asks(source, refused).message
    calls = lister.calls
    assert source.renew("b", source.current("b")).reveal() == "http://h/b?n=2"
    assert lister.calls == calls + 1
    assert isinstance(asks(source, refused), TransferError)
    assert lister.calls == calls + 1


def test_a_file_that_is_not_listed_any_more_leaves_the_others_their_patience(clock: Time) -> None:
    lister = Lister([ONE])
    source = LinkSource(links(1), lister, PATIENT)
    refused = {name: source.current(name) for name in "ab"}
    outlast(source, refused["a"], clock)
    clock.now += 3600
    lister.answers = [listing()]
    error = asks(source, source.current("b"), "b")
    assert isinstance(error, TaskNotReadyError)
    clock.now += error.retry_after or 0
    lister.answers = [ONE]
    assert source.current("b").reveal() == "http://h/b?n=2"
