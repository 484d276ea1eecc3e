"""One list call in place of a hundred looks: what a service's lists of tasks say, shared by all who wait on a hook.

Who waits has a :class:`Place` and sleeps there until it has to look. A list can do two things to it: put the look off,
if it says that the task waits or runs, and wake the sleeper, if it says anything else. What comes of a look is decided
there alone, so a list that is missing, slow or wrong costs requests and no more. :class:`RollCall` decides when a list
is worth its calls; the numbers are argued in ``docs/design.md``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace

from airflow_provider_taskdl.exceptions import (
    PausedError,
    ServiceUnavailableError,
    TaskDownloadError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.place import Place, runs
from airflow_provider_taskdl.listing import TaskPage, TaskState

log = logging.getLogger(__name__)

# A list is asked for before what is known of a task is older than this share of its interval. The rest is for looks of
# their own of those whom the list does not name, which need not all come at the same moment then.
_ROUND, _TOO_OLD = 0.75, 0.9
# Whether it is time for that is looked at so often in the shortest interval.
_TICKS, _SHORTEST_TICK = 8, 0.05
# For fewer tasks a list is no better than a look for each. Of new ones it takes more, since more may be coming.
_FEWEST, _FEWEST_NEW = 3, 20
# A page that names fewer of the tasks that are sought was in vain. For so many who are sought one such page is granted.
_PAYS, _GRANT = 5, 40
# Seconds until a page that could not be had is asked for again, once.
_ONCE_MORE = 1.0
# How long a list is left alone at most: if it is of no use, and for each time that it said what was not so.
_LONGEST_REST, _LIAR_S_REST = 3600.0, 6 * 3600.0
# Who has news looks for itself at once, but so many seconds after the one before, and within this share of an interval.
_APART, _MOST_APART = 0.02, 0.1


@dataclass
class _List:
    """What was experienced with one of the service's lists."""

    failures: int = 0
    lies: int = 0
    rests_until: float = 0.0


class _UselessError(Exception):
    """A list is not to be had, or says nothing of those who wait."""


class _LieError(Exception):
    """A list says what is known not to be so."""


