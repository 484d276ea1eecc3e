"""The one loop for all watchers of a connection: it says when to look, shares what is asked, and tells what is safe.

It is a shared stream of Airflow's triggerer (3.3) in the mode in which Airflow says when events are in its database:
the stream's items are beats of a clock. On one beat a watcher begins a look, on a later one it tells what that found,
and leaves with the beat what is to be remembered. That is done as soon as what it told is in the database, no sooner.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import anyio

from airflow_provider_taskdl.apis.base import is_task_id
from airflow_provider_taskdl.apis.readiness import Decision, LinkWatch
from airflow_provider_taskdl.exceptions import ConnectionConfigError, TaskFailedError
from airflow_provider_taskdl.hooks.shared import SharedHook, shared_hook
from airflow_provider_taskdl.listing import TaskPage

# How soon what a look found is told.
BEAT_SECONDS = 1.0
# How long what is to be remembered may take: a triggerer that is ending answers no more.
_REMEMBER_SECONDS = 5.0
# So many tasks are asked for at once, over all watchers of a connection.
_AT_ONCE = 10


class Service:
    """What the watchers of one connection ask through, so that none asks what another one has just asked.

    :param shared: The connection's hook.
    """

    def __init__(self, shared: SharedHook) -> None:
        self._shared = shared
        self._pages: dict[tuple[str | None, int], tuple[float, asyncio.Task[TaskPage]]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def newest_first(self) -> bool:
        """Return whether the list of tasks is known to begin with the newest.

        :raises ConnectionConfigError: The connection cannot be used.
        """
        async with self._shared.hook() as hook:
            return hook.api.newest_first

    async def page(self, group: str | None, number: int, max_age: float) -> TaskPage:
        """Return a page of the service's list of tasks.

        :param group: Whose tasks.
        :param number: Which page, counted from 1.
        :param max_age: Seconds; what another watcher was given may be so old.
        :raises TaskDownloadError: It was not to be had.
        """
        key, now = (group, number), time.monotonic()
        asked, page = self._pages.get(key, (0.0, None))
        failed = page is not None and page.done() and (page.cancelled() or page.exception() is not None)
        if page is None or failed or now - asked > max_age:
            page = asyncio.create_task(self._ask(group, number))
            self._pages[key] = now, page
        return await asyncio.shield(page)

    async def watch(self, task_id: str, *, interval: float, check_status: bool = True) -> LinkWatch:
        """Return what decides whether a task is ready, as it does for a sensor; it waits out any weather.

        :param task_id: The task.
        :param interval: Seconds between two looks.
        :param check_status: Whether its state is worth a question.
        :raises ConnectionConfigError: The connection cannot be used.
        :raises TaskFailedError: The id is none.
        """
        async with self._shared.hook() as hook:
            try:
                hook.api.list_files(task_id)
            except ConnectionConfigError as error:
                raise TaskFailedError(error.message) from None
            check_status = check_status and hook.access.extras.check_status
            return LinkWatch(
                hook.api, task_id, interval=interval, check_status=check_status, max_consecutive_errors=sys.maxsize
            )

    async def look(self, watch: LinkWatch) -> Decision:
        """Look at a task once.

        :param watch: What decides.
        :raises TaskDownloadError: As for :meth:`LinkWatch.look`.
        """
        async with self._turns:
            return await self._shared.look(watch)

    async def aclose(self) -> None:
        """End what is still being asked."""
        pages = [page for _, page in self._pages.values() if not page.done()]
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)

    async def _ask(self, group: str | None, number: int) -> TaskPage:
        async with self._shared.hook() as hook:
            call = hook.api.list_tasks(number, group=group)
            if call is None:
                raise ConnectionConfigError(f"{hook.api.service} cannot list its tasks; name those to be watched")
            page = await hook.arun(call)
            # What is none cannot be asked about; and ids stand in the log, in events and in what is remembered.
            return replace(page, tasks=tuple(task for task in page.tasks if is_task_id(task.remote_task_id)))


class Beat:
    """One beat of a connection's clock.

    :param service: What to look through.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.acts: list[Callable[[], Awaitable[None]]] = []

    def afterwards(self, act: Callable[[], Awaitable[None]]) -> None:
        """Have something done once all that was told on this beat and before is in Airflow's database.

        :param act: Does it. It raises nothing, and may be left undone: then it is asked for again on another beat.
        """
        self.acts.append(act)


class Rounds:
    """The beats of one connection: a ``SharedStreamProducer``, which Airflow has from 3.3 on.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self._opened = AsyncExitStack()

    async def open_stream(self) -> AsyncIterator[tuple[Beat, Beat]]:
        """Give the beats, without end."""
        service = Service(await self._opened.enter_async_context(shared_hook(self.conn_id)))
        self._opened.push_async_callback(service.aclose)
        while True:
            beat = Beat(service)
            yield beat, beat
            await asyncio.sleep(BEAT_SECONDS)

    async def advance(self, batch: Sequence[Any]) -> None:
        """Do what was to be done after these beats.

        :param batch: Beats in their order, each with what became of the events that were told on it.
        """
        for beat, outcome in batch:
            # With one watcher whose events did not arrive, the others' is left undone too; they ask for it again.
            if outcome.is_clean and beat.acts:
                with anyio.move_on_after(_REMEMBER_SECONDS):
                    await asyncio.gather(*(act() for act in beat.acts))

    def get_advance_lane(self, broker_payload: Any) -> Hashable:
        """Return the same for all: what is remembered must not overtake what is told."""
        return None

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._opened.aclose()
