"""Kills a transfer of one large file at random moments, lets the next try end it, and counts what came twice.

Run as ``python -m benchmarks.kills [--kills 30] [--mib 1024] [--seed 1]``. Writes ``benchmarks/results/kills.json``;
the exit status tells whether everything held.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config

from benchmarks import peers
from benchmarks.measure import Failed
from benchmarks.peers import PARALLEL, Job
from benchmarks.scenarios import Size
from benchmarks.servers import ACCESS_KEY, BUCKET, MIB, SECRET_KEY, Servers

RESULT = Path(__file__).resolve().parent / "results" / "kills.json"
PART = 16 * MIB
# What the promise is: one part for each connection, and one more.
ALLOWED = (PARALLEL + 1) * PART


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="for each destination")
    parser.add_argument("--mib", type=int, default=1024, help="the file's length")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    with Servers(4 * options.mib * MIB) as servers:
        files = Size("killed", 1, options.mib * MIB)
        warm_up = servers.make_files("warm-up", 1, 1024)
        task = servers.make_files(files.name, files.count, files.size)
        scratch = servers.folder / "scratch"
        scratch.mkdir()
        kept: list[dict[str, Any]] = []
        for name, store in (("a disk", None), (servers.rclone.name, servers.rclone)):
            chance = random.Random(options.seed)
            # A place of its own for each: a server may remember what was removed behind its back.
            jobs = [Job(servers, task, warm_up, store, f"killed-{n}", scratch) for n in range(options.kills + 1)]
            whole = _seconds_of(jobs.pop())
            tries = [_kill(job, chance.uniform(0.0, whole)) for job in jobs]
            kept.append({"to": name, "seconds": round(whole, 2), "tries": tries})
    now = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"when": now, "mib": options.mib, "allowed_mib": ALLOWED // MIB, "kept": kept}, indent=1)
    )
    for each in kept:
        print(f"{each['to']}: {_sum_up(each['tries'])}")
    sys.exit(any(_is_bad(each) for one in kept for each in one["tries"]))


def _seconds_of(job: Job) -> float:
    """Return how long a transfer takes that nobody kills."""
    job.prepare()
    worker = _start(job)
    start = time.monotonic()
    _wait_for(worker, b"ended\n")
    seconds = time.monotonic() - start
    if worker.wait() != 0:
        raise Failed("the transfer fails without being killed")
    job.clean()
    return seconds


def _kill(job: Job, after: float) -> dict[str, Any]:
    job.prepare()
    sent = job.servers.sent()
    worker = _start(job)
    time.sleep(after)
    worker.kill()
    worker.wait()
    shown = _size(job)
    uploads = len(_uploads(job))
    first = _settled(job.servers) - sent
    status = _start(job).wait()
    again = _settled(job.servers) - sent - job.only.size
    try:
        job.check(contents=True)
        problem = "" if status == 0 else f"the second try ended with status {status}"
    except Failed as error:
        problem = str(error)
    found = {
        "after": round(after, 2), "first_mib": first // MIB, "shown": shown, "uploads": uploads,
        "again_mib": round(max(again, 0) / MIB, 1), "dangling": len(_uploads(job)), "problem": problem,
        "short": shown not in (None, job.only.size),
    }  # fmt: skip
    print(found, flush=True)
    job.clean()
    return found


def _start(job: Job) -> subprocess.Popen[bytes]:
    """Start the operator as a worker does, and return when its code is imported and its work begins."""
    command = peers.ours()(job)
    program, given = "import sys; from benchmarks.kills import work; work(sys.argv[1])", command.argv[-2]
    worker = subprocess.Popen(
        [sys.executable, "-c", program, given], env={**os.environ, **command.env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _wait_for(worker, b"begun\n")
    return worker


def _wait_for(worker: subprocess.Popen[bytes], said: bytes) -> None:
    assert worker.stdout is not None
    while (line := worker.stdout.readline()) and line != said:
        pass


def work(parameters: str) -> None:
    """Run the operator. Its checkpoint lies beside the data: a worker's own memory dies with it."""
    from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
    from benchmarks.task import TaskInstance

    given = json.loads(Path(parameters).read_text())
    operator = DownloadToObjectStorageOperator(
        task_id="bench", conn_id="bench_api", remote_task_id=given["task"], destination=given["destination"],
        concurrency=given["concurrency"], part_size=PART,
    )  # fmt: skip
    print("begun", flush=True)
    context: Any = {"ti": TaskInstance()}
    operator.execute(context)
    print("ended", flush=True)


def _settled(servers: Servers) -> int:
    """Return the bytes that the file host has sent, once it knows of every connection that was cut."""
    before, now = -1, servers.sent()
    while before != now:
        time.sleep(0.3)
        before, now = now, servers.sent()
    return now


def _size(job: Job) -> int | None:
    """Return how long the file is that shows under its name, if one does."""
    if job.store is not None:
        size = job.servers.size_in(job.store, f"{job.prefix}/{job.only.name}")
        return None if size < 0 else size
    path = job.folder / job.only.name
    return path.stat().st_size if path.exists() else None


def _uploads(job: Job) -> list[Any]:
    if job.store is None:
        return []
    client = boto3.client(
        "s3", endpoint_url=job.store.endpoint, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1", verify=str(job.servers.certificate), config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    try:
        found: list[Any] = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    except client.exceptions.NoSuchUpload:  # this server's way to say that there are none
        return []
    return found


def _is_bad(found: dict[str, Any]) -> bool:
    return bool(found["problem"] or found["short"] or found["dangling"] or found["again_mib"] * MIB > ALLOWED)


def _sum_up(tries: list[dict[str, Any]]) -> str:
    most = max(each["again_mib"] for each in tries)
    return f"{len(tries)} kills, {sum(map(_is_bad, tries))} bad; fetched again: at most {most} of {ALLOWED // MIB} MiB"


if __name__ == "__main__":
    main()
