"""What runs of DAGs tell those who watch: metrics over StatsD and OpenTelemetry, and OpenLineage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_taskdl.testing import Content, Cut, Emulator, EmulatorServer, Stall, Status, Synthetic, Task
from tests.canary import assert_canary_free, recorded_links
from tests.database import copy_database
from tests.integration.conftest import DAGS
from tests.integration.sinks import Received, Series, Sink, opentelemetry, statsd

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "CANARYapiToken2222222222222222/+"
CONN_ID = "eo_analysis_default"
# One run of each: mended within a try, mended by a second try, not mended.
MENDED, AGAIN, FAILED = "eo_one_task_waits_in_triggerer", "eo_poke", "eo_reschedule"
FILES: dict[str, Content | bytes] = {"a b.tif": Synthetic(300_000), "b.csv": b"x;y\n", "c.bin": b"123"}
STALL = 0.5


@dataclass
class World:
    """What a process that ran DAGs did, and what it told.

    :ivar base_url: Of the service.
    :ivar emulator: Knows what it really asked for and got.
    :ivar tasks: The remote task of each DAG's run.
    :ivar out: Where the runs put their files, by DAG.
    :ivar seconds: How long it ran.
    :ivar sink: What came of metrics.
    :ivar received: What they say.
    :ivar events: OpenLineage's events.
    :ivar secrets: What must not show.
    """

    base_url: str
    emulator: Emulator
    tasks: dict[str, Task]
    out: Path
    seconds: float
    sink: Sink
    received: Received
    events: list[dict[str, Any]]
    secrets: set[str]

    def metrics(self, dag_id: str) -> dict[str, tuple[str, float]]:
        """Return the transfer metrics of a DAG: name to type and sum; of ``duration`` the count."""
        tags = frozenset({("conn_id", CONN_ID), ("dag_id", dag_id), ("task_id", "download")})
        own = {name.removeprefix("airflow.taskdl."): s for (name, found), s in self.received.items() if found == tags}
        return {name: (s.type, s.count if name == "duration" else s.sum) for name, s in own.items()}

    def duration(self, dag_id: str) -> Series:
        """Return the times of a DAG's transfers."""
        tags = frozenset({("conn_id", CONN_ID), ("dag_id", dag_id), ("task_id", "download")})
        return self.received["airflow.taskdl.duration", tags]

    def lineage(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the events of a DAG's download."""
        return [event for event in self.events if event["job"]["name"] == f"{dag_id}.download"]


@pytest.fixture(scope="module")
def worlds(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    """One process for each kind of sink, side by side."""
    with ExitStack() as stack:
        secrets = stack.enter_context(recorded_links())
        sinks = {"statsd": stack.enter_context(statsd()), "opentelemetry": stack.enter_context(opentelemetry())}
        running = {name: _begin(stack, sink, tmp_path_factory.mktemp(name)) for name, sink in sinks.items()}
        yield {name: _end(sinks[name], secrets, *begun) for name, begun in running.items()}


_Begun = tuple[EmulatorServer, dict[str, Task], Path, float, "subprocess.Popen[str]"]


def _begin(stack: ExitStack, sink: Sink, folder: Path) -> _Begun:
    emulator = Emulator(token=TOKEN)
    server = stack.enter_context(EmulatorServer(emulator))
    tasks = {
        MENDED: emulator.eo_task(FILES, ready_after=0.5, starts="asked"),
        AGAIN: emulator.eo_task(FILES),
        FAILED: emulator.eo_task(FILES),
    }
    emulator.fault(f"eo.status:{tasks[MENDED].id}", Status(503), times=1)
    emulator.fault(f"file:{tasks[MENDED].file('a b.tif').path}", Cut(at=100_000), times=1)
    emulator.fault(f"file:{tasks[MENDED].file('a b.tif').path}", Cut(at=200_000), times=1, after=1)
    emulator.fault(f"file:{tasks[MENDED].file('b.csv').path}", Status(403), times=1)
    emulator.fault(f"file:{tasks[MENDED].file('c.bin').path}", Stall(STALL))
    emulator.fault(f"file:{tasks[AGAIN].file('b.csv').path}", Status(403), times=2)  # the link and a fresh one
    emulator.fault(f"file:{tasks[FAILED].file('c.bin').path}", Status(403))
    copy_database(folder)
    out = folder / "out"
    env = {
        **os.environ,
        **server.environment(),
        **sink.settings,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(folder / "events"), "append": True}
        ),
    }
    runs = [(dag_id, {"remote_task_id": t.id, "destination": str(out / dag_id)}) for dag_id, t in tasks.items()]
    command = [sys.executable, str(DAGS.with_name("run_dags.py")), json.dumps(runs)]
    process = stack.enter_context(
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    )
    stack.callback(process.kill)  # if it hangs, or the other fails
    return server, tasks, out, time.monotonic(), process


def _end(
    sink: Sink,
    secrets: set[str],
    server: EmulatorServer,
    tasks: dict[str, Task],
    out: Path,
    began: float,
    process: subprocess.Popen[str],
) -> World:
    output, _ = process.communicate(timeout=540)
    seconds = time.monotonic() - began
    assert process.returncode == 0, output[-3000:]
    assert 'STATES ["success", "success", "failed"]' in output, output[-3000:]
    lines = (out.parent / "events").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    wanted = secrets | {TOKEN}
    return World(server.base_url, server.emulator, tasks, out, seconds, sink, sink.received(), events, wanted)


