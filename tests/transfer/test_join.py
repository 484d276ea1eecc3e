"""A manifest of the whole is written only when every shard's manifest proves it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import DestinationError, IntegrityError, TransferError, UnsafeFileNameError
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Status, Task
from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint
from airflow_provider_taskdl.transfer.job import Result
from airflow_provider_taskdl.transfer.join import join
from airflow_provider_taskdl.transfer.manifest import manifest_name, read_entries
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from tests.transfer.harness import checkpoint, fetched, job, lists, manifest

FILES: dict[str, Any] = {f"{name}.tif": name.encode() * 1000 * number for number, name in enumerate("fbdaec")}
COUNT = 3
Join = Callable[..., Result]


@pytest.fixture
def task(emulator: Emulator) -> Task:
    return emulator.eo_task(FILES)


@pytest.fixture
def shards(server: EmulatorServer, task: Task, tmp_path: Path) -> Callable[..., None]:
    """Brings shards of the task, all by default."""

    def bring(*indices: int, count: int = COUNT, **options: Any) -> None:
        for index in indices or range(count):
            job(lists(server, task), tmp_path, shard=Shard(index, count), **options).run()

    return bring


@pytest.fixture
def run_join(task: Task, tmp_path: Path) -> Join:
    def run(count: int = COUNT) -> Result:
        return join(LocalStore(tmp_path), task.id, count, path_of=lambda name: f"{tmp_path}/{name}")

    return run


def shard_manifest(root: Path, task: Task, index: int, count: int = COUNT) -> Path:
    return root / "_taskdl" / f"{task.id}.shard-{index}-of-{count}.json"


def change(path: Path, **facts: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def facts(result: Result) -> list[tuple[str, int, str, str]]:
    return [(entry.name, entry.size, entry.sha256, entry.path) for entry in result.entries]


def test_the_joined_manifest_is_that_of_one_task(
    server: EmulatorServer, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    alone = job(lists(server, task), tmp_path / "alone").run()
    shards()
    assert manifest(tmp_path, task) is None
    result = run_join()
    assert facts(result) == [(*fact[:3], fact[3].replace("/alone/", "/")) for fact in facts(alone)]
    assert [entry.name for entry in result.entries] == list(FILES)
    assert result.manifest == f"{tmp_path}/{result.manifest_name}" == f"{tmp_path}/_taskdl/{task.id}.json"
    assert result.summary() == {**alone.summary(), "seconds": result.summary()["seconds"]}
    written, of_one = manifest(tmp_path, task), manifest(tmp_path / "alone", task)
    assert written is not None
    assert of_one is not None
    assert written.keys() == of_one.keys()
    assert [file["name"] for file in written["files"]] == list(FILES)
    slowest = max(json.loads(shard_manifest(tmp_path, task, index).read_bytes())["seconds"] for index in range(COUNT))
    assert result.seconds == slowest > 0


def test_a_join_asks_nobody_and_can_be_done_again(
    emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards()
    emulator.requests.clear()
    first = run_join()
    before = (tmp_path / first.manifest_name).read_bytes()
    assert run_join() == first
    assert (tmp_path / first.manifest_name).read_bytes() == before
    assert not emulator.requests


def test_a_later_run_as_one_task_believes_the_joined_manifest(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards()
    run_join()
    fetched(emulator)
    result = job(lists(server, task), tmp_path).run()
    assert fetched(emulator) == {}
    assert [entry.outcome for entry in result.entries] == ["skipped"] * len(FILES)


@pytest.mark.parametrize("missing", [[1], [0, 2], [0, 1, 2]])
def test_shards_that_are_missing_are_named(
    task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join, missing: list[int]
) -> None:
    shards()
    for index in missing:
        shard_manifest(tmp_path, task, index).unlink()
    numbers = ", ".join(map(str, missing))
    with pytest.raises(IntegrityError, match=rf"no manifest of shards? {numbers}: .*run shards? {numbers} again") as e:
        run_join()
    assert (e.value.retryable, e.value.remote_task_id) == (False, task.id)
    assert manifest(tmp_path, task) is None
    shards(*missing)
    assert len(run_join().entries) == len(FILES)


def test_another_number_of_shards_is_not_taken_for_this_one(
    emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards(count=2)
    with pytest.raises(IntegrityError, match="of another number of shards"):
        run_join(3)
    assert len(run_join(2).entries) == len(FILES)


@pytest.mark.parametrize(
    "damage",
    [{"version": 2}, {"remote_task_id": "u"}, {"shard": 0}, {"shard": 7}, {"of": 2}, {"places": []}, {"files": [{}]},
     {"listing": None}],
)  # fmt: skip
def test_a_shards_manifest_that_is_damaged_or_anothers_counts_as_none(
    task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join, damage: Mapping[str, Any]
) -> None:
    shards()
    change(shard_manifest(tmp_path, task, 1), **damage)
    with pytest.raises(IntegrityError, match="no manifest of shard 1:"):
        run_join()


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff"])
def test_a_shards_manifest_that_is_no_json_counts_as_none(
    task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join, content: bytes
) -> None:
    shards()
    shard_manifest(tmp_path, task, 2).write_bytes(content)
    with pytest.raises(IntegrityError, match="no manifest of shard 2:"):
        run_join()


def test_shards_of_two_listings_do_not_fit(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards(0, 2)
    emulator.add_file(task, "late.tif", b"late")
    shards(1)
    with pytest.raises(IntegrityError, match=r"^shard 1 of 3 .*run all shards again") as caught:
        run_join()
    assert not caught.value.retryable
    fetched(emulator)
    shards()
    assert set(fetched(emulator)) <= {"late.tif"}, "a file that is another shard's by now is there already"
    assert {entry.name for entry in run_join().entries} == {*FILES, "late.tif"}


def test_shards_of_two_patterns_do_not_fit(shards: Callable[..., None], run_join: Join) -> None:
    shards(0, 1)
    shards(2, pattern="[abc].tif")
    with pytest.raises(IntegrityError, match=r"shard 2 of 3 .*file_pattern differs"):
        run_join()


def test_files_that_no_shard_or_two_have_are_no_whole(
    task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards()
    one, two = (json.loads(shard_manifest(tmp_path, task, index).read_bytes()) for index in (0, 1))
    change(shard_manifest(tmp_path, task, 1), files=two["files"][:-1], places=two["places"][:-1])
    with pytest.raises(IntegrityError, match="name 5 files, 5 of them different, where the task has 6"):
        run_join()
    change(shard_manifest(tmp_path, task, 1), files=one["files"], places=one["places"])
    with pytest.raises(IntegrityError, match="name 6 files, 4 of them different, where the task has 6"):
        run_join()


def test_a_manifest_cannot_lead_out_of_the_destination(
    task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards()
    path = shard_manifest(tmp_path, task, 0)
    files = json.loads(path.read_bytes())["files"]
    change(path, files=[{**files[0], "name": "../x"}, *files[1:]])
    with pytest.raises(UnsafeFileNameError):
        run_join()


@pytest.mark.parametrize("harm", ["removed", "cut", "changed"])
def test_a_file_that_is_not_what_its_shard_brought_is_named_with_the_shard(
    emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join, harm: str
) -> None:
    shards()
    owner = next(i for i in range(COUNT) if '"e.tif"' in shard_manifest(tmp_path, task, i).read_text())
    path = tmp_path / "e.tif"
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(b"e" * 10 if harm == "cut" else b"x" * path.stat().st_size)
    with pytest.raises(IntegrityError, match=rf"1 files are gone .*: e\.tif; run shard {owner} again") as caught:
        run_join()
    assert not caught.value.retryable
    assert manifest(tmp_path, task) is None
    fetched(emulator)
    shards(owner)
    assert fetched(emulator) == {"e.tif": 1}
    run_join()


def test_a_file_that_was_put_there_twice_is_read_and_kept(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards()
    os.utime(tmp_path / "e.tif", ns=(1, 1))  # as if a try that had been given up had brought it again
    entries = {entry.name: entry for entry in run_join().entries}
    assert entries["e.tif"].stored_version == "mtime:1"
    fetched(emulator)
    job(lists(server, task), tmp_path).run()
    assert fetched(emulator) == {}


def test_an_order_that_changed_between_shards_still_gives_each_file_once(
    server: EmulatorServer, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards(0)
    task.files.reverse()
    shards(1, 2)
    assert sorted(entry.name for entry in run_join().entries) == sorted(FILES)


def test_a_store_that_refuses_is_left_to_a_retry(
    shards: Callable[..., None], run_join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards()

    def refuse(*_: object) -> None:
        raise DestinationError("the disk refused")

    monkeypatch.setattr(LocalStore, "write_small", refuse)
    with pytest.raises(DestinationError) as caught:
        run_join()
    assert caught.value.retryable


def test_no_file_at_all_is_joined_too(run_join: Join, shards: Callable[..., None], task: Task, tmp_path: Path) -> None:
    shards(count=9)
    empty = json.loads(shard_manifest(tmp_path, task, 8, 9).read_bytes())
    assert (empty["files"], empty["listed"]) == ([], len(FILES))
    assert len(run_join(9).entries) == len(FILES)


def test_what_an_earlier_manifest_proved_is_kept_for_the_other_shards_and_cleared_in_the_end(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    job(lists(server, task), tmp_path).run()
    (tmp_path / "b.tif").unlink()
    fetched(emulator)
    owner = next(
        i for i in range(COUNT) if "b.tif" in [f.name for f in Shard(i, COUNT).of(lists(server, task)().files).files]
    )
    shards(owner)
    assert manifest(tmp_path, task) is None, "it said that everything is there"
    assert set(checkpoint(tmp_path, task) or ()) == set(FILES)
    shards(*({*range(COUNT)} - {owner}))
    assert fetched(emulator) == {"b.tif": 1}
    run_join()
    assert checkpoint(tmp_path, task) is None
    assert set(read_entries(LocalStore(tmp_path), manifest_name(task.id), task.id) or ()) == set(FILES)


def test_a_shard_takes_back_a_manifest_only_if_something_is_missing(
    emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None], run_join: Join
) -> None:
    shards()
    run_join()
    fetched(emulator)
    shards()
    assert fetched(emulator) == {}
    assert manifest(tmp_path, task) is not None
    assert StoreCheckpoint(LocalStore(tmp_path)).load(task.id) is None


@pytest.mark.parametrize("joined", [True, False])
def test_another_number_of_shards_fetches_nothing_that_is_there(
    emulator: Emulator, shards: Callable[..., None], run_join: Join, joined: bool
) -> None:
    shards()
    if joined:
        run_join()
    fetched(emulator)
    shards(count=5)
    assert fetched(emulator) == {}
    assert len(run_join(5).entries) == len(FILES)


def test_what_another_shard_tells_of_is_proved_before_it_is_believed(
    emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None]
) -> None:
    shards(count=2)
    (tmp_path / "e.tif").write_bytes(b"x" * len(FILES["e.tif"]))
    shard_manifest(tmp_path, task, 0, 2).with_name(f"{task.id}.shard-9-of-8.json").write_bytes(b"{")
    fetched(emulator)
    shards(count=1)
    assert fetched(emulator) == {"e.tif": 1}


def test_a_killed_shards_checkpoint_beside_the_data_serves_another_number_of_shards(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, shards: Callable[..., None]
) -> None:
    emulator.fault("file:e.tif", Status(403))
    with pytest.raises(TransferError):
        shards(count=1)
    emulator.clear_faults()
    fetched(emulator)
    shards(count=2)
    assert fetched(emulator) == {"e.tif": 1}
