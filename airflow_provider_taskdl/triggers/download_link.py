"""The trigger that waits for the links of one task."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Literal

import anyio
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_taskdl.apis.readiness import LinkWatch, still
from airflow_provider_taskdl.exceptions import ConnectionConfigError, TaskDownloadError
from airflow_provider_taskdl.hooks.place import Place, jittered
from airflow_provider_taskdl.hooks.shared import SharedHook, shared_hook
from airflow_provider_taskdl.triggers.events import error_event, ready_event, timeout_event

# For the last look: where many wait for their turn, or the service is slow, it may be over only after the deadline.
_LAST_LOOK_SECONDS = 60.0


class DownloadLinkTrigger(BaseTrigger):
    """Waits until every file of a remote task has a link, or waiting is over.

    Sends one event, in the words of ``triggers.events``; no link is in it. The deadline is a time of day, so it holds
    however often the triggerer restarts.

    In a task that starts from the trigger, Airflow renders the parameters that are templates of the task.

    :param conn_id: The Airflow connection.
    :param remote_task_id: The task's id at the service.
    :param deadline: When to give up, in seconds of the epoch. ``None`` where no worker was there to say it: then it is
        ``grace`` seconds before Airflow's own limit of the deferral, which the database keeps.
    :param poll_interval: Seconds between two looks.
    :param not_found: ``fail`` or ``wait``, when the service does not know the task.
    :param max_consecutive_errors: Failed looks in a row that are waited out.
    :param errors: Failed looks in a row before this trigger began.
    :param first_wait: Seconds before the first look, at most; at least, if ``errors`` says that it is a back-off.
    :param grace: Seconds, see ``deadline``; negative if Airflow's limit is the earlier one.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        remote_task_id: str,
        deadline: float | None,
        poll_interval: float,
        not_found: Literal["fail", "wait"] = "fail",
        max_consecutive_errors: int = 10,
        errors: int = 0,
        first_wait: float = 0.0,
        grace: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.remote_task_id = remote_task_id
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.not_found = not_found
        self.max_consecutive_errors = max_consecutive_errors
        self.errors = errors
        self.first_wait = first_wait
        self.grace = grace

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and what makes an equal trigger."""
        names = ("conn_id", "remote_task_id", "deadline", "poll_interval", "not_found", "max_consecutive_errors",
                 "errors", "first_wait", "grace")  # fmt: skip
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    def get_template_env(self, dag: Any = None) -> Any:
        """Refuse what is not defined, as a worker does: nothing in its place may leave the id of another task."""
        from jinja2 import StrictUndefined

        environment = super().get_template_env(dag)
        environment.undefined = StrictUndefined
        return environment

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and send the one event."""
        try:
            self._check_rendered()
            event = await self._wait_until(self._known_deadline())
        except TaskDownloadError as error:
            event = error_event(error)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    def _check_rendered(self) -> None:
        # Airflow renders by the DAG as it is now, and not at all if that no longer lets this task begin here.
        texts = map(str, (self.conn_id, self.remote_task_id, self.not_found))
        if self.deadline is None and any("{{" in text or "{%" in text for text in texts):
            raise TaskDownloadError(
                "the DAG was changed while this task waited; its next try waits anew", retryable=True
            )

    def _known_deadline(self) -> float:
        if self.deadline is not None:
            return self.deadline
        limit: datetime | None = getattr(self, "timeout_after", None)  # given by the triggerer
        if limit is None:
            raise ConnectionConfigError("the wait has no end: neither a deadline nor a limit of the deferral")
        return limit.timestamp() - self.grace

    async def _wait_until(self, deadline: float) -> dict[str, Any]:
        async with shared_hook(self.conn_id) as shared:
            with anyio.move_on_after(_left_until(deadline)) as limit:
                async with shared.hook() as hook:
                    watch = LinkWatch(
                        hook.api,
                        self.remote_task_id,
                        interval=self.poll_interval,
                        not_found=self.not_found,
                        check_status=hook.access.extras.check_status,
                        max_consecutive_errors=self.max_consecutive_errors,
                        errors=self.errors,
                    )
            if limit.cancelled_caught:
                return timeout_event(str(self.remote_task_id))
            with shared.roll_call.place(str(self.remote_task_id).strip(), self.poll_interval) as place:
                return await self._look_until(deadline, shared, watch, place)

    async def _look_until(self, deadline: float, shared: SharedHook, watch: LinkWatch, place: Place) -> dict[str, Any]:
        said = ""

        def say(why: str, how: str) -> None:
            nonlocal said
            if why != said:
                self.log.info("Task %s: %s; %s", self.remote_task_id, why, how)
            said = why

        # A triggerer that starts takes up thousands at once: from then on they are spread over an interval.
        wait = jittered(self.first_wait) if self.errors else random.uniform(0.0, self.first_wait)
        while True:
            await place.sleep(
                wait,
                deadline - time.time(),
                can_be_listed=watch.check_status and not watch.errors,
                group=watch.group,
                tell=lambda state: say(still(state), "by the service's list of tasks"),
            )
            # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes together with the result.
            with anyio.move_on_after(_left_until(deadline)) as limit:
                decision = await shared.look(watch)
            if limit.cancelled_caught:
                return timeout_event(str(self.remote_task_id))
            if decision.listing is not None:
                place.is_over = True
                return ready_event(decision.listing)
            if time.time() >= deadline:
                return timeout_event(str(self.remote_task_id))
            say(decision.why, f"looking again every {decision.wait:g} s")
            wait = jittered(decision.wait)


def _left_until(deadline: float) -> float:
    return max(0.0, deadline - time.time()) + _LAST_LOOK_SECONDS
