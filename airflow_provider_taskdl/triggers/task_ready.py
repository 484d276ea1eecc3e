"""The trigger of an asset watcher: tells of each task once, when its files are there."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException
from airflow.triggers.base import TriggerEvent

from airflow_provider_taskdl.apis.base import check_task_id
from airflow_provider_taskdl.backoff import growing_pause, longest_pause
from airflow_provider_taskdl.exceptions import ConnectionConfigError, TaskDownloadError
from airflow_provider_taskdl.listing import parse_time
from airflow_provider_taskdl.triggers.memory import Memory
from airflow_provider_taskdl.triggers.rounds import Beat, Rounds, Service
from airflow_provider_taskdl.triggers.trouble import Told, kind_of
from airflow_provider_taskdl.triggers.watches import ListedTasks, NamedTasks, Scope, Watch

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger
else:
    try:
        from airflow.triggers.base import BaseEventTrigger
    except ImportError:  # Airflow 2
        from airflow.triggers.base import BaseTrigger as BaseEventTrigger


class TaskReadyTrigger(BaseEventTrigger):
    """Tells an asset of remote tasks whose files are all there, each once; for ``AssetWatcher``, from Airflow 3.3 on.

    Each task is an event of the asset; ``event.extra["payload"]`` has ``conn_id``, ``remote_task_id``, ``group``,
    ``name``, ``file_count`` and ``total_size`` (bytes, or ``None``), and no link. What was announced is remembered in
    the asset's state, so neither a triggerer's restart nor a change of ``poll_interval`` makes it be told again.

    It never ends. Trouble with the service or the connection is told of in the triggerer's log, and waited out.

    :param conn_id: The Airflow connection.
    :param remote_task_id: The id of a task at the service, or several. Without it all tasks that the service lists are
        watched; those that were created before the watch began are not told of.
    :param group: What these tasks are listed under: for Baidu Log Service the project. By default what the service
        lists when it is not told.
    :param name_prefix: What their names begin with.
    :param since: They were created at this time or later; ISO 8601, UTC unless it says otherwise. Counts when the watch
        begins.
    :param poll_interval: Seconds between two looks.
    :raises ConnectionConfigError: A parameter cannot be used.
    :raises AirflowOptionalProviderFeatureException: This Airflow has nowhere to remember what was announced.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        remote_task_id: str | Sequence[str] | None = None,
        group: str | None = None,
        name_prefix: str = "",
        since: str | datetime | None = None,
        poll_interval: float = 60.0,
    ) -> None:
        if not hasattr(BaseEventTrigger, "shared_stream_key"):
            raise AirflowOptionalProviderFeatureException(
                "TaskReadyTrigger needs Airflow 3.3 or newer: older ones have no place to remember what was announced, "
                "and each restart of the triggerer would announce it again"
            )
        super().__init__()  # type: ignore[no-untyped-call]
        ids = [remote_task_id] if isinstance(remote_task_id, str | int) else remote_task_id
        self.conn_id = conn_id
        self.remote_task_id = None if ids is None else list(dict.fromkeys(check_task_id(task_id) for task_id in ids))
        self.group = group
        self.name_prefix = name_prefix
        self.since = None if since is None else _moment(since).isoformat()
        self.poll_interval = poll_interval
        if not (isinstance(poll_interval, int | float) and 0 < poll_interval < math.inf):
            raise ConnectionConfigError(f"poll_interval must be a number of seconds, not {poll_interval!r}")
        if self.remote_task_id is not None and (group, name_prefix, since) != (None, "", None):
            raise ConnectionConfigError("group, name_prefix and since are for all tasks, not for a remote_task_id")
        if self.remote_task_id == []:
            raise ConnectionConfigError("remote_task_id names no task")
        self._look: asyncio.Task[tuple[list[dict[str, Any]], float]] | None = None
        self._failures = 0
        self._told = Told(conn_id)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and what makes an equal trigger."""
        names = ("conn_id", "remote_task_id", "group", "name_prefix", "since", "poll_interval")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    def shared_stream_key(self) -> Hashable:
        """Return what is the same for all watchers of a connection, which share one loop."""
        return "airflow_provider_taskdl", self.conn_id

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
        """Return that loop.

        :param kwargs: Those of one of the watchers.
        """
        return Rounds(kwargs["conn_id"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Beat]) -> AsyncIterator[TriggerEvent]:
        """Look now and then, and tell what is found.

        :param shared_stream: The loop's beats.
        """
        watch, due = self._watch(), -math.inf
        loop = asyncio.get_running_loop()
        async for beat in shared_stream:
            # Never waits for a look: Airflow ends a watcher that stays at one beat for too long.
            if self._look is None and loop.time() >= due:
                self._look = asyncio.create_task(self._safely(watch, beat.service))
            elif self._look is not None and self._look.done():
                news, wait = self._look.result()
                self._look, due = None, self._next(wait)
                for payload in news:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                if remember := watch.to_remember():
                    beat.afterwards(remember)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Not the way in which a watcher runs."""
        raise NotImplementedError("this trigger is for an AssetWatcher; a task waits with DownloadLinkSensor")
        yield

    async def cleanup(self) -> None:
        """End the look that is under way."""
        if self._look is not None:
            self._look.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._look])

    def _watch(self) -> Watch:
        memory = Memory(self.asset_state_store)
        if self.remote_task_id is not None:
            return NamedTasks(memory, self.conn_id, self.poll_interval, self.remote_task_id)
        since = None if self.since is None else _moment(self.since).timestamp()
        return ListedTasks(memory, self.conn_id, self.poll_interval, Scope(self.group, self.name_prefix, since))

    def _next(self, wait: float) -> float:
        """Return when to look again. Watchers of one interval look together, so that one question serves them all."""
        now = asyncio.get_running_loop().time()
        if wait > self.poll_interval:
            return now + wait
        return (now // self.poll_interval + 1) * self.poll_interval

    async def _safely(self, watch: Watch, service: Service) -> tuple[list[dict[str, Any]], float]:
        """Return what a look gave, and the seconds until the next: what fails is started again by Airflow at once."""
        try:
            news = await watch.look(service)
            watch.looks.tell(self._told)
            self._failures = 0
            return news, self.poll_interval
        except TaskDownloadError as error:
            self._failures += 1
            growing, slowest = growing_pause(self._failures, self.poll_interval), longest_pause(self.poll_interval)
            wait = max(growing if error.retryable else slowest, error.retry_after or 0.0)
            self._told.say(logging.WARNING if error.retryable else logging.ERROR, kind_of(error), str(error), wait)
        except Exception as error:  # noqa: BLE001 - its text is not ours: it may quote a URL
            wait, kind = longest_pause(self.poll_interval), type(error).__name__
            self._told.say(logging.ERROR, kind, f"the look failed ({kind})", wait)
        return [], wait


def _moment(time: str | datetime) -> datetime:
    try:
        moment = parse_time(time) if isinstance(time, str) else time
    except ValueError:
        raise ConnectionConfigError(f"since is no ISO 8601 time: {time!r}") from None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment
