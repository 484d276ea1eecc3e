"""What is promised of a transfer holds on every store, through its Airflow connection."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_taskdl.exceptions import DestinationExistsError, IntegrityError, TaskDownloadError
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.testing import Content, Corrupt, Emulator, Stall, Status, Synthetic, Task
from airflow_provider_taskdl.transfer.sinks.base import Origin
from tests.running import make_context
from tests.stores.conftest import STORES
from tests.stores.places import Disk, Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

# A disk bears size and number in tests/transfer; of two S3 servers one is enough.
at_size = pytest.mark.parametrize("place", [store for store in STORES if store not in ("disk", "s3")], indirect=True)

MIB = 1024 * 1024
PART = 5 * MIB  # the least that S3 takes
PARTS = 5
BIG = Synthetic((PARTS - 1) * PART + 12_345, seed=7)
NAMES: dict[str, Content | bytes] = {
    "big one.tif": BIG,
    "empty.csv": b"",
    "ü 数据.json": b"{}",
    "100%41 a+b&c=d,e.txt": b"percent, plus",
    "a[1]*~!'(x).txt": b"brackets",
    ".hidden": b"dot",
}


def fetch(task: Task, url: str, context: Any = None, **options: Any) -> Any:
    """Run the operator as one try of a task, and return its context."""
    context = context or make_context()
    options = {"part_size": PART, "concurrency": 3, "retries": 0, **options}
    operator = DownloadToObjectStorageOperator(
        task_id="t", conn_id="eo_analysis_default", remote_task_id=task.id, destination=url, **options
    )
    context["result"] = operator.execute(context)
    return context


def contents(task: Task) -> dict[str, bytes]:
    return {file.name: b"".join(file.content.blocks()) for file in task.files}


def shown(place: Place, url: str) -> set[str]:
    """Return the names that show, our own folder left out."""
    return {name for name in place.names(url) if not name.startswith("_taskdl/")}


def check(place: Place, url: str, task: Task) -> None:
    """Check that all of a task's files are there, and nothing besides them and the manifest."""
    wanted = contents(task)
    found = place.contents(url)
    manifest = json.loads(found.pop(f"_taskdl/{task.id}.json"))
    assert found == wanted
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()
    }
    assert place.unfinished(url) == []


