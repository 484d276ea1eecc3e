"""The lines a task's log gets while files arrive, and the table that ends it."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_taskdl.transfer import progress as progress_module
from airflow_provider_taskdl.transfer.manifest import Entry
from airflow_provider_taskdl.transfer.progress import Progress, closing_table, human_bytes


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        # For this module alone: the event loops of other threads live by the real one.
        monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def entry(name: str, size: int = 1234, outcome: str = "fetched") -> Entry:
    return Entry.model_validate(
        {
            "name": name, "size": size, "sha256": "ab" * 32, "path": name, "outcome": outcome,
            "time": datetime(2025, 1, 1, tzinfo=timezone.utc),
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2e9, "2.0 GB"), (3e12, "3.0 TB"),
     (5e15, "5000.0 TB"), (-5, "-5 B")],
)  # fmt: skip
def test_bytes_are_for_people(count: float, shown: str) -> None:
    assert human_bytes(count) == shown


def test_a_line_says_how_far_it_is(clock: Clock) -> None:
    progress = Progress(4, 10_000_000)
    progress.add(2_000_000)
    progress.add(500_000)
    progress.file_done()
    clock.now += 5
    assert progress.line() == "1 of 4 files, 2.5 MB of 10.0 MB (25%), 0.5 MB/s, 15 s left"
    assert progress.seconds == 5


def test_without_a_total_a_line_makes_nothing_up(clock: Clock) -> None:
    progress = Progress(2, None)
    progress.add(3_000_000)
    clock.now += 3
    assert progress.line() == "0 of 2 files, 3.0 MB, 1.0 MB/s"


@pytest.mark.parametrize("total", [0, None, 1])
def test_a_line_before_the_first_byte_is_possible(total: int | None, clock: Clock) -> None:
    assert Progress(1, total).line().startswith("0 of 1 files, 0 B")


def test_bytes_that_are_read_again_are_taken_back(clock: Clock) -> None:
    progress = Progress(1, 100)
    progress.add(60)
    progress.add(-60)
    progress.add(100)
    clock.now += 1
    assert "100 B of 100 B (100%)" in progress.line()


def test_more_than_was_expected_is_not_more_than_all(clock: Clock) -> None:
    progress = Progress(1, 100)
    progress.add(150)
    clock.now += 1
    assert "(100%)" in progress.line()
    assert "0 s left" in progress.line()


@pytest.mark.parametrize(
    ("seconds", "percent", "due"),
    [(0.5, 0, False), (9.9, 0, False), (10.1, 0, True), (0.5, 50, False), (1.1, 9, False), (1.1, 10, True)],
)
def test_a_line_is_due_every_ten_seconds_and_every_ten_percent(
    seconds: float, percent: int, due: bool, clock: Clock
) -> None:
    progress = Progress(1, 100)
    progress.add(percent)
    clock.now += seconds
    assert (progress.due_line() is not None) == due
    assert progress.due_line() is None, "a line was due twice"


def test_a_fast_transfer_does_not_flood_the_log(clock: Clock) -> None:
    progress, lines = Progress(1, 1000), 0
    for _ in range(1000):
        clock.now += 0.01
        progress.add(1)
        lines += progress.due_line() is not None
    assert 5 <= lines <= 10


def test_the_table_lists_what_came_and_what_did_not() -> None:
    table = closing_table([entry("b.tif"), entry("a.tif", 5, "skipped")], [("c.tif", "it is gone")])
    assert table.splitlines() == [
        "outcome    size  sha256        file",
        "fetched  1.2 kB  abababababab  b.tif",
        "skipped     5 B  abababababab  a.tif",
        "failed        -  -             c.tif: it is gone",
    ]


def test_a_long_table_is_cut_and_says_so() -> None:
    table = closing_table([entry(str(n)) for n in range(7)], [(str(n), "why") for n in range(4)], limit=3)
    assert len(table.splitlines()) == 1 + 3 + 3 + 1
    assert table.endswith("... and 5 more")
