"""What is wanted, and what of it is there already, is decided before any byte moves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    DestinationExistsError,
    IntegrityError,
    TaskNotReadyError,
    UnsafeFileNameError,
)
from airflow_provider_taskdl.listing import RemoteFile
from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint
from airflow_provider_taskdl.transfer.manifest import Entry, checkpoint_name, manifest_name, write_entries
from airflow_provider_taskdl.transfer.plan import Overwrite, Plan, choose, make_plan
from airflow_provider_taskdl.transfer.sinks.base import Stored
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from tests.transfer.harness import listing, remote

FILES = ("b.tif", "a.tif", "log.json", "A.TIF")


def task(*names: str) -> Any:
    return listing(*(remote(f"http://h/{number}", name) for number, name in enumerate(names or FILES)))


class TestChoose:
    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            (None, FILES),
            ("*", FILES),
            ("*.tif", ("b.tif", "a.tif")),
            ("[ab].tif", ("b.tif", "a.tif")),
            (["log.*", "a.*"], ("a.tif", "log.json")),
            (("nothing", "?.TIF"), ("A.TIF",)),
            ("b.tif", ("b.tif",)),
        ],
    )
    def test_a_pattern_chooses_in_the_services_order(self, pattern: Any, names: Sequence[str]) -> None:
        assert tuple(file.name for file in choose(task(), pattern=pattern)) == names

    @pytest.mark.parametrize("pattern", ["*.pdf", "", [], ["x", "y"]])
    def test_a_pattern_without_a_file_is_a_wrong_parameter(self, pattern: Any) -> None:
        with pytest.raises(ConnectionConfigError, match=r"it has b\.tif, a\.tif"):
            choose(task(), pattern=pattern)

    @pytest.mark.parametrize("expected", [None, 4, ["a.tif"], {"log.json", "b.tif"}, [], FILES])
    def test_what_is_expected_is_there(self, expected: Any) -> None:
        assert len(choose(task(), expected=expected)) == 4

    @pytest.mark.parametrize(
        ("expected", "kind", "why"),
        [
            (5, TaskNotReadyError, "4 files, 5 are expected"),
            (3, IntegrityError, "4 files, only 3 are expected"),
            (0, IntegrityError, "only 0"),
            (["a.tif", "c.tif"], TaskNotReadyError, r"missing: c\.tif"),
        ],
    )
    def test_what_is_expected_and_not_there_is_an_error(self, expected: Any, kind: type, why: str) -> None:
        with pytest.raises(kind, match=why) as caught:
            choose(task(), expected=expected)
        assert caught.value.retryable == (kind is TaskNotReadyError)  # type: ignore[attr-defined]

    def test_what_is_expected_is_counted_after_the_pattern(self) -> None:
        assert len(choose(task(), pattern="*.tif", expected=2)) == 2
        with pytest.raises(TaskNotReadyError, match=r"missing: log\.json"):
            choose(task(), pattern="*.tif", expected=["log.json"])

    @pytest.mark.parametrize(
        ("files", "words"),
        [((), "no links yet"), ((RemoteFile("b", None),), "no links yet"),
         ((remote("http://h/a", "a"), RemoteFile("b", None)), "only 1 of the task's 2 files have a link")],
    )  # fmt: skip
    def test_a_task_without_all_links_is_not_ready(self, files: tuple[RemoteFile, ...], words: str) -> None:
        with pytest.raises(TaskNotReadyError, match=words):
            choose(listing(*files))

    @pytest.mark.parametrize("names", [("a", "../b"), ("a", "a")])
    def test_every_name_is_judged_also_one_that_is_not_wanted(self, names: tuple[str, ...]) -> None:
        with pytest.raises(UnsafeFileNameError):
            choose(task(*names), pattern="nothing")


class Store(LocalStore):
    """A disk that counts what it is asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        names = list(names)
        self.asked += names
        return super().find(names)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def keep(store: Store, *names: str, record: str = "manifest", **changes: Any) -> None:
    """Put files of three bytes there, with a record of them."""
    entries = []
    for name in names:
        (store.root / name).write_bytes(b"abc")
        stored = LocalStore.find(store, [name])[name]
        facts = {
            "name": name, "size": 3, "sha256": "0" * 64, "path": f"old/{name}", "stored_version": stored.version,
            "time": datetime(2025, 1, 1, tzinfo=timezone.utc), **changes,
        }  # fmt: skip
        entries.append(Entry.model_validate(facts))
    named = {"manifest": manifest_name, "checkpoint": checkpoint_name}[record]
    write_entries(store, named("t-1"), "t-1", entries)


