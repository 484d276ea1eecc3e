"""Files without a name in the service's listing have the name that their host gives them, before any is fetched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import (
    DownloadFailedError,
    IntegrityError,
    TransferError,
    UnsafeFileNameError,
)
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.testing import (
    Body,
    Cut,
    Emulator,
    EmulatorServer,
    Header,
    IgnoreRange,
    Stall,
    Status,
    Synthetic,
    Task,
)
from tests.transfer.harness import checkpoint, empty, job, lists, manifest, published, until

FILES: dict[str, Any] = {"scene 1.tif": Synthetic(300_000), "empty.csv": b"", "測試.json": b'{"a": 1}'}
SAMPLE = 8192


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture
def emulator(server: EmulatorServer) -> Emulator:
    empty(server.emulator)
    return server.emulator


@pytest.fixture
def order(emulator: Emulator) -> Task:
    return emulator.market_order(FILES)


def _number(order: Task, name: str) -> str:
    return order.file(name).path.rpartition("/")[2]


def test_files_have_the_names_that_their_host_gives(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    result = job(lists(server, order), tmp_path).run()
    assert [entry.name for entry in result.entries] == list(FILES)
    assert published(tmp_path) == set(FILES)
    for file in order.files:
        assert (tmp_path / file.name).read_bytes() == b"".join(file.content.blocks())
    assert not server.emulator.leaks


def test_a_host_is_asked_for_a_name_by_a_few_bytes(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    job(lists(server, order), tmp_path).run()
    seen = server.emulator.seen("file", "scene 1.tif")
    assert [(s.headers["range"], s.sent) for s in seen[:1]] == [(f"bytes=0-{SAMPLE - 1}", SAMPLE)]
    assert len(seen) == 2
    assert server.emulator.count("market.link") == 1


def test_the_next_run_finds_them_by_these_names(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    job(lists(server, order), tmp_path).run()
    server.emulator.requests.clear()
    again = job(lists(server, order), tmp_path)
    assert [entry.outcome for entry in again.run().entries] == ["skipped"] * 3
    assert again.totals.bytes == 0
    assert max(seen.sent for seen in server.emulator.seen("file")) <= SAMPLE


def test_the_next_try_fetches_only_what_is_missing(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    # The first request is for the name; then the link and a fresh one are refused.
    server.emulator.fault("file:scene 1.tif", Status(403), times=2, after=1)
    with pytest.raises(TransferError):
        job(lists(server, order), tmp_path).run()
    assert sorted(checkpoint(tmp_path, order) or []) == ["empty.csv", "測試.json"]
    result = job(lists(server, order), tmp_path).run()
    assert [entry.outcome for entry in result.entries] == ["fetched", "skipped", "skipped"]
    written = manifest(tmp_path, order)
    assert written
    assert [file["name"] for file in written["files"]] == list(FILES)


def test_patterns_and_expectations_are_of_these_names(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    job(lists(server, order), tmp_path, pattern="*.tif", expected=["scene 1.tif"]).run()
    assert published(tmp_path) == {"scene 1.tif"}


def test_renewed_links_keep_the_names(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    # One link is refused when the name is asked for, another one when the file is fetched.
    server.emulator.fault("file:scene 1.tif", Status(403), times=1)
    server.emulator.fault("file:測試.json", Status(403), times=1, after=1)
    running = job(lists(server, order), tmp_path)
    running.run()
    assert published(tmp_path) == set(FILES)
    assert running.totals.renewals == 2
    assert server.emulator.count("market.link") == 3


def test_a_file_that_comes_while_others_are_fetched_is_not_asked_for(
    server: EmulatorServer, emulator: Emulator, order: Task, tmp_path: Path
) -> None:
    late = emulator.market_order({"late.tif": b"4"})
    emulator.fault("file:late.tif", Status(500))
    emulator.fault("file:測試.json", Status(403), times=1, after=1)
    calls: list[FileListing] = []

    def list_files() -> FileListing:
        calls.append(lists(server, order)())
        return replace(calls[-1], files=calls[-1].files + lists(server, late)().files) if calls[1:] else calls[-1]

    job(list_files, tmp_path).run()
    assert len(calls) == 2
    assert published(tmp_path) == set(FILES)
    assert emulator.count("file", "late.tif") == 0


@pytest.mark.parametrize("fault", [IgnoreRange(), Status(503), Cut(at=1), Cut(sent=0)], ids=lambda f: type(f).__name__)
def test_bad_weather_when_a_name_is_asked_for_is_sat_out(
    server: EmulatorServer, order: Task, tmp_path: Path, fault: Any
) -> None:
    server.emulator.fault("file:scene 1.tif", fault, times=1)
    job(lists(server, order), tmp_path).run()
    assert published(tmp_path) == set(FILES)


def test_without_the_hosts_word_a_file_keeps_what_its_link_says(
    server: EmulatorServer, order: Task, tmp_path: Path
) -> None:
    server.emulator.fault("file:scene 1.tif", Header("Content-Disposition"))
    job(lists(server, order), tmp_path).run()
    assert published(tmp_path) == {_number(order, "scene 1.tif"), "empty.csv", "測試.json"}


def test_a_page_gives_no_name_to_a_file(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    server.emulator.fault("file:scene 1.tif", Body("<!DOCTYPE html><html>Sign in</html>"), times=1)
    with pytest.raises(IntegrityError, match="page"):
        job(lists(server, order), tmp_path).run()
    assert published(tmp_path) == set()
    job(lists(server, order), tmp_path).run()
    assert published(tmp_path) == set(FILES)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.tif", "a.tif"], "same name"),
        (["a.tif", "../x"], "leads out"),
        (["a.tif", "b\nc"], "control character"),
        (["a.tif", "_taskdl"], "reserved"),
    ],
)
def test_names_that_are_no_good_are_refused_before_anything_is_written(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, names: list[str], said: str
) -> None:
    order = emulator.market_order(dict.fromkeys(set(names), b"123"))
    if len(set(names)) < len(names):
        twin = emulator.market_order({names[0]: b"4"})
        order.files += twin.files
        emulator.objects[twin.files[0].path] = (order, twin.files[0])
    with pytest.raises(UnsafeFileNameError, match=said):
        job(lists(server, order), tmp_path).run()
    assert list(tmp_path.iterdir()) == []


def test_links_that_cannot_be_told_apart_are_refused(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    listing = lists(server, order)()
    twice = type(listing)(listing.remote_task_id, (listing.files[0], listing.files[0]))
    with pytest.raises(UnsafeFileNameError, match="same name"):
        job(lambda: twice, tmp_path).run()


def test_a_name_that_is_no_good_at_the_destination_is_refused(
    server: EmulatorServer, order: Task, tmp_path: Path
) -> None:
    def check(names: Any) -> None:
        if "測試.json" in names:
            raise UnsafeFileNameError("not here")

    with pytest.raises(UnsafeFileNameError, match="not here"):
        job(lists(server, order), tmp_path, check_names=check).run()


def test_a_file_that_the_host_does_not_give_fails_under_its_number(
    server: EmulatorServer, order: Task, tmp_path: Path
) -> None:
    server.emulator.fault("file:scene 1.tif", Status(403))
    with pytest.raises(TransferError) as caught:
        job(lists(server, order), tmp_path).run()
    assert caught.value.file == _number(order, "scene 1.tif")
    assert published(tmp_path) == set()


def test_a_job_that_is_told_to_stop_while_it_asks_stops(server: EmulatorServer, order: Task, tmp_path: Path) -> None:
    server.emulator.fault("file", Stall(3600))
    running = job(lists(server, order), tmp_path, timeout=60.0)
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            running.run()
        except BaseException as error:  # noqa: BLE001 - looked at below
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: server.emulator.count("file") >= 3)
    running.cancel()
    thread.join(30)
    assert not thread.is_alive()
    assert [type(error) for error in outcome] == [DownloadFailedError]
    assert published(tmp_path) == set()
    assert manifest(tmp_path, order) is None
