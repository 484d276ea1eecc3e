from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_provider_taskdl.exceptions import DownloadFailedError, SourceChangedError, TransferError
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.testing import (
    ChangeFile,
    Corrupt,
    Cut,
    Drip,
    Emulator,
    EmulatorServer,
    Header,
    IgnoreRange,
    Status,
    Synthetic,
    Task,
)
from airflow_provider_taskdl.transfer.job import DownloadJob
from tests.transfer.harness import job, leftovers, lists, published, split_finely, until

PART = 64 * 1024
SIZE = 10 * PART + 123
CONTENT = Synthetic(SIZE, seed=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split_finely(monkeypatch, PART)


@pytest.fixture
def task(emulator: Emulator) -> Task:
    return emulator.eo_task({"big.bin": CONTENT})


def _job(server: EmulatorServer, task: Task, to: Path, concurrency: int = 4) -> DownloadJob:
    return job(lists(server, task), to, concurrency=concurrency, part_size=PART)


def _try_that_fails(server: EmulatorServer, task: Task, to: Path) -> None:
    """Bring what can be had while nothing beyond the sixth part comes."""
    server.emulator.fault("file:*", Cut(at=6 * PART))
    with pytest.raises(TransferError):
        _job(server, task, to, concurrency=1).run()
    server.emulator.clear_faults()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ranges(emulator: Emulator) -> list[str | None]:
    return [seen.headers.get("range") for seen in emulator.seen("file")]


@pytest.mark.parametrize("declare_sizes", [True, False])
@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_a_big_file_comes_in_parts(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, declare_sizes: bool, concurrency: int
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT, "small": b"x" * 100, "empty": b""}, declare_sizes=declare_sizes)
    result = _job(server, task, tmp_path, concurrency).run()
    assert [entry.sha256 for entry in result.entries] == [file.content.sha256 for file in task.files]
    assert _sha256(tmp_path / "big.bin") == CONTENT.sha256
    wanted = {f"bytes={at}-{min(at + PART, SIZE) - 1}" for at in range(0, SIZE, PART)}
    if not declare_sizes:  # only the answer tells that the last byte of the first range is the file's
        wanted |= {f"bytes=0-{PART - 1}"}
    assert wanted <= set(_ranges(emulator))
    assert emulator.bytes_sent("file", "big.bin") == SIZE
    assert leftovers(tmp_path) == set()


