"""Shards of one task run side by side at one destination, are killed and tried again, and never meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    DestinationError,
    DestinationExistsError,
    IntegrityError,
    TaskNotReadyError,
    TransferError,
)
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Stall, Status, Synthetic, Task
from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint
from airflow_provider_taskdl.transfer.job import DownloadJob
from airflow_provider_taskdl.transfer.join import join
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.sinks import local
from tests.transfer.harness import (
    Killed,
    checkpoint,
    fetched,
    job,
    killed,
    leftovers,
    lists,
    manifest,
    published,
    until,
)
from tests.transfer.test_job_at_once import PART, Place, Running, place, together

__all__ = ["place"]

FILES: dict[str, Any] = {
    "big.bin": Synthetic(2 * PART + 17), "also big.bin": Synthetic(2 * PART, 2), "empty.bin": b"",
    **{f"{number}.csv": b"x;y\n" * number for number in range(8)},
}  # fmt: skip
FEW: dict[str, Any] = {f"{number}.csv": b"x;y\n" * number for number in range(10)}


def manifests(task: Task, count: int) -> list[str]:
    return [f"_taskdl/{task.id}.shard-{index}-of-{count}.json" for index in range(count)]


def jobs(server: EmulatorServer, task: Task, place: Place, count: int, **options: Any) -> Sequence[DownloadJob]:
    asks = first_together(lists(server, task), count)
    return [
        job(asks[index], place.store(), shard=Shard(index, count), part_size=PART, **options) for index in range(count)
    ]


def first_together(ask: Callable[[], FileListing], count: int) -> list[Callable[[], FileListing]]:
    """Return for each job what lists its files: at first at the same moment, later when it likes."""
    met, begun = together(ask, count), set[int]()

    def listing(index: int) -> FileListing:
        if index in begun:
            return ask()
        begun.add(index)
        return met()

    return [partial(listing, index) for index in range(count)]


def test_shards_at_the_same_moment_bring_every_file_once(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task(FILES)
    running = [Running(one) for one in jobs(server, task, place, 2)]
    assert [one.ended().error for one in running] == [None] * 2
    short = {name: number for name, number in fetched(emulator).items() if "big" not in name}
    assert short == {name: 1 for name in FILES if "big" not in name}
    names = [entry.name for one in running if one.result for entry in one.result.entries]
    assert sorted(names) == sorted(FILES)
    join(place.store(), task.id, 2, path_of=str)
    place.check(task, *manifests(task, 2))


def test_a_shard_that_fails_does_not_touch_the_other_and_fetches_the_rest_the_next_time(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task(FILES)
    emulator.fault("file:7.csv", Status(403))
    running = [Running(one) for one in jobs(server, task, place, 2)]
    (error,) = [one.error for one in running if one.ended().error]
    assert isinstance(error, TransferError)
    bad = next(index for index, one in enumerate(running) if one.error)
    own = f"_taskdl/{task.id}.shard-{bad}-of-2.partial.json"
    assert place.bucket.names() - set(FILES) == {own, manifests(task, 2)[1 - bad]}
    emulator.clear_faults()
    fetched(emulator)
    with pytest.raises(IntegrityError, match=f"no manifest of shard {bad}"):
        join(place.store(), task.id, 2, path_of=str)
    again = job(lists(server, task), place.store(), shard=Shard(bad, 2), part_size=PART).run()
    assert fetched(emulator) == {"7.csv": 1}
    assert sum(entry.outcome == "skipped" for entry in again.entries) == len(again.entries) - 1
    join(place.store(), task.id, 2, path_of=str)
    place.check(task, *manifests(task, 2))


def test_a_killed_shard_goes_on_from_its_parts_while_the_other_runs(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = emulator.eo_task(FILES)
    index = next(i for i in (0, 1) if "big.bin" in [f.name for f in Shard(i, 2).of(lists(server, task)().files).files])
    hung = emulator.fault("file:also big.bin", Stall(60, at=PART), times=1)
    other = Running(job(lists(server, task), tmp_path, shard=Shard(1 - index, 2), part_size=PART, timeout=3.0))
    until(lambda: hung.fired)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda part, to: killed() if to.name == "big.bin" else Path.rename(part, to))
        patch.setattr(local.LocalSink, "abort", lambda sink, *, keep=False: sink._close())
        with pytest.raises(Killed):
            job(lists(server, task), tmp_path, shard=Shard(index, 2), part_size=PART).run()
    assert "big.bin" not in published(tmp_path)
    emulator.requests.clear()
    job(lists(server, task), tmp_path, shard=Shard(index, 2), part_size=PART).run()
    # One, by which it is seen that the file at the host is still the same.
    assert len(emulator.seen("file", "big.bin")) == 1
    assert other.ended().error is None
    result = join(local.LocalStore(tmp_path), task.id, 2, path_of=str)
    assert {entry.name: entry.sha256 for entry in result.entries} == {
        file.name: file.content.sha256 for file in task.files
    }
    assert published(tmp_path) == set(FILES)
    assert leftovers(tmp_path) == set()


def test_checkpoints_beside_the_data_are_each_shards_own(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task(FEW)
    emulator.fault("file:*", Status(403))
    for index in (0, 1, None):
        with pytest.raises(TransferError):
            job(
                lists(server, task), tmp_path, overwrite="never", shard=None if index is None else Shard(index, 2)
            ).run()
    names = {path.name for path in (tmp_path / "_taskdl").iterdir()}
    assert names == {f"{task.id}{kind}.partial.json" for kind in ("", ".shard-0-of-2", ".shard-1-of-2")}


def test_a_whole_run_after_shards_that_were_not_joined_is_whole(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task(FEW)
    job(lists(server, task), tmp_path, shard=Shard(0, 2)).run()
    job(lists(server, task), tmp_path).run()
    assert [file["name"] for file in (manifest(tmp_path, task) or {})["files"]] == list(FEW)
    assert checkpoint(tmp_path, task) is None


@pytest.mark.parametrize("index", range(4))
def test_a_shard_without_a_file_succeeds_with_nothing(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, index: int
) -> None:
    task = emulator.eo_task({"a": b"1", "b": b"2"})
    running = job(lists(server, task), tmp_path, shard=Shard(index, 4))
    result = running.run()
    assert len(result.entries) == (1 if index < 2 else 0)
    assert result.summary()["files"] == len(result.entries) == running.totals.fetched
    assert (tmp_path / result.manifest_name).exists()
    assert result.manifest == f"{tmp_path}/_taskdl/{task.id}.shard-{index}-of-4.json"


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"expected": 11}, TaskNotReadyError),
        ({"expected": 9}, IntegrityError),
        ({"expected": ["missing"]}, TaskNotReadyError),
        ({"pattern": "*.pdf"}, ConnectionConfigError),
    ],
)
def test_what_is_expected_is_expected_of_the_whole_task(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, options: dict[str, Any], kind: type[Exception]
) -> None:
    task = emulator.eo_task(FEW)
    for index in range(3):
        with pytest.raises(kind):
            job(lists(server, task), tmp_path, shard=Shard(index, 3), **options).run()
        job(lists(server, task), tmp_path, shard=Shard(index, 3), expected=10).run()
    assert published(tmp_path) == set(FEW)


def test_a_pattern_chooses_before_the_files_are_divided(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({**FEW, **{f"{number}.tif": b"1" for number in range(4)}})
    found = [job(lists(server, task), tmp_path, shard=Shard(index, 2), pattern="*.tif").run() for index in (0, 1)]
    assert [len(result.entries) for result in found] == [2, 2]
    assert published(tmp_path) == {f"{number}.tif" for number in range(4)}


def test_files_whose_names_only_their_host_knows_are_divided_by_these(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    order = emulator.market_order(FEW)
    for index in range(3):
        job(lists(server, order), tmp_path, shard=Shard(index, 3)).run()
        order.files.reverse()  # the links come in any order
    joined = join(local.LocalStore(tmp_path), order.id, 3, path_of=str)
    assert sorted(entry.name for entry in joined.entries) == sorted(FEW)
    assert {name: (tmp_path / name).read_bytes() for name in published(tmp_path)} == FEW


def test_where_nothing_may_be_replaced_a_shard_heeds_its_own_files(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task(FEW)
    job(lists(server, task), tmp_path, shard=Shard(0, 2), overwrite="never").run()
    with pytest.raises(DestinationExistsError):
        job(lists(server, task), tmp_path, shard=Shard(0, 2), overwrite="never").run()
    job(lists(server, task), tmp_path, shard=Shard(1, 2), overwrite="never").run()
    assert published(tmp_path) == set(FEW)


@pytest.mark.parametrize("last", [{"overwrite": "always"}, {"overwrite": "verified"}])
def test_each_way_of_overwriting_holds_for_a_shard(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, last: dict[str, Any]
) -> None:
    task = emulator.eo_task(FEW)
    first = job(lists(server, task), tmp_path, shard=Shard(1, 2)).run()
    fetched(emulator)
    job(lists(server, task), tmp_path, shard=Shard(1, 2), **last).run()
    again = {entry.name: 1 for entry in first.entries} if last["overwrite"] == "always" else {}
    assert fetched(emulator) == again


def test_the_manifest_of_a_shard_that_is_not_whole_any_more_is_taken_back(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task(FEW)
    result = job(lists(server, task), tmp_path, shard=Shard(1, 2)).run()
    (tmp_path / result.entries[0].name).unlink()
    emulator.fault("file:*", Status(403))
    with pytest.raises(TransferError):
        job(lists(server, task), tmp_path, shard=Shard(1, 2)).run()
    assert not (tmp_path / result.manifest_name).exists()
    emulator.clear_faults()
    fetched(emulator)
    job(lists(server, task), tmp_path, shard=Shard(1, 2)).run()
    assert fetched(emulator) == {result.entries[0].name: 1}


def test_two_shards_that_take_back_the_same_manifest_lose_none_of_its_proofs(
    server: EmulatorServer, emulator: Emulator, place: Place
) -> None:
    task = emulator.eo_task(FEW)
    job(lists(server, task), place.store()).run()
    for name in ("0.csv", "1.csv", "2.csv", "3.csv"):
        place.bucket.fs.rm_file(f"{place.bucket.root}/{name}")
    fetched(emulator)
    running = [Running(one) for one in jobs(server, task, place, 4)]
    for index, one in enumerate(running):
        if (error := one.ended().error) is not None:
            assert place.blinks, error
            assert isinstance(error, DestinationError), error
            job(lists(server, task), place.store(), shard=Shard(index, 4)).run()
    assert fetched(emulator) == {f"{number}.csv": 1 for number in range(4)}
    join(place.store(), task.id, 4, path_of=str)
    place.check(task, *manifests(task, 4))


def test_a_whole_manifest_that_is_damaged_is_taken_back_too(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task(FEW)
    (tmp_path / "_taskdl").mkdir()
    (tmp_path / "_taskdl" / f"{task.id}.json").write_bytes(b"{")
    job(lists(server, task), tmp_path, shard=Shard(0, 2)).run()
    assert not (tmp_path / "_taskdl" / f"{task.id}.json").exists()
    assert StoreCheckpoint(local.LocalStore(tmp_path)).load(task.id) is None
