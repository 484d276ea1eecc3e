"""Links are fresh when they are handed out, and the service is asked once however many threads wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_taskdl.exceptions import ServiceUnavailableError, SourceChangedError
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.transfer.link_source import LinkSource
from tests.transfer.harness import Lister, listing, remote

THREADS = 16


def links(number: int, life: float | None = None, size: int | None = None) -> FileListing:
    """A listing of two files; ``number`` is in its links."""
    ends = None if life is None else datetime.now(timezone.utc) + timedelta(seconds=life)
    return listing(*(remote(f"http://h/{name}?n={number}", name, size, ends) for name in "ab"))


def in_threads(work: Callable[[], str]) -> list[str]:
    start = threading.Barrier(THREADS)

    def run(_: int) -> str:
        start.wait(5)
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


class Slow(Lister):
    """Takes its time, so that the others have to wait."""

    def __call__(self) -> FileListing:
        answer = super().__call__()
        time.sleep(0.05)
        return answer


@pytest.mark.parametrize("life", [None, 3600.0, 40.0])
def test_a_link_that_has_time_left_is_handed_out_as_it_is(life: float | None) -> None:
    lister = Lister([links(2)])
    source = LinkSource(links(1, life), lister)
    for _ in range(3):
        assert source.current("a").reveal() == "http://h/a?n=1"
    assert lister.calls == 0


def test_a_link_is_replaced_before_it_ends() -> None:
    lister = Lister([links(2, 3600)])
    source = LinkSource(links(1, 0.4), lister)
    assert source.current("a").reveal() == "http://h/a?n=1"
    time.sleep(0.35)
    assert source.current("a").reveal() == "http://h/a?n=2"
    assert source.current("b").reveal() == "http://h/b?n=2"
    assert lister.calls == source.renewals == 1


def test_many_threads_with_an_ending_link_ask_once() -> None:
    lister = Slow([links(2, 3600)])
    source = LinkSource(links(1, 0.2), lister)
    time.sleep(0.2)
    assert set(in_threads(lambda: source.current("a").reveal())) == {"http://h/a?n=2"}
    assert lister.calls == 1


def test_many_threads_with_a_refused_link_ask_once() -> None:
    lister = Slow([links(2), links(3)])
    source = LinkSource(links(1), lister)
    refused = {name: source.current(name) for name in "ab"}
    got = in_threads(lambda: source.renew("a", refused["a"]).reveal())
    assert set(got) == {"http://h/a?n=2"}
    assert source.renew("b", refused["b"]).reveal() == "http://h/b?n=2"
    assert lister.calls == 1


def test_a_renewed_link_that_is_refused_is_renewed_again() -> None:
    source = LinkSource(links(1), Lister([links(2), links(3)]))
    second = source.renew("a", source.current("a"))
    assert source.renew("a", second).reveal() == "http://h/a?n=3"


def test_the_same_link_given_again_is_renewed_again() -> None:
    lister = Lister([links(1)])
    source = LinkSource(links(1), lister)
    for call in range(1, 4):
        source.renew("a", source.current("a"))
        assert lister.calls == call


@pytest.mark.parametrize("life", [-3600.0, -1.0, 0.0])
def test_a_clock_that_is_wrong_does_not_make_a_storm(life: float) -> None:
    """Every link is over on arrival by this machine's clock; only a refusal tells that one really is."""
    lister = Lister([links(2, life)])
    source = LinkSource(links(1, life), lister)
    assert set(in_threads(lambda: source.current("a").reveal())) == {"http://h/a?n=1"}
    assert lister.calls == 0
    source.renew("a", source.current("a"))
    assert {source.current("a").reveal() for _ in range(50)} == {"http://h/a?n=2"}
    assert lister.calls == 1


def test_a_service_that_gives_the_same_ending_link_is_not_asked_without_end() -> None:
    ends = links(1, 0.5)
    lister = Lister([ends])
    source = LinkSource(ends, lister)
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        source.current("a")
        time.sleep(0.002)
    assert 1 <= lister.calls < 25


@pytest.mark.parametrize("by", ["current", "renew"])
@pytest.mark.parametrize(
    ("renewed", "why"),
    [
        (listing(remote("http://h/b", "b")), "no link"),
        (listing(), "no link"),
        (links(2, size=11), "another size"),
    ],
    ids=["file gone", "all gone", "other size"],
)
def test_a_renewed_listing_of_another_file_is_a_changed_source(renewed: FileListing, why: str, by: str) -> None:
    source = LinkSource(links(1, 0.05, size=10), Lister([renewed]))
    first = source.current("a")
    time.sleep(0.05)
    for _ in range(2):
        with pytest.raises(SourceChangedError, match=why) as caught:
            source.current("a") if by == "current" else source.renew("a", first)
        assert caught.value.file == "a"


@pytest.mark.parametrize(("before", "after"), [(10, 10), (10, None), (None, 10), (None, None)])
def test_a_size_that_is_not_named_is_no_other_size(before: int | None, after: int | None) -> None:
    source = LinkSource(links(1, size=before), Lister([links(2, size=after)]))
    assert source.renew("a", source.current("a")).reveal() == "http://h/a?n=2"


def test_a_service_that_fails_is_asked_again_by_the_next() -> None:
    lister = Lister([ServiceUnavailableError("busy"), links(2)])
    source = LinkSource(links(1), lister)
    refused = source.current("a")
    with pytest.raises(ServiceUnavailableError):
        source.renew("a", refused)
    assert source.renew("a", refused).reveal() == "http://h/a?n=2"