def test_parts_come_at_once_but_not_more_than_the_connections(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", Drip(rate=4 * PART))
    _job(server, task, tmp_path, concurrency=8).run()
    # Each part takes a quarter of a second, so requests that began within a fifth ran at once.
    begun = [seen.time for seen in emulator.seen("file")]
    assert 1 < max(sum(0 <= time - first < 0.2 for time in begun) for first in begun) <= 8


def test_a_part_that_breaks_is_mended_alone(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", Cut(at=4 * PART + 1000), times=1)
    emulator.fault("file:*", Cut(at=8 * PART), times=2)
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert f"bytes={4 * PART + 1000}-{5 * PART - 1}" in _ranges(emulator)
    assert emulator.bytes_sent("file") <= SIZE + PART


def test_a_host_without_ranges_is_read_in_one_piece(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", IgnoreRange())
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert emulator.count("file") == 1


def test_a_file_without_validators_is_read_in_one_piece(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", Header("ETag"))
    emulator.fault("file:*", Header("Last-Modified"))
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert _ranges(emulator) == [f"bytes=0-{PART - 1}", None]


def test_a_file_that_changes_between_parts_is_read_again(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", ChangeFile(), times=1, after=3)
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256


def test_a_file_that_changes_for_ever_is_given_up(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", ChangeFile(), after=1)
    with pytest.raises(SourceChangedError):
        _job(server, task, tmp_path).run()
    assert (published(tmp_path), leftovers(tmp_path)) == (set(), set())


def test_a_wrong_byte_in_a_part_shows_by_the_digest_of_the_whole(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT}, checksums=True)
    emulator.fault("file:*", Corrupt(at=7 * PART + 5), times=1)
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert emulator.count("file") > 11


def test_links_that_end_are_renewed_once_for_all_parts(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.link_seconds = 2
    task = emulator.eo_task({"big.bin": CONTENT})
    emulator.fault("file:*", Drip(rate=PART // 3))
    began = time.monotonic()
    assert _job(server, task, tmp_path, concurrency=4).run().entries[0].sha256 == CONTENT.sha256
    # A link is asked for when parts begin, three times or so; each time one call serves all connections.
    assert emulator.count("eo.link") <= 2 + (time.monotonic() - began) / 1.0


def test_what_has_arrived_outlasts_a_service_that_lists_nothing_for_a_moment(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", Status(403), times=1, after=6)
    real, listings = lists(server, task), 0

    def now_and_then() -> FileListing:
        nonlocal listings
        listings += 1
        return FileListing(task.id, ()) if listings in (2, 3) else real()

    result = job(now_and_then, tmp_path, concurrency=1, part_size=PART).run()
    assert result.entries[0].sha256 == CONTENT.sha256
    assert listings == 4
    assert emulator.bytes_sent("file") < SIZE + PART


def test_what_a_failed_try_left_is_not_fetched_again(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    _try_that_fails(server, task, tmp_path)
    assert published(tmp_path) == set()
    before = emulator.bytes_sent("file")
    assert _job(server, task, tmp_path, concurrency=3).run().entries[0].sha256 == CONTENT.sha256
    assert emulator.bytes_sent("file") - before <= SIZE - 6 * PART + PART
    assert leftovers(tmp_path) == set()


def test_what_is_damaged_meanwhile_is_fetched_anew(server: EmulatorServer, task: Task, tmp_path: Path) -> None:
    _try_that_fails(server, task, tmp_path)
    [part] = (tmp_path / "_taskdl").glob("*.part")
    with part.open("r+b") as file:
        file.seek(2 * PART + 7)
        file.write(b"damage")
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert _sha256(tmp_path / "big.bin") == CONTENT.sha256


def test_another_version_does_not_continue_the_one_before(server: EmulatorServer, task: Task, tmp_path: Path) -> None:
    _try_that_fails(server, task, tmp_path)
    other = Synthetic(SIZE, seed=4)
    task.file("big.bin").change(other)
    assert _job(server, task, tmp_path).run().entries[0].sha256 == other.sha256


def test_a_stop_keeps_what_has_come(server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path) -> None:
    emulator.fault("file:*", Drip(rate=2 * PART))
    running = _job(server, task, tmp_path, concurrency=2)

    def stop() -> None:
        until(lambda: emulator.count("file") >= 5)
        running.cancel()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(DownloadFailedError, match="cancelled"):
        running.run()
    assert published(tmp_path) == set()
    emulator.clear_faults()
    before = emulator.bytes_sent("file")
    assert _job(server, task, tmp_path).run().entries[0].sha256 == CONTENT.sha256
    assert emulator.bytes_sent("file") - before < SIZE


def test_two_transfers_of_one_file_do_not_disturb_each_other(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path
) -> None:
    emulator.fault("file:*", Drip(rate=8 * PART))
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(_job(server, task, tmp_path).run().entries[0].sha256))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [CONTENT.sha256] * 3
    assert _sha256(tmp_path / "big.bin") == CONTENT.sha256


def test_a_part_that_is_refused_fails_the_file_and_not_the_others(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({"big.bin": CONTENT, "other.bin": Synthetic(3 * PART, seed=9)})
    emulator.fault("file:big.bin", Status(403), after=4)
    with pytest.raises(TransferError) as caught:
        _job(server, task, tmp_path).run()
    assert caught.value.file == "big.bin"
    assert published(tmp_path) == {"other.bin"}


KILLED = """
import sys
from pathlib import Path
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from tests.transfer.harness import job
url, size, part, to = sys.argv[1:]
from airflow_provider_taskdl.transfer import engine
engine._MIN_PART = engine._MIB = int(part)
listing = FileListing("t", (RemoteFile("big.bin", Link(url), int(size)),))
job(lambda: listing, Path(to), concurrency=2, part_size=int(part)).run()
"""


@pytest.mark.parametrize("seconds", [0.3, 0.9, 1.6])
def test_a_killed_process_costs_no_more_than_the_parts_on_their_way(
    server: EmulatorServer, emulator: Emulator, task: Task, tmp_path: Path, seconds: float
) -> None:
    emulator.fault("file:*", Drip(rate=2 * PART))
    [file] = lists(server, task)().files
    assert file.link is not None
    arguments = [sys.executable, "-c", KILLED, file.link.reveal(), str(SIZE), str(PART), str(tmp_path)]
    victim = subprocess.Popen(arguments, cwd=Path(__file__).parents[2])
    while not emulator.count("file") and victim.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    victim.kill()
    victim.wait()
    sent = emulator.bytes_sent("file")
    assert published(tmp_path) == set()
    emulator.clear_faults()
    assert _job(server, task, tmp_path, concurrency=2).run().entries[0].sha256 == CONTENT.sha256
    # What the dying process had read of its two parts, and what lay in its sockets, comes again.
    assert emulator.bytes_sent("file") <= SIZE + 3 * PART
    assert sent > 0
    assert leftovers(tmp_path) == set()
