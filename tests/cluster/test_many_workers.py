"""Several workers: what they bring together is what one brings, and one that dies takes nothing with it."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.testing import Drip, Emulator, EmulatorServer, Stall, Synthetic, Task
from tests.canary import assert_canary_free
from tests.cluster.conftest import CONCURRENCY, SECRETS
from tests.cluster.many import Cluster
from tests.deployment.living import Run, until
from tests.s3 import SECRET, S3Server, uploads_in

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(1500)]

MIB = 1024 * 1024
NEVER = 1e6
DAYS = 25
LIMIT = 120.0  # of the sensor that does not wait for ever; see its DAG
CONNECTIONS = 2  # of each download; see its DAG
DAGS = ("daily_logs", "daily_analysis")
SLOW = 400.0  # seconds in which a small machine does what fifty runs need


@dataclass
class Day:
    """One run, its remote task and where its files go."""

    run: Run
    task: Task
    folder: Path
    prefix: str

    def ready_in(self, seconds: float) -> None:
        """Let the remote task end that much later than now."""
        self.task.ready_after = time.time() - self.task.created + seconds


def analysis(emulator: Emulator, day: int) -> Task:
    """Add an analysis: a raster of three parts, and two small files."""
    raster, report, table = Synthetic(11 * MIB + day, day), Synthetic(300_000 + day, day), Synthetic(50_000 + day, day)
    date = f"202503{day:02}"
    return emulator.eo_task(
        {f"{date}.tif": raster, f"{date}.pdf": report, f"{date}.csv": table}, id=date, ready_after=NEVER
    )


def days(running: Cluster, emulator: Emulator, bucket: Path) -> list[Day]:
    """Return all runs, once each has its remote task."""
    logs, analyses = (running.deployment.runs(dag_id) for dag_id in DAGS)
    found = []
    for run, other in zip(logs, analyses, strict=True):
        date = run.get()["logical_date"][:10]
        task = emulator.find("bls", run.xcom("start_export"))
        assert task
        store = running.deployment.airflow.home / "store"
        found.append(Day(run, task, store / "logs" / date, f"{store.as_uri()}/logs/{date}"))
        task = emulator.find("eo", date.replace("-", ""))
        assert task
        found.append(Day(other, task, bucket / "analysis" / date, f"s3://live_store@{bucket.name}/analysis/{date}"))
    return found


def count(running: Cluster, **filters: str) -> int:
    """Return how many task instances of the fifty runs there are of a kind."""
    return sum(len(running.deployment.tasks(dag_id, **filters)) for dag_id in DAGS)


def ranges(emulator: Emulator, task: Task) -> dict[str, Counter[str]]:
    """Return how often each range of each file of a task was asked for."""
    return {f.name: Counter(s.headers.get("range", "") for s in emulator.seen("file", f.path)) for f in task.files}


def check(day: Day) -> None:
    """Check what a run leaves: true bytes, their paths, one manifest, and nothing else."""
    names = [file.name for file in day.task.files]
    for file in day.task.files:
        assert (day.folder / file.name).read_bytes() == b"".join(file.content.blocks())
    assert day.run.xcom() == [f"{day.prefix}/{name}" for name in names]
    assert {path.name for path in day.folder.iterdir()} == {*names, "_taskdl"}
    assert {path.name for path in (day.folder / "_taskdl").rglob("*") if path.is_file()} == {f"{day.task.id}.json"}
    manifest = json.loads((day.folder / "_taskdl" / f"{day.task.id}.json").read_bytes())
    assert [file["path"] for file in manifest["files"]] == day.run.xcom()


def sent_credentials(emulator: Emulator) -> set[str]:
    """Return what requests to the services carried."""
    return {seen.headers["authorization"] for seen in emulator.seen() if "authorization" in seen.headers}


def test_what_shards_bring_from_two_workers_is_what_one_task_brings(
    running: Cluster, emulated: EmulatorServer, tmp_path: Path
) -> None:
    emulator, deployment = emulated.emulator, running.deployment
    contents: dict[str, Any] = {f"{number}.bin": Synthetic(200_000 * number + 1, number) for number in range(20)}
    task = emulator.eo_task(contents, ready_after=NEVER)
    spread = deployment.run("spread_over_8", remote_task_id=task.id, destination=str(tmp_path / "spread"))
    states = [("running", host) for host in ("worker-1", "worker-2") for _ in range(CONCURRENCY)]
    until(
        lambda: sorted((shard["state"], str(shard["hostname"])) for shard in spread.tasks("download")) == states,
        "the waiting of all shards, more than a worker has room for",
    )
    task.finish()
    assert spread.ends() == "success"
    assert {frozenset(asked.values()) for asked in ranges(emulator, task).values()} == {frozenset({1})}
    whole = deployment.run("whole", remote_task_id=task.id, destination=str(tmp_path / "whole"))
    assert whole.ends() == "success"

    for file in task.files:
        for folder in ("spread", "whole"):
            assert (tmp_path / folder / file.name).read_bytes() == b"".join(file.content.blocks())
    assert recorded(spread, "join", tmp_path / "spread") == recorded(whole, "download", tmp_path / "whole")


def recorded(run: Run, task_id: str, folder: Path) -> list[dict[str, Any]]:
    """Return what a run's manifest says, but for places and times."""
    names = [Path(path).name for path in run.xcom(task_id)]
    assert run.xcom(task_id) == [f"{folder.as_uri()}/{name}" for name in names]
    (manifest,) = (path for path in (folder / "_taskdl").iterdir() if "shard" not in path.name)
    files: list[dict[str, Any]] = json.loads(manifest.read_bytes())["files"]
    assert [file["path"] for file in files] == run.xcom(task_id)
    return [{k: v for k, v in file.items() if k not in ("path", "time", "stored_version")} for file in files]