class RollCall:
    """The list calls of all who wait on one event loop for tasks of one connection.

    :param hook: Gives the connection's hook for one call.
    """

    def __init__(self, hook: Callable[[], AbstractAsyncContextManager[TaskApiHook]]) -> None:
        self._hook = hook
        self._places: dict[str, list[Place]] = defaultdict(list)
        self._lists: dict[str | None, _List] = defaultdict(_List)
        # Tasks that were over while a list said that they run: from when to when that makes the list wrong.
        self._over: dict[str, tuple[float, float]] = {}
        self._said: set[str] = set()
        self._rounds: asyncio.Task[None] | None = None

    @contextmanager
    def place(self, remote_task_id: str, interval: float) -> Iterator[Place]:
        """Give a place to one who waits.

        :param remote_task_id: For which task.
        :param interval: Seconds between two looks.
        """
        place = Place(remote_task_id, interval)
        self._places[remote_task_id].append(place)
        if self._rounds is None and len(self._places) >= _FEWEST:
            # In nobody's name: it goes on without the one who happens to begin it, and its log is not that one's.
            self._rounds = contextvars.Context().run(asyncio.create_task, self._keep_calling())
        try:
            yield place
        except (TaskFailedError, TaskNotFoundError):
            place.is_over = True
            raise
        finally:
            self._places[remote_task_id].remove(place)
            if not self._places[remote_task_id]:
                del self._places[remote_task_id]
            if place.is_over and place.is_listed:
                now = asyncio.get_running_loop().time()
                # Not at once: a list may learn of it a moment later.
                self._over[remote_task_id] = now + interval / 4, now + 2 * interval

    async def aclose(self) -> None:
        """End the calls."""
        rounds, self._rounds = self._rounds, None
        if rounds is not None:
            rounds.cancel()
            await asyncio.wait([rounds])

    async def _keep_calling(self) -> None:
        while len(self._places) >= _FEWEST:
            shortest = min(place.interval for places in self._places.values() for place in places)
            tick = max(shortest / _TICKS, _SHORTEST_TICK)
            await asyncio.sleep(tick)
            await self._round(tick)
        self._rounds = None  # who comes next begins them anew

    async def _round(self, tick: float) -> None:
        loop = asyncio.get_running_loop()
        self._over = {task: times for task, times in self._over.items() if times[1] > loop.time()}
        lists: dict[str | None, list[Place]] = defaultdict(list)
        for places in self._places.values():
            for place in places:
                if place.can_be_listed:
                    lists[place.group].append(place)
        for group, places in sorted(lists.items(), key=lambda item: -len(item[1])):
            now = loop.time()
            if self._lists[group].rests_until > now:
                continue
            if sum(place.age(now) + tick / 2 > _ROUND * place.interval for place in places) >= _FEWEST:
                # Also those for whom the next time would be too late.
                soon = _ROUND * min(place.interval for place in places)
                sought = [p for p in places if p.is_new or p.age(now) + soon > _TOO_OLD * p.interval]
                await self._call(group, places, sought)
            elif sum(place.is_new for place in places) >= _FEWEST_NEW:
                await self._call(group, places, [place for place in places if place.is_new])

    async def _call(self, group: str | None, places: list[Place], sought: list[Place]) -> None:
        """Ask for a list, and let those look for themselves who were sought and of whom it says nothing."""
        loop, known, is_lying = asyncio.get_running_loop(), self._lists[group], False
        began = loop.time()
        try:
            await self._read(group, {place.remote_task_id for place in sought})
            known.failures = 0
        except PausedError as error:
            known.rests_until = loop.time() + (error.retry_after or 0.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits can do without
            is_lying = isinstance(error, _LieError)
            known.lies += is_lying
            known.failures += 1
            rest = min(place.interval for place in places) * 2.0 ** min(known.failures, 32)
            known.rests_until = loop.time() + (_LIAR_S_REST * known.lies if is_lying else min(rest, _LONGEST_REST))
            self._say_once(error)
        now = loop.time()
        for place in places if is_lying else sought:
            if is_lying or place.age(now) > now - began:
                place.go_alone(now)

    async def _read(self, group: str | None, sought: set[str]) -> None:
        """Read a list's pages until all who are sought were named, or it is not worth another page.

        :raises TaskApiError: As for any call.
        :raises _UselessError: It saves less than it costs.
        :raises _LieError: It is not to be believed.
        """
        number, saved, granted = 0, 0, max(1, len(sought) // _GRANT)
        named: set[str] = set()
        while granted and len(sought) >= (_PAYS if number else 1):
            number += 1
            page, asked_at = await self._page(number, group)
            states = _states(page, group, but=named)
            named |= states.keys()
            saved += self._tell(states, asked_at)
            if len(sought & states.keys()) < _PAYS:
                granted -= 1
            sought -= named
            if page.is_last or not page.tasks:
                break
        if saved < number:
            raise _UselessError(f"it told of {saved} tasks that are waited for in {number} requests")

    async def _page(self, number: int, group: str | None) -> tuple[TaskPage, float]:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()

        def in_turn() -> None:  # others may have come first, for minutes
            nonlocal asked_at
            asked_at = loop.time()

        async with self._hook() as hook:
            call = hook.api.list_tasks(number, group=group) if hook.access.extras.check_status else None
            if call is None:
                raise _UselessError
            call = replace(call, is_hint=True)  # its 503 speaks for nobody else
            try:
                page = await hook.arun(call, in_turn)
            except ServiceUnavailableError as error:
                if error.retry_after is not None:
                    raise
                await asyncio.sleep(_ONCE_MORE)  # or one broken connection would cost a look for each
                page = await hook.arun(call, in_turn)
        return page, asked_at

    def _tell(self, states: dict[str, TaskState], asked_at: float) -> int:
        """Tell those who wait what a page says, and return to how many that was of use."""
        now, use, news = asyncio.get_running_loop().time(), 0, 0
        for task, state in states.items():
            if runs(state) and task in self._over and self._over[task][0] <= asked_at:
                del self._over[task]
                raise _LieError(f"it says that task {task} is {state}, which is over")
        for task, state in states.items():
            for place in self._places.get(task, ()):
                apart = min(news * _APART, place.interval * _MOST_APART)
                is_of_use = place.hear(state, asked_at, now, apart)
                use += is_of_use
                news += is_of_use and not runs(state)
        return use

    def _say_once(self, error: Exception) -> None:
        is_ours = isinstance(error, TaskDownloadError | _UselessError | _LieError)
        kind = type(error).__name__
        text = str(error) if is_ours else kind  # what others say may hold anything
        if text and kind not in self._said:
            self._said.add(kind)
            log.info("The service's list of tasks is of no use, each task is asked for by itself: %s", text)


def _states(page: TaskPage, group: str | None, *, but: set[str]) -> dict[str, TaskState]:
    """Return what a page says of its tasks, as far as that can be made use of.

    :param page: The page.
    :param group: Whose list it is to be.
    :param but: Tasks that were named before.
    """
    states: dict[str, TaskState] = {}
    for task in page.tasks:
        name, state = task.remote_task_id, task.status.state
        is_of_group = group is None or task.group is None or task.group == group
        is_twice = name in states and not runs(states[name])  # of two, the one that is news
        if is_of_group and state is not TaskState.UNKNOWN and name not in but and not is_twice:
            states[name] = state
    return states