def in_a_process(task: Task, url: str, **options: Any) -> subprocess.Popen[str]:
    """Start the operator in a process of its own."""
    options = {"remote_task_id": task.id, "destination": url, "part_size": PART, "concurrency": 3, **options}
    command = [sys.executable, "-m", "tests.stores.worker", json.dumps(options)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> int:
    """Return the most memory that a process took."""
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return int(said.splitlines()[-1])


def test_whatever_a_file_is_called_it_arrives_whole_and_is_opened_by_its_path(
    place: Place, url: str, taskdl_emulator: Emulator
) -> None:
    task = taskdl_emulator.eo_task(NAMES, checksums=True)
    context = fetch(task, url)
    check(place, url, task)
    assert context["result"] == [f"{url}/{name}" for name in NAMES]
    assert {path.rpartition("/")[2]: ObjectStoragePath(path).read_bytes() for path in context["result"]} == contents(
        task
    )
    if place.keeps_sha256 is not None:
        named = {name: place.sha256_of(url, name) for name in NAMES}
        if not place.keeps_sha256:
            assert named.pop("big one.tif") is None
        assert named == {n: hashlib.sha256(data).hexdigest() for n, data in contents(task).items() if n in named}


def test_a_file_that_breaks_in_the_middle_never_shows_and_the_next_try_fetches_the_rest(
    place: Place, url: str, taskdl_emulator: Emulator
) -> None:
    task = taskdl_emulator.eo_task({"whole.bin": Synthetic(PART), "broken.bin": BIG}, checksums=True)
    taskdl_emulator.fault("file:broken.bin", Status(403), after=PARTS - 2)
    context = make_context()
    with pytest.raises((TaskDownloadError, AirflowFailException)):
        fetch(task, url, context, concurrency=1)
    assert shown(place, url) == {"whole.bin"}
    assert f"_taskdl/{task.id}.json" not in place.names(url), "the manifest says that all of it is there"

    taskdl_emulator.clear_faults()
    taskdl_emulator.requests.clear()
    fetch(task, url, context)
    check(place, url, task)
    assert taskdl_emulator.count("file", "whole.bin") == 0
    again = taskdl_emulator.bytes_sent("file", "broken.bin")
    assert again <= (BIG.size - (PARTS - 2) * PART + PART if place.resumes else BIG.size)


def test_a_process_that_is_killed_leaves_nothing_under_a_name_and_what_it_has_done_is_used(
    place: Place, url: str, taskdl_emulator: Emulator
) -> None:
    task = taskdl_emulator.eo_task({"whole.bin": Synthetic(PART), "broken.bin": BIG}, checksums=True)
    taskdl_emulator.fault("file:broken.bin", Stall(600), after=PARTS - 2)
    process = in_a_process(task, url, concurrency=1)
    deadline = time.monotonic() + 120
    noted = f"_taskdl/{task.id}.partial.json"
    try:  # the last request is made when all parts before it are stored
        while taskdl_emulator.count("file", "broken.bin") < PARTS - 1 or noted not in place.names(url):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert shown(place, url) == {"whole.bin"}

    taskdl_emulator.clear_faults()
    taskdl_emulator.requests.clear()
    finish(in_a_process(task, url))
    check(place, url, task)
    assert taskdl_emulator.count("file", "whole.bin") == 0
    again = taskdl_emulator.bytes_sent("file", "broken.bin")
    assert again <= (BIG.size - (PARTS - 2) * PART + PART if place.resumes else BIG.size)


def test_bytes_that_are_not_those_the_host_announced_take_no_good_files_place(
    place: Place, url: str, taskdl_emulator: Emulator
) -> None:
    task = taskdl_emulator.eo_task({"big.bin": BIG, "small.bin": Synthetic(1000)}, checksums=True)
    for name, at in (("big.bin", 2 * PART + 5), ("small.bin", 7)):
        place.put(url, name, b"good")
        taskdl_emulator.fault(f"file:{name}", Corrupt(at=at))
    for name in ("big.bin", "small.bin"):
        with pytest.raises(IntegrityError):
            fetch(task, url, overwrite="always", file_pattern=name)
    found = place.contents(url)
    assert {name: found[name] for name in shown(place, url)} == {"big.bin": b"good", "small.bin": b"good"}
    assert f"_taskdl/{task.id}.json" not in found
    assert place.unfinished(url) == [] or not place.tidies

    taskdl_emulator.clear_faults()
    fetch(task, url)
    check(place, url, task)


def test_a_wrong_part_that_a_broken_try_has_left_is_found_and_fetched_again(
    place: Place, url: str, taskdl_emulator: Emulator
) -> None:
    task = taskdl_emulator.eo_task({"big.bin": BIG}, checksums=True)
    wrong = taskdl_emulator.fault("file:big.bin", Corrupt(at=PART + 5), times=1)
    taskdl_emulator.fault("file:big.bin", Status(403), after=PARTS - 2)
    with pytest.raises((TaskDownloadError, AirflowFailException)):
        fetch(task, url, concurrency=1)
    assert wrong.fired
    taskdl_emulator.clear_faults()
    fetch(task, url)
    check(place, url, task)


def test_what_overwrite_says_is_done(place: Place, url: str, taskdl_emulator: Emulator) -> None:
    task = taskdl_emulator.eo_task({"a.bin": BIG, "b.txt": b"b"}, checksums=True)
    place.put(url, "b.txt", b"somebody's")
    with pytest.raises(AirflowFailException) as refused:
        fetch(task, url, overwrite="never")
    assert isinstance(refused.value.__cause__, DestinationExistsError)
    assert taskdl_emulator.count("file") == 0, "before any byte moves"
    assert place.contents(url)["b.txt"] == b"somebody's"

    fetch(task, url)
    check(place, url, task)
    taskdl_emulator.requests.clear()
    fetch(task, url)
    assert taskdl_emulator.count("file") == 0, "all of it was there"
    place.put(url, "b.txt", b"other")
    fetch(task, url)
    assert {name for seen in taskdl_emulator.seen("file") for name in seen.names[:1]} == {"b.txt"}
    fetch(task, url, overwrite="always")
    assert taskdl_emulator.count("file", "a.bin") > 0
    check(place, url, task)


@pytest.mark.parametrize("size", [1000, 2 * MIB, 2 * PART], ids=["short", "middling", "in parts"])
def test_of_two_that_want_one_name_one_gets_it(place: Place, url: str, size: int) -> None:
    store = Destination(url).store
    store.prepare(size)
    ready, results = threading.Barrier(2), dict[str, Any]()
    turn = nullcontext() if place.at_once else threading.Lock()

    def write(letter: str) -> None:
        data = memoryview(letter.encode() * size)
        sink = store.open("wanted", Origin(size, etag=f'"{letter}"'), part_size=PART, replace=False)
        for at in range(0, size, PART):
            sink.write(at, data[at : at + PART])
        ready.wait(60)
        try:
            with turn:
                results[letter] = sink.commit()
        except TaskDownloadError as error:
            results[letter] = error
            sink.abort()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [letter for letter, result in results.items() if isinstance(result, TaskDownloadError)]
    content = place.contents(url)["wanted"]
    assert content in (b"a" * size, b"b" * size), "the one or the other, but never some of both"
    if place.holds_back:
        assert len(lost) == 1, results
        assert content != lost[0].encode() * size
    assert place.unfinished(url) == [] or not place.tidies


def test_a_name_that_was_taken_meanwhile_is_not_taken_away(place: Place, url: str) -> None:
    store = Destination(url).store
    store.prepare(2 * PART)
    sink = store.open("wanted", Origin(2 * PART, etag='"x"'), part_size=PART, replace=False)
    for at in range(0, 2 * PART, PART):
        sink.write(at, memoryview(bytes(PART)))
    place.put(url, "wanted", b"somebody's")
    with pytest.raises(TaskDownloadError):
        sink.commit()
    sink.abort()
    assert place.contents(url)["wanted"] == b"somebody's"
    assert place.unfinished(url) == [] or not place.tidies


@at_size
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_long_file_takes_no_more_memory_than_its_parts(place: Place, url: str, taskdl_emulator: Emulator) -> None:
    short = taskdl_emulator.eo_task({"short.bin": b"x"})
    long = taskdl_emulator.eo_task({"long.bin": Synthetic(160 * MIB)}, checksums=True)
    base = finish(in_a_process(short, url))
    most = finish(in_a_process(long, url, concurrency=4))
    # What is on its way between two loops, and what threads cost; the file is several times as long.
    assert most - base <= 4 * PART + 44 * MIB, f"{(most - base) // MIB} MiB"


@at_size
def test_a_thousand_small_files(
    place: Place, url: str, taskdl_emulator: Emulator, record_property: Callable[[str, object], None]
) -> None:
    task = taskdl_emulator.eo_task({f"file {number:04}.json": b'{"n": %d}' % number for number in range(1000)})
    start = time.monotonic()
    fetch(task, url, concurrency=8)
    seconds = time.monotonic() - start
    assert place.names(url) == {*(file.name for file in task.files), f"_taskdl/{task.id}.json"}
    taskdl_emulator.requests.clear()
    start = time.monotonic()
    assert fetch(task, url)["ti"].xcom["summary"]["skipped"] == 1000
    assert taskdl_emulator.count("file") == 0
    record_property("seconds", f"{seconds:.1f}, and {time.monotonic() - start:.1f} to see that they are there")
    check(place, url, task)


def test_a_place_that_does_not_exist_is_not_made(place: Place, taskdl_emulator: Emulator) -> None:
    if isinstance(place, Disk):
        pytest.skip("on a disk a folder that is missing is made")
    task = taskdl_emulator.eo_task({"a.txt": b"a"})
    scheme, _, rest = place.folder().partition("@")
    with pytest.raises(TaskDownloadError):
        fetch(task, f"{scheme}@no-{rest}")
