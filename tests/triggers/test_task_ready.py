"""The watcher tells of each task once: over restarts, sudden ends, bad weather, and whatever its memory holds."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.testing import Status, Task
from airflow_provider_taskdl.testing.faults import Body
from airflow_provider_taskdl.triggers import watches
from airflow_provider_taskdl.triggers.task_ready import TaskReadyTrigger
from tests.airflow_versions import AIRFLOW, before, since
from tests.canary import assert_canary_free, recorded_links
from tests.triggers.watching import BEGAN, SYNC_SECONDS, World
from tests.virtual_time import VirtualLoop, run_virtually

newer = since(3, 3, "no place to remember what was announced")
NEVER = 1e9
INTERVAL = 30.0


def simulate(monkeypatch: pytest.MonkeyPatch, main: Callable[[World], Awaitable[Any]]) -> Any:
    """Run ``main`` in a world of its own."""

    async def run(loop: VirtualLoop) -> Any:
        return await main(World(loop, monkeypatch))

    return run_virtually(run)


def all_of(group: str | None = None, **settings: Any) -> TaskReadyTrigger:
    return TaskReadyTrigger(**{"conn_id": "bls", "group": group, "poll_interval": INTERVAL, **settings})


def named(*ids: str, **settings: Any) -> TaskReadyTrigger:
    return TaskReadyTrigger(**{"conn_id": "eo", "remote_task_id": list(ids), "poll_interval": INTERVAL, **settings})


@pytest.fixture(autouse=True)
def watched_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, "airflow_provider_taskdl")
    logging.getLogger("httpx").disabled = True
    yield
    logging.getLogger("httpx").disabled = False


def trouble_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@before(3, 3, "it can remember")
def test_an_airflow_that_cannot_remember_is_told_of_in_the_dag() -> None:
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"needs Airflow 3\.3"):
        TaskReadyTrigger(conn_id="bls")


@newer
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": "60"}, "poll_interval"),
        ({"poll_interval": float("nan")}, "poll_interval"),
        ({"remote_task_id": "a b"}, "is not a task id"),
        ({"remote_task_id": []}, "names no task"),
        ({"remote_task_id": "1", "group": "p"}, "for all tasks"),
        ({"remote_task_id": "1", "since": "2025-01-01"}, "for all tasks"),
        ({"since": "yesterday"}, "ISO 8601"),
    ],
)
def test_a_wrong_parameter_is_told_of_in_the_dag(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConnectionConfigError, match=said):
        TaskReadyTrigger(conn_id="bls", **settings)


@newer
def test_airflow_recognises_a_trigger_that_went_through_its_database() -> None:
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import BaseEventTrigger

    for trigger in (all_of("p", since="2025-01-01", name_prefix="a"), named("1", "2"), TaskReadyTrigger(conn_id="c")):
        path, kwargs = trigger.serialize()
        stored = Trigger.from_object(trigger)
        assert stored.kwargs == kwargs
        assert BaseEventTrigger.hash(path, stored.kwargs) == BaseEventTrigger.hash(path, kwargs)
        assert TaskReadyTrigger(**stored.kwargs).serialize() == (path, kwargs)


@newer
def test_each_task_that_is_made_and_ends_well_is_told_of_once_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        emulator, began = world.emulator, world.loop.time()
        emulator.bls_task(b"old", ready_after=0.0)
        late = emulator.bls_task(b"old", ready_after=3 * INTERVAL)
        await asyncio.sleep(5)
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(5)
        now_and_later = [
            emulator.bls_task(b"12", ready_after=seconds, request={"name": f"n{seconds:g}"})
            for seconds in (0.0, 1.5 * INTERVAL, 10 * INTERVAL)
        ]
        other = emulator.bls_task(b"1", request={"project": "other"})
        failed = emulator.bls_task(b"1", ends="failed", reason="no such store")
        await world.until(began + 20 * INTERVAL)
        assert world.database.announced == Counter(task.id for task in now_and_later)
        for (moment, payload), task in zip(world.database.events, now_and_later, strict=True):
            ready = task.created + task.ready_after - BEGAN + began
            assert ready <= moment <= ready + INTERVAL + 5 + 4 * SYNC_SECONDS
            assert payload == {
                "conn_id": "bls", "remote_task_id": task.id, "group": "default", "name": task.request["name"],
                "file_count": 1, "total_size": None,
            }  # fmt: skip
        assert {late.id, other.id, failed.id}.isdisjoint(world.database.announced)
        assert emulator.count("bls.link") == 3  # no other was worth a question
        await triggerer.kill()
        assert not triggerer.failed

    simulate(monkeypatch, main)


@newer
def test_all_analyses_of_a_list_of_several_pages_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        def analysis(name: str, ready_after: float, **course: Any) -> Task:
            task = world.emulator.eo_task({"a.tif": b"12"}, ready_after=ready_after, **course)
            task.request["taskName"] = name
            return task

        for _ in range(250):
            analysis("before it began", 0.0)
        await asyncio.sleep(5)
        first = world.triggerer(all_of(conn_id="eo"))
        await asyncio.sleep(INTERVAL + 5)
        made = [analysis(f"n{number}", number % 3 * INTERVAL) for number in range(120)]
        analysis("in vain", 0.0, ends="failed")
        await asyncio.sleep(2 * INTERVAL)
        await first.kill()
        second = world.triggerer(all_of(conn_id="eo"))
        await asyncio.sleep(3 * INTERVAL)
        assert world.database.announced == Counter(task.id for task in made)
        payload = next(payload for _, payload in world.database.events if payload["remote_task_id"] == made[7].id)
        assert payload == {
            "conn_id": "eo", "remote_task_id": made[7].id, "group": None, "name": "n7", "file_count": 1,
            "total_size": 2,
        }  # fmt: skip
        await second.kill()
        assert not first.failed + second.failed

    simulate(monkeypatch, main)


@newer
def test_what_was_made_since_a_time_is_told_of_though_the_watch_began_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        before_it = world.emulator.bls_task(b"1")
        await asyncio.sleep(100)
        after_it = []
        for _ in range(8):  # more than are told of at a time
            after_it += [world.emulator.bls_task(b"1", ready_after=5.0) for _ in range(150)]
            await asyncio.sleep(200)
        at_work = [world.emulator.bls_task(b"1", ready_after=NEVER) for _ in range(3)]
        moment = datetime.fromtimestamp(BEGAN + 90, timezone.utc)
        await asyncio.sleep(1000)
        triggerer = world.triggerer(all_of(since=moment))
        await asyncio.sleep(3 * INTERVAL)
        assert len(world.database.announced) == 500 + 500 + 200
        for task in at_work:
            task.finish()
        await asyncio.sleep(2 * INTERVAL)
        assert world.database.announced == Counter(task.id for task in (*after_it, *at_work))
        assert before_it.id not in world.database.announced
        await triggerer.kill()

    simulate(monkeypatch, main)


@newer
def test_only_names_with_the_prefix_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of(name_prefix="access-"))
        await asyncio.sleep(INTERVAL)
        ours, _, _ = (world.emulator.bls_task(b"1", request={"name": name}) for name in ("access-1", "audit-1", "x"))
        await asyncio.sleep(2 * INTERVAL)
        assert world.database.announced == {ours.id: 1}
        assert [payload["name"] for _, payload in world.database.events] == ["access-1"]
        await triggerer.kill()

    simulate(monkeypatch, main)


@newer
def test_a_name_that_no_database_takes_is_told_of_in_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        world.emulator.bls_task(b"1", request={"name": "a\0b"})
        await asyncio.sleep(2 * INTERVAL)
        assert [told["name"] for _, told in world.database.events] == [r"a\x00b"]
        await triggerer.kill()

    simulate(monkeypatch, main)


@newer
def test_a_named_task_is_told_of_however_long_it_has_been_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        old = world.emulator.eo_task({"a": b"123", "b": b"4"})
        later = world.emulator.eo_task({"a": b"1"}, ready_after=4 * INTERVAL)
        failed = world.emulator.eo_task({"a": b"1"}, ends="failed")
        await asyncio.sleep(10_000)
        world.emulator.tasks["eo", later.id].started = world.emulator.now()
        for _ in range(2):
            triggerer = world.triggerer(named(old.id, later.id, failed.id, "404"))
            await asyncio.sleep(10 * INTERVAL)
            await triggerer.kill()
            assert not triggerer.failed
        assert world.database.announced == {old.id: 1, later.id: 1}
        assert world.database.events[0][1] == {
            "conn_id": "eo", "remote_task_id": old.id, "group": None, "name": None, "file_count": 2, "total_size": 4,
        }  # fmt: skip
        assert world.emulator.count("eo.link", old.id) == 1
        assert world.emulator.count("eo.status", failed.id) == 2

    simulate(monkeypatch, main)


@newer
def test_one_more_name_makes_no_other_be_told_of_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        one, two = (world.emulator.eo_task({"a": b"1"}) for _ in range(2))
        for ids, interval in (((one.id,), INTERVAL), ((two.id, one.id), INTERVAL), ((one.id,), INTERVAL / 2)):
            triggerer = world.triggerer(named(*ids, poll_interval=interval))
            await asyncio.sleep(2 * INTERVAL)
            await triggerer.kill()
        assert world.database.announced == {one.id: 1, two.id: 1}

    simulate(monkeypatch, main)


@newer
@pytest.mark.parametrize("watch", ["named", "listed"])
def test_a_sudden_end_at_any_moment_loses_nothing_and_doubles_only_within_a_second(
    monkeypatch: pytest.MonkeyPatch, watch: str
) -> None:
    def announced(kill_at: float, phase: float) -> tuple[int, float]:
        async def main(world: World) -> tuple[int, float]:
            task = world.emulator.eo_task({"a": b"1"}, ready_after=10.0) if watch == "named" else None

            def make() -> TaskReadyTrigger:
                return named(task.id, poll_interval=5.0) if task else all_of(poll_interval=5.0)

            began = world.loop.time()
            triggerer = world.triggerer(make(), phase=phase)
            await asyncio.sleep(8.0)
            id_ = task.id if task else world.emulator.bls_task(b"1", ready_after=2.0).id
            await world.until(began + kill_at)
            written = [moment for moment, _ in world.database.events]
            await triggerer.kill()
            since_written = world.loop.time() - written[0] if written else -1.0
            await asyncio.sleep(2.0)
            triggerer = world.triggerer(make())
            await asyncio.sleep(60.0)
            await triggerer.kill()
            assert set(world.database.announced) == {id_}, kill_at
            return world.database.announced[id_], since_written

        return simulate(monkeypatch, main)  # type: ignore[no-any-return]

    outcomes = [announced(8.5 + 0.2 * step, phase) for phase in (0.0, 0.45) for step in range(45)]
    assert {count for count, _ in outcomes} <= {1, 2}
    doubled = [age for count, age in outcomes if count == 2]
    assert all(0 <= age <= SYNC_SECONDS + 0.2 for age in doubled), doubled
    assert len([age for count, age in outcomes if count == 1 and age > 0]) > 20
    assert [count for count, age in outcomes if age < 0 and count != 1] == []


@newer
def test_an_end_that_comes_while_the_database_is_away_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        world.database.is_away = True
        task = world.emulator.bls_task(b"1")
        await asyncio.sleep(10 * INTERVAL)
        await triggerer.kill()
        assert not triggerer.failed
        world.database.is_away = False
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(3 * INTERVAL)
        assert world.database.announced[task.id] >= 1
        count = world.database.announced[task.id]
        await triggerer.kill()
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(3 * INTERVAL)
        assert world.database.announced[task.id] == count
        await triggerer.kill()

    simulate(monkeypatch, main)


@newer
def test_two_triggerers_that_watch_at_once_tell_of_a_task_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        first = world.triggerer(all_of(), named("5"))
        await asyncio.sleep(INTERVAL)
        second = world.triggerer(all_of(poll_interval=2.5 * INTERVAL), named("5", poll_interval=2.5 * INTERVAL))
        await asyncio.sleep(3 * INTERVAL)
        tasks = []
        for _ in range(20):
            tasks.append(world.emulator.bls_task(b"1").id)
            await asyncio.sleep(INTERVAL)
        tasks.append(world.emulator.eo_task({"a": b"1"}, id="5").id)
        await asyncio.sleep(6 * INTERVAL)
        assert set(world.database.announced) == set(tasks)
        # Not both at the same moment, or nobody could tell.
        assert sum(world.database.announced.values()) <= len(tasks) + 2
        for triggerer in (first, second):
            await triggerer.kill()
            assert not triggerer.failed

    simulate(monkeypatch, main)


@newer
def test_fifty_watchers_of_a_connection_ask_as_often_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        prefixes = [f"store-{number}-" for number in range(50)]
        triggerer = world.triggerer(*(all_of(name_prefix=prefix) for prefix in prefixes))
        await asyncio.sleep(INTERVAL)
        world.emulator.requests.clear()
        tasks = [world.emulator.bls_task(b"1", request={"name": f"{prefix}1"}) for prefix in prefixes]
        await asyncio.sleep(10 * INTERVAL)
        assert world.database.announced == Counter(task.id for task in tasks)
        assert 9 <= world.emulator.count("bls.list") <= 11
        assert world.emulator.count("bls.link") == 50
        assert world.emulator.count("bls.status") == 0
        assert world.hooks_made <= 10 * INTERVAL / 60 + 2  # one that all share, looked at again each minute
        assert len([task for task in asyncio.all_tasks() if "shared-stream-poll" in task.get_name()]) == 1
        await triggerer.kill()
        assert not triggerer.failed

    simulate(monkeypatch, main)


@newer
def test_bad_weather_and_refused_credentials_are_waited_out_and_told_of_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        for trouble in (Status(503), Status(401), Status(429, retry_after="5"), Body()):
            world.emulator.requests.clear()
            world.emulator.fault("bls.*", trouble)
            task = world.emulator.bls_task(b"1")
            await asyncio.sleep(3700)
            assert task.id not in world.database.announced
            assert 10 <= world.emulator.count() <= 3700 / INTERVAL + 1
            world.emulator.clear_faults()
            await asyncio.sleep(600 + 2 * INTERVAL)
            assert world.database.announced[task.id] == 1
        assert not triggerer.failed
        await triggerer.kill()

    simulate(monkeypatch, main)
    said = trouble_in(caplog)
    assert 4 <= len(said) <= 4 * 3, [record.getMessage() for record in said]
    assert any("refused the credentials" in record.getMessage() and record.levelname == "ERROR" for record in said)


@newer
@pytest.mark.parametrize("endpoints", ["bls.*", "bls.link*"])
def test_trouble_that_comes_and_goes_is_told_of_once_an_hour(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, endpoints: str
) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        for _ in range(20):
            world.emulator.bls_task(b"1")
            world.emulator.fault(endpoints, Status(503))
            await asyncio.sleep(300)
            world.emulator.clear_faults()
            await asyncio.sleep(600)
        assert len(world.database.announced) == 20
        await triggerer.kill()

    simulate(monkeypatch, main)
    assert len(trouble_in(caplog)) == 5


@newer
@pytest.mark.parametrize(
    "trouble", [Status(503), Status(403), Body(status=404), Body()], ids=["503", "403", "404", "page"]
)
@pytest.mark.parametrize("watch", ["named", "listed"])
def test_trouble_with_tasks_alone_is_asked_after_more_slowly_and_told_of_once_an_hour(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Any, watch: str
) -> None:
    async def main(world: World) -> None:
        emulator = world.emulator
        if watch == "named":
            ids = [emulator.eo_task({"a": b"1"}).id for _ in range(3)]
            emulator.fault("eo.*", trouble)
            triggerer = world.triggerer(named(*ids))
        else:
            triggerer = world.triggerer(all_of())
            await asyncio.sleep(INTERVAL)
            ids = [emulator.bls_task(b"1").id for _ in range(3)]
            emulator.fault("bls.link*", trouble)
        await asyncio.sleep(3 * 3600)
        asked = emulator.count() - emulator.count("bls.list")
        assert 3 * 3 * 3600 / 300 <= asked <= 3 * 3 * 3600 / 100
        assert not world.database.announced
        for record in trouble_in(caplog):
            assert "; the same with 2 more: " in record.getMessage()
            assert all(id_ in record.getMessage() for id_ in ids)
        assert len(trouble_in(caplog)) == 3
        emulator.clear_faults()
        await asyncio.sleep(300 + 2 * INTERVAL)
        assert world.database.announced == Counter(ids)
        await triggerer.kill()
        assert not triggerer.failed

    simulate(monkeypatch, main)


@newer
@pytest.mark.parametrize("refusal", [400, 401, 403])
@pytest.mark.parametrize("watch", ["named", "listed"])
def test_one_task_that_is_refused_keeps_no_other_from_being_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal: int, watch: str
) -> None:
    async def main(world: World) -> None:
        if watch == "named":
            bad, good = (world.emulator.eo_task({"a": b"1"}) for _ in range(2))
            triggerer = world.triggerer(named(bad.id, good.id))
        else:
            triggerer = world.triggerer(all_of())
            await asyncio.sleep(INTERVAL)
            bad, good = world.emulator.bls_task(b"1"), world.emulator.bls_task(b"1")
        world.emulator.fault(f"*.link:{bad.id}", Status(refusal))
        await asyncio.sleep(2 * INTERVAL)
        assert world.database.announced == {good.id: 1}
        await asyncio.sleep(20 * INTERVAL)
        world.emulator.clear_faults()
        await asyncio.sleep(300 + 2 * INTERVAL)
        assert world.database.announced == {good.id: 1, bad.id: 1}
        await triggerer.kill()
        (said,) = trouble_in(caplog)
        assert (said.levelname, bad.id in said.getMessage()) == ("ERROR", True)

    simulate(monkeypatch, main)


@newer
def test_many_refused_tasks_are_one_line_and_keep_no_later_one_from_being_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        for _ in range(30):
            world.emulator.fault(f"bls.link:{world.emulator.bls_task(b'1').id}", Status(403))
        await asyncio.sleep(3 * INTERVAL)
        good = world.emulator.bls_task(b"1")
        await asyncio.sleep(5 * INTERVAL)
        assert world.database.announced == {good.id: 1}
        await asyncio.sleep(3600)
        await triggerer.kill()
        first, second = (record.getMessage() for record in trouble_in(caplog))
        assert "; the same with 19 more: " in first
        assert "; the same with 29 more: " in second
        assert second.count(", ") < 10  # some are named, and not all

    monkeypatch.setattr(watches, "_MOST_AT_A_TIME", 20)
    simulate(monkeypatch, main)


@newer
@pytest.mark.parametrize("end", ["deleted", "failed", "at work again"])
def test_nothing_more_is_told_of_the_trouble_of_a_task_that_is_not_looked_at_any_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        task = world.emulator.bls_task(b"1")
        world.emulator.fault("bls.link*", Status(503))
        await asyncio.sleep(3000)
        match end:
            case "deleted":
                del world.emulator.tasks["bls", task.id]
            case "failed":
                task.ends = "failed"
            case _:
                task.ready_after = NEVER
        await asyncio.sleep(3 * 3600)
        await triggerer.kill()

    simulate(monkeypatch, main)
    assert len(trouble_in(caplog)) == 1


@newer
def test_of_the_tasks_in_the_same_trouble_that_one_leads_which_was_not_told_of_yet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        one, two = (world.emulator.eo_task({"a": b"1"}, ready_after=seconds) for seconds in (0.0, 1000.0))
        world.emulator.fault("eo.link*", Status(403))
        triggerer = world.triggerer(named(one.id, two.id))
        await asyncio.sleep(3600 + 300 + 2 * INTERVAL)
        await triggerer.kill()
        first, second = (record.getMessage() for record in trouble_in(caplog))
        assert one.id in first
        assert two.id not in first
        assert f"[task {two.id}, " in second
        assert f"; the same with 1 more: {one.id};" in second

    simulate(monkeypatch, main)


@newer
def test_a_name_that_the_service_does_not_know_is_told_of_and_asked_for_at_each_look(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(named("5"))
        await asyncio.sleep(3500)
        (said,) = trouble_in(caplog)
        assert "task 5" in said.getMessage()
        task = world.emulator.eo_task({"a": b"1"}, id="5")
        await asyncio.sleep(2 * INTERVAL)
        assert world.database.announced == {task.id: 1}
        await triggerer.kill()

    simulate(monkeypatch, main)


@newer
def test_what_is_listed_under_no_id_is_neither_told_of_nor_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forged = "1]\nERROR the key leaked, see https://evil.example/f?X-Amz-Signature=geheim"

    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        for state in ("success", "failed"):
            world.emulator.bls_task(b"1", id=f"{forged} {state} {'z' * 100_000}", ends=state)
        good = world.emulator.bls_task(b"1")
        await asyncio.sleep(5 * INTERVAL)
        assert world.database.announced == {good.id: 1}
        assert "evil" not in json.dumps(world.database.state)
        await triggerer.kill()

    simulate(monkeypatch, main)
    assert "evil" not in caplog.text


@newer
def test_a_task_that_takes_days_is_told_of_though_hundreds_came_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(world: World) -> None:
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(INTERVAL)
        slow = world.emulator.bls_task(b"1", ready_after=NEVER)
        await asyncio.sleep(2 * INTERVAL)
        for _ in range(7):
            for _ in range(100):
                world.emulator.bls_task(b"1")
            await asyncio.sleep(800.0)
        world.emulator.requests.clear()
        await asyncio.sleep(10 * INTERVAL)
        assert world.emulator.count("bls.list") <= 22  # not all of its pages, for the sake of one old task
        assert world.emulator.count("bls.status", slow.id) >= 9
        size = max(len(json.dumps(value)) for value in world.database.state.values())
        assert size < 65_536
        await triggerer.kill()
        slow.finish()
        triggerer = world.triggerer(all_of())
        await asyncio.sleep(2 * INTERVAL)
        assert world.database.announced[slow.id] == 1
        assert len(world.database.announced) == 701
        assert set(world.database.announced.values()) == {1}
        await triggerer.kill()

    simulate(monkeypatch, main)


@newer
@pytest.mark.parametrize(
    "stored", [{"version": 2}, {}, [], "x", 0, {"version": 1, "floor": "x"}, {"version": 1, "announced": False}]
)
@pytest.mark.parametrize("watch", ["named", "listed"])
def test_a_memory_that_cannot_be_read_is_told_of_and_nothing_is_announced_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stored: Any, watch: str
) -> None:
    async def main(world: World) -> None:
        task = world.emulator.eo_task({"a": b"1"}) if watch == "named" else None

        def make() -> TaskReadyTrigger:
            return named(task.id) if task else all_of(since="2023-01-01")

        triggerer = world.triggerer(make())
        await asyncio.sleep(INTERVAL)
        await triggerer.kill()
        (key,) = world.database.state
        world.database.events.clear()
        world.database.state[key] = stored
        triggerer = world.triggerer(make())
        world.emulator.bls_task(b"1")
        await asyncio.sleep(40 * INTERVAL)
        assert world.database.announced == {}
        assert world.database.state == {key: stored}
        del world.database.state[key]
        await asyncio.sleep(20 * INTERVAL)
        assert set(world.database.announced.values()) == {1}
        await triggerer.kill()
        assert not triggerer.failed
        (said,) = [record for record in caplog.records if "cannot be read" in record.getMessage()]
        assert key in said.getMessage()

    simulate(monkeypatch, main)


@newer
def test_two_assets_with_the_very_same_watcher_are_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    async def main(world: World) -> None:
        trigger = all_of()
        triggerer = world.triggerer(trigger)
        trigger.asset_state_store = AssetStateStoreAccessors(inlets=[Asset("a"), Asset("b")])
        world.emulator.bls_task(b"1")
        await asyncio.sleep(3 * INTERVAL)
        assert not world.database.events
        await triggerer.kill()

    simulate(monkeypatch, main)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "two assets have the very same watcher" in said


@newer
def test_without_an_asset_nothing_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        trigger = all_of(since="2023-01-01")
        triggerer = world.triggerer(trigger)
        trigger.asset_state_store = None
        world.emulator.bls_task(b"1")
        await asyncio.sleep(3 * INTERVAL)
        assert not world.database.events
        await triggerer.kill()

    simulate(monkeypatch, main)
    assert "use an AssetWatcher" in caplog.text


@newer
def test_no_link_gets_into_events_state_or_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main(world: World) -> None:
        task = world.emulator.eo_task({"a": b"123"})
        triggerer = world.triggerer(all_of(since="2023-01-01"), named(task.id))
        world.emulator.bls_task(b"1")
        await asyncio.sleep(3 * INTERVAL)
        assert len(world.database.events) == 2
        await triggerer.kill()
        secrets.update({world.emulator.secret_access_key, world.emulator.token})
        assert_canary_free(world.database.events, world.database.state, caplog.records, secrets=secrets)

    with recorded_links() as secrets:
        simulate(monkeypatch, main)
    assert len(secrets) > 2


@newer
def test_a_service_that_cannot_list_its_tasks_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: World) -> None:
        monkeypatch.setattr("airflow_provider_taskdl.apis.eo_analysis.EoAnalysisApi.list_tasks", lambda *_, **__: None)
        triggerer = world.triggerer(all_of(conn_id="eo"))
        await asyncio.sleep(3 * INTERVAL)
        await triggerer.kill()

    simulate(monkeypatch, main)
    assert "cannot list its tasks" in caplog.text


@newer
def test_it_is_not_for_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AIRFLOW >= (3, 3)

    async def main(world: World) -> None:
        with pytest.raises(NotImplementedError, match="DownloadLinkSensor"):
            await anext(all_of().run())

    simulate(monkeypatch, main)
