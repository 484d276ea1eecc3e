"""A triggerer that dies takes no wait with it, and prolongs none."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.deployment.living import Deployment, Run, guests, until

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(1500)]

COUNT = 100
SLOW = 400.0  # seconds in which a small machine starts so many tasks
NEVER = 1e6
LIMIT = 45.0  # of the sensor that does not wait for ever; see its DAG


def states(run: Run) -> Counter[str]:
    """Return how many of the sensors are in which state."""
    return Counter(task["state"] for task in run.tasks("wait"))


def test_waits_outlive_the_triggerer_and_their_deadlines_do_not_move(
    deployment: Deployment, emulated: EmulatorServer, emulator: Emulator
) -> None:
    tasks = [emulator.eo_task({f"{number}.bin": b"abc"}, ready_after=NEVER) for number in range(COUNT)]
    never = emulator.eo_task({"a.bin": b"abc"}, ready_after=NEVER)
    waiting = deployment.run("waiting", remote_task_ids=[task.id for task in tasks])
    until(lambda: states(waiting) == {"deferred": COUNT}, "the waiting of all sensors", SLOW)
    limited = deployment.run("waiting_not_for_ever", remote_task_id=never.id)
    until(lambda: states(limited) == {"deferred": 1}, "the waiting of the last sensor")
    ids = [task.id for task in (*tasks, never)]
    # Not at each task: they share a list, and who is listed as running is not asked for.
    until(lambda: emulator.count("eo.list") > 1, "the triggerer's questions for the list")

    deployment.airflow.kill("triggerer")
    until(lambda: not guests(emulated), "the end of the triggerer's connections")
    assert states(waiting) == {"deferred": COUNT}
    emulator.requests.clear()
    for task in tasks:
        task.ready_after = 0.0
    began = datetime.fromisoformat(limited.task("wait")["start_date"]).timestamp()
    until(lambda: time.time() > began + LIMIT, "the deadline")
    assert emulator.count() == 0
    deployment.airflow.start("triggerer")

    assert waiting.ends(SLOW) == "success"
    assert limited.ends() == "failed"
    # One look each: at what is there now, and at what was not there in time.
    assert Counter(seen.names for seen in emulator.seen("eo.status")) == Counter((task_id,) for task_id in ids)
    assert Counter(seen.names for seen in emulator.seen("eo.link")) == Counter((task.id,) for task in tasks)
    assert {task["try_number"] for task in (*waiting.tasks("wait"), *limited.tasks("wait"))} == {1}
    found = [waiting.xcom("wait", number) for number in range(COUNT)]
    assert [one["remote_task_id"] for one in found] == [task.id for task in tasks]
    assert [one["file_names"] for one in found] == [[f"{number}.bin"] for number in range(COUNT)]