def test_fifty_runs_outlive_a_triggerer_and_a_worker(
    running: Cluster, emulated: EmulatorServer, links: set[str], s3_server: S3Server, bucket: Path
) -> None:
    emulator, deployment, airflow = emulated.emulator, running.deployment, running.deployment.airflow
    emulator.make_log = lambda request: Synthetic(8 * MIB + 17, int(request["queryStartTime"][8:10]))
    for number in range(1, DAYS + 1):
        analysis(emulator, number)
    never = emulator.eo_task({"a.bin": b"abc"}, ready_after=NEVER)
    for dag_id in (*DAGS, "never_ready"):
        deployment.unpause(dag_id)
    until(lambda: count(running, task_id="wait", state="deferred") == 2 * DAYS, "the waiting of all runs", SLOW, 1)
    runs = days(running, emulator, bucket)

    dumps = [running.database.dump()]  # with all triggers

    # Half of the fifty become ready one after another; one of their downloads cannot end by itself.
    emulator.fault("file", Drip(3 * MIB // 2))
    victim = runs[0]
    emulator.fault(f"file:{victim.task.files[0].path}", Stall(3600, at=7 * MIB // 2), times=1)
    for number, day in enumerate(runs[:DAYS]):
        day.ready_in(number / 4)
    name, half = victim.task.files[0].name, f"bytes={3 * MIB}-{4 * MIB - 1}"
    until(lambda: ranges(emulator, victim.task)[name][half], "half a download", SLOW)
    limited = deployment.run("never_ready", remote_task_id=never.id)  # so late that its time is not over by then
    until(lambda: limited.task("wait")["state"] == "deferred", "the waiting of the last sensor", SLOW)
    lost = victim.run.task()["hostname"]
    airflow.kill("triggerer")
    airflow.kill(lost)
    (left,) = {"worker-1", "worker-2"} - {lost}
    at_kill = time.time()
    assert count(running, task_id="wait", state="deferred") >= DAYS
    for number, day in enumerate(runs[DAYS:]):
        day.ready_in(number / 4)
    airflow.start("triggerer")
    running.start_workers("worker-3")

    assert {day.run.ends(SLOW) for day in runs} == {"success"}
    assert [len(deployment.runs(dag_id)) for dag_id in DAGS] == [DAYS, DAYS]
    for day in runs:
        check(day)
    with closing(s3_server.client()) as client:
        assert uploads_in(client, bucket.name) == []
    assert emulator.count("bls.create") == DAYS
    assert emulator.leaks == []

    # What the dead worker had in hand was begun again by another; nothing else was. Of a file that was on its way, a
    # part for each connection and the first one, at which it is looked, came twice at most; no part came oftener.
    tasks = [task for dag_id in DAGS for task in deployment.tasks(dag_id)]
    tries = Counter(task["try_number"] for task in tasks)
    assert set(tries) == {1, 2}
    assert 1 <= tries[2] <= CONCURRENCY
    assert {lost, left} <= {task["hostname"] for task in tasks}
    for day in runs:
        allowed = CONNECTIONS + 1 if day.run.task()["try_number"] == 2 else 0
        for asked in ranges(emulator, day.task).values():
            assert set(asked.values()) <= {1, 2}
            assert asked.total() - len(asked) <= allowed
    assert victim.run.task()["try_number"] == 2
    parts = ranges(emulator, victim.task)[name]
    assert parts[f"bytes={3 * MIB}-{4 * MIB - 1}"] == 2, "the part that was on its way"

    assert limited.ends() == "failed"
    began = datetime.fromisoformat(limited.task("wait")["start_date"]).timestamp()
    looks = [seen.time for seen in emulator.seen("eo.status", never.id)]
    taken_up = min(look for look in looks if look > at_kill)
    assert limited.task("wait")["try_number"] == 1
    assert began + LIMIT <= looks[-1] < taken_up + LIMIT

    dumps.append(running.database.dump())
    assert all(day.task.id in dump for day in runs for dump in dumps)
    assert len(links) > 4 * DAYS
    secrets: set[Any] = {*links, *SECRETS.values(), SECRET, *sent_credentials(emulator)}
    assert_canary_free(*dumps, airflow.home / "logs", *airflow.home.glob("*.log"), secrets=secrets)
