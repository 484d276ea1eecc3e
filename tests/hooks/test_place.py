from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_taskdl.hooks.place import Place
from airflow_provider_taskdl.listing import TaskState
from tests.virtual_time import VirtualLoop, run_virtually

RUNNING, WAITING, SUCCESS, FAILED = TaskState.RUNNING, TaskState.WAITING, TaskState.SUCCESS, TaskState.FAILED
Says = Callable[[Place, float], Any]


def _slept(
    *news: tuple[float, Says], seconds: float = 10.0, most: float = 1e6, interval: float = 10.0, **settings: Any
) -> Any:
    """How long one sleeps to whom all this happens, and what it is told."""
    told: list[TaskState] = []

    async def main(loop: VirtualLoop) -> float:
        place, began = Place("t", interval), loop.time()
        defaults = {"can_be_listed": True, "group": None, "tell": told.append}

        async def sleep() -> float:
            await place.sleep(seconds, most, **{**defaults, **settings})
            return loop.time() - began

        sleeping = asyncio.create_task(sleep())
        for moment, happens in news:
            await asyncio.sleep(began + moment - loop.time())
            happens(place, loop.time())
        return await sleeping

    return run_virtually(main), told


def _says(state: TaskState, *, ago: float = 0.0, apart: float = 0.0, is_of_use: bool = True) -> Says:
    def happens(place: Place, now: float) -> None:
        assert place.hear(state, now - ago, now, apart) is is_of_use

    return happens


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(3)


def test_without_a_list_one_sleeps_as_long_as_one_was_told_to() -> None:
    assert _slept() == (pytest.approx(10.0), [])
    assert _slept(most=4.0) == (pytest.approx(4.0), [])
    assert _slept(most=-4.0) == (0.0, [])
    assert _slept(seconds=0.0) == (0.0, [])


@pytest.mark.parametrize("state", [RUNNING, WAITING])
def test_a_task_that_runs_needs_no_look_for_another_interval(state: TaskState) -> None:
    slept, told = _slept((8.0, _says(state)))
    assert 18.0 <= slept <= 19.0 + 1e-6
    assert told == [state]
    slept, told = _slept((8.0, _says(state)), (17.0, _says(state, ago=0.5)))
    assert 26.5 <= slept <= 27.5 + 1e-6
    assert told == [state]


def test_a_state_that_changes_is_told_of_again() -> None:
    assert _slept((1.0, _says(WAITING)), (2.0, _says(RUNNING)), (3.0, _says(WAITING)))[1] == [WAITING, RUNNING, WAITING]


def test_the_deadline_comes_first() -> None:
    assert _slept((8.0, _says(RUNNING)), most=12.0)[0] == pytest.approx(12.0)


@pytest.mark.parametrize("state", [SUCCESS, FAILED, TaskState.EXPIRED])
def test_news_ends_the_sleep(state: TaskState) -> None:
    assert _slept((3.0, _says(state))) == (pytest.approx(3.0), [])
    assert _slept((3.0, _says(state, apart=0.5))) == (pytest.approx(3.5), [])
    assert _slept((2.0, _says(RUNNING)), (3.0, _says(state))) == (pytest.approx(3.0), [RUNNING])


def test_a_list_cannot_shorten_a_sleep_but_by_news() -> None:
    assert _slept((8.0, _says(RUNNING)), seconds=600.0)[0] == pytest.approx(600.0)


@pytest.mark.parametrize("state", [RUNNING, SUCCESS])
def test_after_an_error_a_list_has_no_say(state: TaskState) -> None:
    happens = _says(state, is_of_use=False)
    assert _slept((3.0, happens), (4.0, lambda place, now: place.go_alone(now)), can_be_listed=False)[0] == 10.0


def test_what_was_asked_for_before_the_last_look_is_not_heard() -> None:
    assert _slept((3.0, _says(SUCCESS, ago=3.5, is_of_use=False))) == (pytest.approx(10.0), [])


def test_an_answer_that_is_too_old_saves_nothing() -> None:
    late = _says(RUNNING, ago=9.0, is_of_use=False)
    assert _slept((9.5, late), interval=5.0)[0] == pytest.approx(10.0)


def test_the_same_news_is_none_a_second_time() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        place, slept = Place("t", 10.0), list[float]()
        for _ in range(3):
            began = loop.time()
            sleep = asyncio.create_task(place.sleep(10.0, 1e6, can_be_listed=True, group=None, tell=lambda state: None))
            await asyncio.sleep(4.0)
            place.hear(SUCCESS, loop.time(), loop.time())
            await sleep
            slept.append(loop.time() - began)
        return slept

    assert run_virtually(main) == pytest.approx([4.0, 10.0, 10.0])


def test_who_goes_alone_looks_within_its_interval() -> None:
    alone: Says = lambda place, now: place.go_alone(now)  # noqa: E731
    times = [_slept((2.0, _says(RUNNING)), (9.0, alone))[0] for _ in range(50)]
    assert all(9.0 <= time <= 12.0 for time in times)
    assert max(times) - min(times) > 2.0
    assert _slept((9.0, alone))[0] == 10.0  # who was not listed has its own time
    assert _slept((2.0, _says(RUNNING)), (30.0, alone), seconds=40.0)[0] == pytest.approx(30.0)


def test_a_list_is_not_believed_for_ever() -> None:
    def runs_on(place: Place, now: float) -> None:
        place.hear(RUNNING, now, now)

    times = []
    for _ in range(40):
        news: list[tuple[float, Says]] = [(5.0 + 8.0 * number, runs_on) for number in range(140)]
        times.append(_slept(*news)[0] / 10.0)
    assert all(1.0 <= time <= 100.0 for time in times)
    assert 35 <= sum(times) / 40 <= 65


def test_a_group_that_is_known_is_kept_for_those_whom_no_list_names() -> None:
    async def main(loop: VirtualLoop) -> list[str | None]:
        place, groups = Place("t", 10.0), list[str | None]()
        for group, state in ((None, RUNNING), ("p", None), ("p", None), (None, None)):
            sleep = asyncio.create_task(place.sleep(1.0, 1e6, can_be_listed=True, group=group, tell=lambda state: None))
            await asyncio.sleep(0.5)
            groups.append(place.group)
            if state is not None:
                place.hear(state, loop.time(), loop.time())
            await sleep
        return groups

    assert run_virtually(main) == [None, None, "p", "p"]


def test_who_sleeps_lets_others_run_even_without_a_pause() -> None:
    async def main(loop: VirtualLoop) -> None:
        place, turns = Place("t", 0.0), list[int]()

        async def other() -> None:
            turns.append(1)

        running = asyncio.create_task(other())
        await place.sleep(0.0, 1.0, can_be_listed=True, group=None, tell=lambda state: None)
        assert turns == [1]
        await running

    run_virtually(main)


def test_who_is_awake_is_not_spoken_to() -> None:
    place = Place("t", 10.0)
    assert not place.can_be_listed
    assert place.hear(SUCCESS, 1.0, 1.0) is False