@pytest.fixture(params=["statsd", "opentelemetry"])
def world(request: pytest.FixtureRequest, worlds: dict[str, World]) -> World:
    return worlds[request.param]


def test_a_transfer_that_mends_what_breaks_is_one_transfer(world: World) -> None:
    assert world.metrics(MENDED) == {
        "bytes": ("c", 300_007),
        "files_fetched": ("c", 3),
        "retries": ("c", 2),
        "renewals": ("c", 1),
        "duration": ("ms", 1),
    }


def test_each_try_tells_what_it_did_itself(world: World) -> None:
    assert world.metrics(AGAIN) == {
        "bytes": ("c", 300_007),
        "files_fetched": ("c", 3),
        "files_failed": ("c", 1),
        "files_skipped": ("c", 2),
        "renewals": ("c", 1),
        "duration": ("ms", 2),
    }


def test_a_transfer_that_fails_tells_what_arrived(world: World) -> None:
    assert world.metrics(FAILED) == {
        "bytes": ("c", 300_004),
        "files_fetched": ("c", 2),
        "files_failed": ("c", 2),
        "files_skipped": ("c", 2),
        "renewals": ("c", 2),
        "duration": ("ms", 2),
    }


def test_the_bytes_are_those_that_the_host_gave(world: World) -> None:
    given = sum(seen.sent for seen in world.emulator.seen("file") if seen.status in (200, 206))
    counted = sum(s.sum for (name, _), s in world.received.items() if name == "airflow.taskdl.bytes")
    assert counted == given == 900_018


def test_the_time_is_the_transfers(world: World) -> None:
    assert world.duration(MENDED).sum >= STALL * 1000
    times = [world.duration(dag_id).sum for dag_id in (MENDED, AGAIN, FAILED)]
    assert min(times) > 0
    assert sum(times) < world.seconds * 1000


def test_each_request_to_the_service_is_counted_by_its_outcome(world: World) -> None:
    counted = {tags: s for (name, tags), s in world.received.items() if name == "airflow.taskdl.requests"}
    assert {s.type for s in counted.values()} == {"c"}
    assert {dict(tags)["conn_id"] for tags in counted} == {CONN_ID}
    words = {200: "ok", 503: "ServiceUnavailableError"}
    asked = Counter(words[seen.status] for seen in world.emulator.seen("eo.*"))
    assert {dict(tags)["outcome"]: s.sum for tags, s in counted.items()} == asked
    assert asked["ServiceUnavailableError"] == 1


def test_the_documented_metrics_are_those_that_are_sent(world: World) -> None:
    page = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(taskdl\.\w+)` \| (counter|timer) ", page, re.MULTILINE)
    words = {"c": "counter", "ms": "timer"}
    sent = {
        (name.removeprefix("airflow."), words[s.type]) for (name, _), s in world.received.items() if "taskdl" in name
    }
    assert sent == set(documented)
    assert len(documented) == 8


def _datasets(event: dict[str, Any], side: str) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in event[side]]


def _outputs(world: World, dag_id: str, *names: str) -> list[tuple[str, str]]:
    return [("file", f"{world.out}/{dag_id}/{name}") for name in names]


def test_lineage_leads_from_the_remote_task_to_its_files(world: World) -> None:
    *started, complete = world.lineage(MENDED)
    assert {event["eventType"] for event in started} == {"START"}
    assert complete["eventType"] == "COMPLETE"
    assert _datasets(complete, "inputs") == [(world.base_url, world.tasks[MENDED].id)]
    assert _datasets(complete, "outputs") == _outputs(world, MENDED, *FILES)
    for output, file in zip(complete["outputs"], world.tasks[MENDED].files, strict=True):
        assert output["outputFacets"]["outputStatistics"]["size"] == file.content.size
        assert output["facets"]["version"]["datasetVersion"] == file.content.sha256


def test_lineage_of_a_failed_try_names_what_is_there(world: World) -> None:
    events = world.lineage(AGAIN)
    assert [event["eventType"] for event in events] == ["START", "FAIL", "START", "COMPLETE"]
    _, failed, _, complete = events
    for event in (failed, complete):
        assert _datasets(event, "inputs") == [(world.base_url, world.tasks[AGAIN].id)]
    assert _datasets(failed, "outputs") == _outputs(world, AGAIN, "a b.tif", "c.bin")
    assert _datasets(complete, "outputs") == _outputs(world, AGAIN, *FILES)


def test_lineage_of_a_failed_run_names_only_what_is_complete(world: World) -> None:
    events = world.lineage(FAILED)
    assert [event["eventType"] for event in events] == ["START", "FAIL", "START", "FAIL"]
    for event in (events[1], events[3]):
        assert _datasets(event, "outputs") == _outputs(world, FAILED, "a b.tif", "b.csv")


def test_no_secret_leaves_with_metrics_or_lineage(world: World) -> None:
    for task in world.tasks.values():
        for file in task.files:
            link = f"taskId={task.id}&fileName={quote(file.name, safe='')}"
            assert any(link in secret for secret in world.secrets), f"no link to {file.name} was recorded"
    assert_canary_free(b"".join(world.sink.raw).decode("latin-1"), world.out.parent / "events", secrets=world.secrets)
