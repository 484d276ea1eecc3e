"""What a watcher watches: tasks that have a name, or all tasks that a service lists. Looks, and what they give."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

from airflow_provider_taskdl.exceptions import (
    MalformedResponseError,
    TaskDownloadError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import FileListing, ListedTask, TaskState
from airflow_provider_taskdl.redaction import storable
from airflow_provider_taskdl.triggers.announced import SLACK_SECONDS, Announced, created
from airflow_provider_taskdl.triggers.memory import Memory, key_of
from airflow_provider_taskdl.triggers.rounds import Service
from airflow_provider_taskdl.triggers.trouble import Looks

log = logging.getLogger(__name__)

T = TypeVar("T")

# So many tasks are told of at a time: Airflow writes down one event after the other, and does nothing else meanwhile.
_MOST_AT_A_TIME = 500
# A list that is longer than this has no end.
_MOST_PAGES = 1000
# Watchers of one interval look together; what was asked so shortly ago was asked for the same look.
_SAME_LOOK_SECONDS = 5.0
_AT_WORK = (TaskState.WAITING, TaskState.RUNNING)
_IN_VAIN = (TaskState.FAILED, TaskState.EXPIRED)


class Watch(ABC):
    """One watcher's work, without its clock.

    :param memory: Where it remembers.
    :param conn_id: The Airflow connection.
    :param interval: Seconds between two looks.
    :ivar looks: Its looks at single tasks, and their trouble: it keeps no other task from being announced.
    """

    def __init__(self, memory: Memory, conn_id: str, interval: float) -> None:
        self.looks = Looks(interval)
        self._memory = memory
        self._conn_id = conn_id
        self._interval = interval

    @abstractmethod
    async def look(self, service: Service) -> list[dict[str, Any]]:
        """Look once, and return what is to be announced, one payload for each task.

        :param service: What to look through.
        :raises TaskDownloadError: Nothing could be found out.
        """

    @abstractmethod
    def to_remember(self) -> Callable[[], Awaitable[None]] | None:
        """Return what stores all that the looks found until now, ``None`` if that was stored."""

    def _payload(self, listing: FileListing, group: str | None = None, name: str | None = None) -> dict[str, Any]:
        summary = listing.summary()
        return {
            "conn_id": self._conn_id,
            "remote_task_id": summary["remote_task_id"],
            "group": group and storable(group),
            "name": name and storable(name),
            "file_count": summary["file_count"],
            "total_size": summary["total_size"],
        }


class NamedTasks(Watch):
    """Tasks that the author of the DAG names.

    :param task_ids: Their ids.
    """

    def __init__(self, memory: Memory, conn_id: str, interval: float, task_ids: Sequence[str]) -> None:
        super().__init__(memory, conn_id, interval)
        self._waiting = list(task_ids)
        self._has_read = False
        self._unsaved: set[str] = set()

    async def look(self, service: Service) -> list[dict[str, Any]]:
        """Look at those that were not announced yet."""
        if not self._has_read:
            for task_id in list(self._waiting):
                if await self._was_announced(task_id):
                    self._waiting.remove(task_id)
            self._has_read = True
        looks = [self._ready(service, task_id) for task_id in self._waiting]
        ready = [listing for listing in await _all(looks) if listing is not None]
        # Again: another triggerer may have taken this one for dead, and begun the same watch.
        news = [listing for listing in ready if not await self._was_announced(listing.remote_task_id)]
        for listing in ready:
            self._waiting.remove(listing.remote_task_id)
        self._unsaved |= {listing.remote_task_id for listing in news}
        return [self._payload(listing) for listing in news]

    def to_remember(self) -> Callable[[], Awaitable[None]] | None:
        """Return what stores which tasks were announced, each by itself."""
        return partial(self._store, frozenset(self._unsaved)) if self._unsaved else None

    async def _store(self, task_ids: frozenset[str]) -> None:
        try:
            for task_id in sorted(task_ids):
                await self._memory.set(self._key(task_id), {"version": 1, "announced": True})
                self._unsaved.discard(task_id)
        except TaskDownloadError as error:
            log.warning("Connection %s: %s", self._conn_id, error)

    async def _was_announced(self, task_id: str) -> bool:
        stored = await self._memory.get(self._key(task_id))
        if stored not in (None, {"version": 1, "announced": True}):
            raise TaskDownloadError(
                f"what was announced until now cannot be read (task {task_id}, key {self._key(task_id)}); nothing is "
                "announced until it is deleted"
            )
        return stored is not None

    def _key(self, task_id: str) -> str:
        return key_of(self._conn_id, "task", task_id)

    async def _ready(self, service: Service, task_id: str) -> FileListing | None:
        try:
            return await self.looks.look(service, task_id)
        except TaskFailedError as error:
            log.warning("Connection %s: nothing to announce: %s", self._conn_id, error)
            self.looks.forget(task_id)
            self._waiting.remove(task_id)
        return None


@dataclass(frozen=True)
class Scope:
    """Which tasks a watcher of all tasks is about.

    :param group: What they are listed under, such as a project; ``None`` for what the service lists when not told.
    :param name_prefix: What their names begin with.
    :param since: They were created at this time or later, in seconds of the epoch; by default after the watch began.
    """

    group: str | None = None
    name_prefix: str = ""
    since: float | None = None


class ListedTasks(Watch):
    """All tasks that a service lists.

    :param scope: Which of them.
    """

    def __init__(self, memory: Memory, conn_id: str, interval: float, scope: Scope) -> None:
        super().__init__(memory, conn_id, interval)
        self._scope = scope
        self._key = key_of(conn_id, "list", scope.group, scope.name_prefix)
        self._known: Announced | None = None
        self._stored: Any = None
        self._has_read = False

    async def look(self, service: Service) -> list[dict[str, Any]]:
        """Look through the list, and at those tasks that may be ready."""
        if not self._has_read:
            self._stored = await self._memory.get(self._key)
            self._known = self._read(self._stored)
            self._has_read = True
        listed, now = await self._walk(service), time.time()
        if self._known is None:
            self._known = Announced.begin(listed, self._scope.since, now)
            log.info("Connection %s: the watch begins: %s", self._conn_id, self._scope)
        known = self._known
        by_id = {task.remote_task_id: task for task in listed}
        unsettled = [task_id for task_id in known.unsettled(listed) if self._is_ours(by_id.get(task_id))]
        self.looks.forget_but(set(unsettled))
        looked_at, left = unsettled, unsettled[:0]
        if len(unsettled) > _MOST_AT_A_TIME:
            waits = {task_id for task_id in unsettled if self._is_at_work(by_id.get(task_id))}
            over = [task_id for task_id in unsettled if task_id not in waits and not self.looks.is_put_off(task_id)]
            left = over[_MOST_AT_A_TIME:]
            later = set(left)
            looked_at = [task_id for task_id in unsettled if task_id not in later]
        found = await _all([self._judge(service, task_id, by_id.get(task_id)) for task_id in looked_at])
        outcomes = dict(zip(looked_at, found, strict=True))
        ready = {task_id: files for task_id, files in outcomes.items() if isinstance(files, FileListing)}
        if ready and await self._is_forestalled():
            return []
        waited_for = [task_id for task_id, outcome in outcomes.items() if outcome is False]
        self._known, given_up = known.after(listed, outcomes.keys() - set(waited_for), now, waited_for, left)
        if given_up:
            log.error("Connection %s: too many tasks are not ready; given up: %s", self._conn_id, ", ".join(given_up))
        return [self._told(files, by_id.get(task_id)) for task_id, files in ready.items()]

    def to_remember(self) -> Callable[[], Awaitable[None]] | None:
        """Return what stores what is known now; later looks may know more, of which nothing was told yet."""
        if self._known is None or (value := self._known.dump()) == self._stored:
            return None
        return partial(self._store, value)

    async def _store(self, value: Any) -> None:
        try:
            await self._memory.set(self._key, value)
            self._stored = value
        except TaskDownloadError as error:
            log.warning("Connection %s: %s", self._conn_id, error)

    def _read(self, stored: Any) -> Announced | None:
        if stored is None:
            return None
        try:
            return Announced.read(stored)
        except TaskDownloadError as error:
            error.target = f"the asset's state, key {self._key}"
            raise

    async def _is_forestalled(self) -> bool:
        # Another triggerer may have taken this one for dead, and begun the same watch. Or somebody deleted what was
        # stored, for a new beginning.
        stored = await self._memory.get(self._key)
        if stored == self._stored:
            return False
        theirs = self._read(stored)
        self._known = theirs and theirs.knowing(self._known.settled if self._known else {})
        self._stored = stored
        return True

    def _is_ours(self, task: ListedTask | None) -> bool:
        return task is None or (task.name or "").startswith(self._scope.name_prefix)

    @staticmethod
    def _is_at_work(task: ListedTask | None) -> bool:
        return task is not None and task.status.state in _AT_WORK

    def _told(self, files: FileListing, task: ListedTask | None) -> dict[str, Any]:
        group = task.group if task else None
        return self._payload(files, group or self._scope.group, task.name if task else None)

    async def _walk(self, service: Service) -> list[ListedTask]:
        """Return all tasks since the floor; where there is none yet, of so long that one can be set."""
        listed: dict[str, ListedTask] = {}
        floor, newest_first = self._floor(), await service.newest_first()
        for number in range(1, _MOST_PAGES + 1):
            page = await service.page(self._scope.group, number, min(_SAME_LOOK_SECONDS, self._interval / 4))
            for task in page.tasks:
                if task.created is None:
                    raise MalformedResponseError("the service does not say when the tasks of its list were created")
                listed.setdefault(task.remote_task_id, task)
            if page.is_last:
                break
            if newest_first and page.tasks:
                until = created(next(iter(listed.values()))) - SLACK_SECONDS if floor is None else floor
                if created(page.tasks[-1]) < until:
                    break
        else:
            raise MalformedResponseError("the service's list of tasks has no end")
        return list(listed.values())

    def _floor(self) -> float | None:
        return self._scope.since if self._known is None else self._known.floor

    async def _judge(self, service: Service, task_id: str, task: ListedTask | None) -> FileListing | bool:
        """Return the files of a task that is ready, or whether it is settled without."""
        if self._is_at_work(task):
            self.looks.forget(task_id)
            return False
        state = task.status.state if task else TaskState.UNKNOWN
        try:
            if state in _IN_VAIN:
                raise TaskFailedError(f"the task is {state}", remote_task_id=task_id)
            check_status = state is not TaskState.SUCCESS
            # Where it is listed, its links may come later.
            not_found: Literal["fail", "wait"] = "wait" if task else "fail"
            files = await self.looks.look(service, task_id, check_status=check_status, not_found=not_found)
            return files or False
        except (TaskFailedError, TaskNotFoundError) as error:
            log.info("Connection %s: nothing to announce: %s", self._conn_id, error)
            self.looks.forget(task_id)
            return True


async def _all(looks: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what each gives; if one of them fails, the others come to their end first."""
    results = await asyncio.gather(*looks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast("list[T]", results)