def plan(store: Store, *names: str, overwrite: Overwrite = "verified", size: int | None = 3) -> Plan:
    files = [remote(f"http://h/{name}", name, size) for name in names]
    return make_plan(
        files, store, remote_task_id="t-1", overwrite=overwrite, path_of=lambda name: f"new/{name}",
        unfinished=StoreCheckpoint(store).load("t-1"),
    )  # fmt: skip


class TestMakePlan:
    @pytest.mark.parametrize("record", ["manifest", "checkpoint"])
    def test_what_is_proved_is_kept(self, record: str, store: Store) -> None:
        keep(store, "a", "b", record=record)
        made = plan(store, "a", "c", "b")
        assert [file.name for file in made.to_fetch] == ["c"]
        assert {name: (entry.outcome, entry.path) for name, entry in made.kept.items()} == {
            "a": ("skipped", "new/a"),
            "b": ("skipped", "new/b"),
        }

    def test_a_size_that_the_service_does_not_name_is_no_contradiction(self, store: Store) -> None:
        keep(store, "a")
        assert list(plan(store, "a", size=None).kept) == ["a"]

    def test_what_no_record_names_is_not_even_looked_for(self, store: Store) -> None:
        (store.root / "a").write_bytes(b"abc")
        assert not plan(store, "a").kept
        assert store.asked == []

    @pytest.mark.parametrize(
        "tamper",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b"abcd"),
            lambda path: path.write_bytes(b"xyz"),
            lambda path: (path.unlink(), path.mkdir()),
        ],
        ids=["gone", "longer", "same length", "a directory"],
    )
    def test_what_was_touched_is_fetched_anew(self, tamper: Any, store: Store) -> None:
        keep(store, "a", "b")
        time.sleep(0.02)  # a file system may tell times apart by no less
        tamper(store.root / "a")
        assert list(plan(store, "a", "b").kept) == ["b"]

    @pytest.mark.parametrize("changes", [{"size": 4}, {"stored_version": "mtime:1"}, {"stored_version": None}])
    def test_a_record_that_says_otherwise_proves_nothing(self, changes: dict[str, Any], store: Store) -> None:
        keep(store, "a", **changes)
        assert not plan(store, "a").kept

    def test_another_size_at_the_source_is_another_file(self, store: Store) -> None:
        keep(store, "a")
        assert not plan(store, "a", size=4).kept

    def test_the_checkpoint_is_younger_than_the_manifest(self, store: Store) -> None:
        keep(store, "a", stored_version="mtime:1")
        keep(store, "a", record="checkpoint")
        assert list(plan(store, "a").kept) == ["a"]

    @pytest.mark.parametrize("record", ["manifest", "checkpoint"])
    def test_always_believes_nothing(self, record: str, store: Store) -> None:
        keep(store, "a", record=record)
        assert not plan(store, "a", overwrite="always").kept

    def test_never_refuses_what_is_there(self, store: Store) -> None:
        keep(store, "a", "b")
        with pytest.raises(DestinationExistsError, match="2 of the files are there already: a, b") as caught:
            plan(store, "a", "b", "c", overwrite="never")
        assert not caught.value.retryable
        assert caught.value.remote_task_id == "t-1"

    def test_never_goes_on_from_its_own_unfinished_try(self, store: Store) -> None:
        keep(store, "a", record="checkpoint")
        made = plan(store, "a", "b", overwrite="never")
        assert list(made.kept) == ["a"]
        assert [file.name for file in made.to_fetch] == ["b"]

    def test_never_refuses_what_was_touched_since_its_unfinished_try(self, store: Store) -> None:
        keep(store, "a", record="checkpoint")
        (store.root / "a").write_bytes(b"xyz!")
        with pytest.raises(DestinationExistsError):
            plan(store, "a", "b", overwrite="never")
