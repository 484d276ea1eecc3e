"""A service that is in trouble is asked no more often than one that is well, however long a sensor waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from airflow_provider_taskdl.apis.readiness import LinkWatch
from airflow_provider_taskdl.exceptions import AuthenticationError, TaskApiError
from airflow_provider_taskdl.hooks.base import task_hook
from airflow_provider_taskdl.hooks.pace import forget_paces
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor
from airflow_provider_taskdl.testing import Body, Emulator, EmulatorServer, Fault, Hide, Status
from tests.running import make_context, run
from tests.transfer.harness import empty

INTERVAL, WAIT = 30.0, 2 * 3600.0
# After so many useless answers the state is not asked for any more; until then a look may cost two requests.
MAX_REFUSALS = 3
OTHER_KEY = "99999999-9999-9999-9999-999999999999"


@dataclass(frozen=True)
class Trouble:
    """A service in trouble.

    :param name: In words.
    :param fault: What is wrong.
    :param where: With which of the service's calls; a pattern.
    :param more: Requests that it may get beyond those of a service that is well.
    :param not_found: As the sensor has it.
    :param known: Whether the service knows the task.
    """

    name: str
    fault: Fault | None
    where: str = "*"
    more: int = 0
    not_found: Literal["fail", "wait"] = "fail"
    known: bool = True


TROUBLES = [
    Trouble("down", Status(503)),
    Trouble("down, come back at once", Status(503, "0")),
    Trouble("down, come back in an hour", Status(503, "3600")),
    Trouble("down, come back never", Status(503, "99999999")),
    Trouble("broken", Status(500)),
    Trouble("too many requests", Status(429)),
    Trouble("too many requests, says the past", Status(429, "Wed, 21 Oct 2015 07:28:00 GMT")),
    Trouble("a proxy's page", Body()),
    Trouble("a proxy's page as an error", Body(status=502)),
    Trouble("the state is down", Status(503), "status"),
    Trouble("the links are down", Status(503), "link"),
    Trouble("the state is refused", Status(403), "status", more=MAX_REFUSALS),
    Trouble("the state is missing", Body(status=404), "status", more=MAX_REFUSALS),
    Trouble("the state is junk", Body(), "status", more=MAX_REFUSALS),
    Trouble("the task is not there yet", None, more=MAX_REFUSALS, not_found="wait", known=False),
]


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture(params=["bls", "eo"])
def service(request: pytest.FixtureRequest, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    forget_paces()
    empty(server.emulator)
    found: str = request.param
    return found


def wait(emulator: Emulator, service: str, trouble: Trouble | None, *, anew: bool) -> int:
    """Return how many requests a wait costs; the waiting itself is only added up.

    :param anew: Each look is made by another process, as in mode ``reschedule``, which knows its counts alone.
    """
    emulator.rules.clear()
    emulator.requests.clear()
    if service == "bls":
        conn_id, task_id = "baidu_bls_default", emulator.bls_task(b"x", ready_after=1e6).id
    else:
        conn_id, task_id = "eo_analysis_default", emulator.eo_task({"a": b"x"}, ready_after=1e6).id
    if trouble and trouble.fault:
        emulator.fault(f"{service}.{trouble.where}", trouble.fault)
    if trouble and not trouble.known:
        task_id = OTHER_KEY
    hook = task_hook(conn_id)
    not_found: Literal["fail", "wait"] = trouble.not_found if trouble else "fail"
    clock, watch = 0.0, LinkWatch(hook.api, task_id, INTERVAL, not_found, max_consecutive_errors=2**31)
    try:
        while clock < WAIT:
            if anew:
                watch = replace(watch)
            forget_paces()  # what it would really wait is only added up here
            vars(hook).pop("_pace", None)
            decision = hook.run_steps(watch.look())
            assert decision.listing is None
            assert decision.wait >= INTERVAL
            clock += decision.wait
    finally:
        hook.close()
    return len(emulator.requests)


@pytest.mark.parametrize("anew", [False, True], ids=["one process", "many processes"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_trouble_costs_no_more_requests(service: str, trouble: Trouble, anew: bool, server: EmulatorServer) -> None:
    well = WAIT / INTERVAL
    assert 0 < wait(server.emulator, service, trouble, anew=anew) <= well + trouble.more


def test_a_service_that_is_well_is_asked_once_per_look(service: str, server: EmulatorServer) -> None:
    assert wait(server.emulator, service, None, anew=True) == WAIT / INTERVAL


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_end_the_wait_after_two_questions(
    service: str, status: int, server: EmulatorServer
) -> None:
    with pytest.raises(AuthenticationError):
        wait(server.emulator, service, Trouble("refused", Status(status)), anew=False)
    assert len(server.emulator.requests) <= 2


def test_the_longer_it_is_down_the_less_it_is_asked(service: str, server: EmulatorServer) -> None:
    assert wait(server.emulator, service, TROUBLES[0], anew=False) < WAIT / INTERVAL / 2
    assert wait(server.emulator, service, TROUBLES[2], anew=False) == 2


def test_a_sensor_gives_up_after_so_many_failures(service: str, server: EmulatorServer) -> None:
    hook = task_hook("baidu_bls_default" if service == "bls" else "eo_analysis_default")
    server.emulator.fault(f"{service}.*", Status(503))
    watch = LinkWatch(hook.api, OTHER_KEY, INTERVAL, max_consecutive_errors=4)
    for _ in range(4):
        assert hook.run_steps(watch.look()).listing is None
    with pytest.raises(TaskApiError):
        hook.run_steps(watch.look())
    hook.close()
    assert len(server.emulator.requests) == 5


def test_a_rescheduled_sensor_remembers_that_the_state_is_not_to_be_had(service: str, server: EmulatorServer) -> None:
    emulator = server.emulator
    if service == "bls":
        conn_id, task_id = "baidu_bls_default", emulator.bls_task(b"x").id
    else:
        conn_id, task_id = "eo_analysis_default", emulator.eo_task({"a": b"x"}).id
    emulator.fault(f"{service}.status", Body(status=404))
    emulator.fault(f"{service}.link", Hide(), times=MAX_REFUSALS + 1)
    sensor = DownloadLinkSensor(
        task_id="wait", conn_id=conn_id, remote_task_id=task_id, poke_interval=0.02, mode="reschedule", deferrable=False
    )
    assert run(sensor, make_context())["file_count"] == 1
    assert emulator.count(f"{service}.link") > MAX_REFUSALS
    assert emulator.count(f"{service}.status") == MAX_REFUSALS
