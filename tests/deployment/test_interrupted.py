"""Whatever ends a task in the middle of a transfer: only whole files show, and the next try fetches only the rest."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from airflow_provider_taskdl.testing import Emulator, Stall, Synthetic, Task
from tests.deployment.living import Deployment, Run, until
from tests.s3 import S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(400)]

MIB = 1024 * 1024


def make_task(emulator: Emulator, part: int) -> Task:
    """Add a small file, one of two parts, and one of six and a bit whose fourth part never comes in the first try."""
    files = {"small.bin": Synthetic(100_003), "done.bin": Synthetic(2 * part), "big.bin": Synthetic(6 * part + 17)}
    task = emulator.eo_task(files)
    emulator.fault("file:big.bin", Stall(3600, at=3 * part + part // 2), times=1)
    return task


def starts(emulator: Emulator, name: str = "big.bin") -> Counter[int]:
    """Return how often a file was asked for, from which byte on."""
    ranges = [seen.headers["range"] for seen in emulator.seen("file", name)]
    return Counter(int(text.removeprefix("bytes=").partition("-")[0]) for text in ranges)


def looked_at(emulator: Emulator, part: int, end: Callable[[Run], None]) -> None:
    """Check that what had arrived came once; after a hard end a few seconds' worth of small files may come again."""
    hard = end in (kill, lose)
    assert emulator.count("file", "small.bin") <= (2 if hard else 1)
    done = starts(emulator, "done.bin")
    # Where the checkpoint came too late a look at the file shows that it is there.
    assert done[0] <= (2 if hard else 1)
    assert done[part] == 1
    assert emulator.leaks == []


def journals(folder: Path) -> set[int]:
    """Return where parts that are complete end."""
    lines = [line for path in folder.glob("_taskdl/*.journal") for line in path.read_bytes().splitlines() if line]
    return {end for line in lines if (end := json.loads(line).get("end"))}


def arrived(folder: Path) -> bool:
    """Tell whether all files but the one that hangs are there."""
    return all((folder / name).exists() for name in ("small.bin", "done.bin"))


@contextmanager
def only_whole_files(folder: Path, task: Task) -> Iterator[None]:
    """Look all the while whether something shows that is not whole."""
    wanted = [(folder / file.name, file.content.size) for file in task.files]
    over, short = threading.Event(), []

    def look() -> None:
        while not over.wait(0.02):
            for path, size in wanted:
                with suppress(FileNotFoundError):
                    short.extend([path] if path.stat().st_size != size else [])

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert short == []


def check(run: Run, task: Task, folder: Path, prefix: str) -> None:
    """Check what a run leaves in the end: true bytes, their paths, a manifest, and nothing else."""
    names = [file.name for file in task.files]
    for file in task.files:
        assert (folder / file.name).read_bytes() == b"".join(file.content.blocks())
    assert run.xcom() == [f"{prefix}/{name}" for name in names]
    assert {path.name for path in folder.iterdir()} == {*names, "_taskdl"}
    manifest = json.loads((folder / "_taskdl" / f"{task.id}.json").read_bytes())
    assert [file["path"] for file in manifest["files"]] == run.xcom()
    left = {path.name for path in (folder / "_taskdl").rglob("*") if path.is_file()}
    assert left == {f"{task.id}.json"}


def terminate(run: Run) -> None:
    run.process().send_signal(signal.SIGTERM)


def kill(run: Run) -> None:
    run.process().send_signal(signal.SIGKILL)


def lose(run: Run) -> None:
    """End the task and what watches over it, as when a machine is gone."""
    process = run.process()
    process.parent().kill()
    process.kill()


def clear(run: Run) -> None:
    run.clear()


def mark_failed(run: Run) -> None:
    process = run.process()
    run.mark_failed()
    until(lambda: not process.is_running(), "the end of a task that was marked failed")
    assert run.task()["state"] == "failed"
    run.clear()


def wait(run: Run) -> None:
    """Do nothing: the task's time is limited."""


@pytest.mark.parametrize(
    ("dag_id", "end"),
    [
        ("small_parts", terminate),
        ("small_parts", kill),
        ("small_parts", clear),
        ("small_parts", mark_failed),
        ("limited_time", wait),
    ],
    ids=["SIGTERM", "SIGKILL", "cleared", "marked failed", "execution_timeout"],
)
def test_a_download_to_a_disk_goes_on_where_it_was_ended(
    deployment: Deployment, emulator: Emulator, tmp_path: Path, dag_id: str, end: Callable[[Run], None]
) -> None:
    task = make_task(emulator, MIB)
    with only_whole_files(tmp_path / "out", task):
        run = deployment.run(dag_id, remote_task_id=task.id, destination=str(tmp_path / "out"))
        until(lambda: arrived(tmp_path / "out") and 3 * MIB in journals(tmp_path / "out"), "half a file")
        until(lambda: set(starts(emulator)) == {part * MIB for part in range(7)}, "a request for every part")
        process = run.process()
        end(run)
        until(lambda: not process.is_running(), "the process's end")
        assert run.ends() == "success"
    check(run, task, tmp_path / "out", f"file://{tmp_path}/out")
    assert run.task()["try_number"] == 2
    # The second try begins with a look at the file, and fetches the part that hung and those behind it.
    assert starts(emulator) == {part * MIB: 1 if part in (1, 2) else 2 for part in range(7)}
    looked_at(emulator, MIB, end)


@pytest.mark.parametrize("end", [terminate, kill, lose], ids=["SIGTERM", "SIGKILL", "worker lost"])
def test_a_download_to_a_bucket_goes_on_where_it_was_ended(
    deployment: Deployment, emulator: Emulator, s3_server: S3Server, end: Callable[[Run], None]
) -> None:
    part, bucket = 5 * MIB, s3_server.bucket()
    folder, task = s3_server.directory / bucket / "out", make_task(emulator, part)
    with closing(s3_server.client()) as client, only_whole_files(folder, task):

        def uploads() -> list[dict[str, str]]:
            try:
                found: list[dict[str, str]] = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
            except client.exceptions.NoSuchUpload:  # this server's word for "none yet"
                return []
            return found

        def parts() -> set[int]:
            listed = [client.list_parts(Bucket=bucket, Key=u["Key"], UploadId=u["UploadId"]) for u in uploads()]
            return {part["PartNumber"] for parts in listed for part in parts.get("Parts", ())}

        run = deployment.run("big_parts", remote_task_id=task.id, destination=f"s3://live_store@{bucket}/out")
        until(lambda: arrived(folder) and parts() == {1, 2, 3, 5, 6, 7}, "half an upload")
        process = run.process()
        end(run)
        until(lambda: not process.is_running(), "the process's end")
        assert len(uploads()) == 1
        assert run.ends() == "success"
        assert uploads() == []
        check(run, task, folder, f"s3://live_store@{bucket}/out")
    assert run.task()["try_number"] == 2
    # The second try begins with a look at the file, and fetches the part that hung.
    assert starts(emulator) == {at * part: 2 if at in (0, 3) else 1 for at in range(7)}
    looked_at(emulator, part, end)
