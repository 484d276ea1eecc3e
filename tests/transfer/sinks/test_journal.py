from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.journal import Journal

ORIGIN = Origin(250, '"e"', None)


def _written(path: Path, *ends: int, part_size: int = 100) -> None:
    journal = Journal.open(path, ORIGIN, part_size)
    for end in ends:
        journal.add(end, f"sha-{end}")
    journal.close()


def _reopened(path: Path, origin: Origin = ORIGIN) -> tuple[int, dict[int, str]]:
    journal = Journal.open(path, origin, 7)
    journal.close()
    return journal.part_size, journal.digests


def test_a_journal_is_continued_on_its_own_grid(tmp_path: Path) -> None:
    _written(tmp_path / "j", 100, 200)
    assert _reopened(tmp_path / "j") == (100, {100: "sha-100", 200: "sha-200"})
    assert _reopened(tmp_path / "j") == (100, {100: "sha-100", 200: "sha-200"})


@pytest.mark.parametrize(
    ("ends", "kept"),
    [((100, 200, 250), [100, 200, 250]), ((200,), []), ((100, 250), [100]), ((100, 150, 200), [100, 200]), ((), [])],
)
def test_only_an_unbroken_row_from_the_start_is_believed(
    tmp_path: Path, ends: tuple[int, ...], kept: list[int]
) -> None:
    _written(tmp_path / "j", *ends)
    assert list(_reopened(tmp_path / "j")[1]) == kept


@pytest.mark.parametrize(
    "other", [Origin(251, '"e"', None), Origin(250, '"f"', None), Origin(250, None, "then"), Origin(250, '"e"', "then")]
)
def test_a_journal_of_another_version_counts_as_none(tmp_path: Path, other: Origin) -> None:
    _written(tmp_path / "j", 100)
    assert _reopened(tmp_path / "j", other) == (7, {})


def test_a_line_that_a_kill_has_cut_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    _written(path, 100)
    with path.open("ab") as file:
        file.write(b'\n{"end": 20')
    journal = Journal.open(path, ORIGIN, 100)
    journal.add(200, "sha-200")
    journal.close()
    assert _reopened(path)[1] == {100: "sha-100", 200: "sha-200"}


def test_a_journal_holds_no_link(tmp_path: Path) -> None:
    _written(tmp_path / "j", 100)
    assert [set(json.loads(line)) for line in (tmp_path / "j").read_bytes().splitlines() if line] == [
        {"version", "part_size", "origin"}, {"end", "sha256"},
    ]  # fmt: skip


LINES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda value: json.dumps(value).encode(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda c: st.lists(c, max_size=3)
        ),
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "version": st.sampled_from([1, 2, "1", None]),
            "part_size": st.sampled_from([100, 0, -5, True, "100", 10**30, None]),
            "origin": st.sampled_from([{"size": 250, "etag": '"e"', "modified": None}, {}, None, []]),
            "end": st.sampled_from([100, 200, 250, -1, "100", True, 10**30, None]),
            "sha256": st.sampled_from(["a" * 64, "", 5, None]),
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@given(st.lists(LINES, max_size=6))
def test_whatever_lies_there_is_read_or_replaced(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "j")
        path.write_bytes(b"\n".join(lines))
        part_size, digests = _reopened(path)
        assert part_size > 0
        assert all(0 < end <= 250 and isinstance(digest, str) for end, digest in digests.items())
        _, again = _reopened(path)
        assert again == digests
