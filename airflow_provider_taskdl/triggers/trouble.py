"""A watcher's trouble: each task's is its own, slows the looks at that task alone, and the log is told of it seldom."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from airflow_provider_taskdl.apis.readiness import Decision
from airflow_provider_taskdl.backoff import growing_pause
from airflow_provider_taskdl.exceptions import TaskApiError, TaskDownloadError, TaskFailedError, TaskNotFoundError
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.triggers.rounds import Service

log = logging.getLogger(__name__)

# How often the same trouble is told of again.
_SAY_AGAIN_SECONDS = 3600.0
# So many kinds of it are told of in that time: a service may have another code for each of its refusals.
_MOST_KINDS = 20
# Of several tasks in the same trouble so many are named.
_NAMED = 5


class Told:
    """What trouble the log was told of: each kind once an hour, also if it comes and goes.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._said: dict[str, float] = {}

    def say(self, level: int, kind: str, text: str, wait: float) -> bool:
        """Tell of trouble, unless the same was told of within the hour; return whether it was told.

        :param level: The log's level.
        :param kind: What is the same trouble.
        :param text: What it is.
        :param wait: Seconds until the next look.
        """
        now = asyncio.get_running_loop().time()
        self._said = {kind: said for kind, said in self._said.items() if now - said < _SAY_AGAIN_SECONDS}
        if kind in self._said or len(self._said) >= _MOST_KINDS:
            return False
        self._said[kind] = now
        log.log(level, "Watching connection %s: %s; going on in %.0f s", self._conn_id, text, wait)
        return True


def kind_of(error: TaskDownloadError) -> str:
    """Return what is the same for errors of which the log need not be told one by one."""
    return f"{type(error).__name__} {error.code}"


@dataclass
class _Course:
    """How the looks at one task went; not the errors themselves, which hold on to whatever they passed."""

    errors: int = 0
    refusals: int = 0
    kind: str = ""  # of the trouble that the last look had, if it had any
    text: str = ""
    level: int = logging.WARNING
    pause: float = 0.0
    until: float = -math.inf
    told_of: str = ""


class Looks:
    """Looks at single tasks that are waited for.

    :param interval: Seconds between two looks.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._courses: dict[str, _Course] = {}

    def is_put_off(self, task_id: str) -> bool:
        """Return whether a task is not looked at now, since the look before had trouble.

        :param task_id: The task.
        """
        course = self._courses.get(task_id)
        return course is not None and asyncio.get_running_loop().time() < course.until

    async def look(
        self,
        service: Service,
        task_id: str,
        *,
        check_status: bool = True,
        not_found: Literal["fail", "wait"] = "wait",
    ) -> FileListing | None:
        """Look at a task, unless it is put off, and return its files if they are all there.

        :param service: What to look through.
        :param task_id: The task.
        :param check_status: Whether its state is worth a question.
        :param not_found: What it means if the service does not know the task.
        :raises TaskFailedError: There is nothing to wait for.
        :raises TaskNotFoundError: The same, where this fails.
        :raises ConnectionConfigError: The connection cannot be used.
        """
        if self.is_put_off(task_id):
            return None
        watch = await service.watch(task_id, interval=self._interval, check_status=check_status)
        course = self._courses.setdefault(task_id, _Course())
        watch.not_found, watch.errors, watch.refusals = not_found, course.errors, course.refusals
        try:
            decision = await service.look(watch)
        except (TaskFailedError, TaskNotFoundError):
            raise
        except TaskApiError as error:  # refused, also if for its credentials: another task may not be
            watch.errors += 1
            pause = max(growing_pause(watch.errors, self._interval), error.retry_after or 0.0)
            decision = Decision(wait=pause, error=error)
        course.errors, course.refusals = watch.errors, watch.refusals
        self._note(course, decision)
        if decision.listing is not None:
            self.forget(task_id)
        return decision.listing

    def _note(self, course: _Course, decision: Decision) -> None:
        error = decision.error
        if error is None:
            course.kind = course.told_of = ""
            return
        is_mild = error.retryable or isinstance(error, TaskNotFoundError)
        course.kind, course.text = kind_of(error), str(error)
        course.level = logging.WARNING if is_mild else logging.ERROR
        course.pause = decision.wait
        # Looks come at whole intervals: the nearest one.
        course.until = asyncio.get_running_loop().time() + decision.wait - self._interval / 2

    def forget(self, task_id: str) -> None:
        """Forget a task that is not waited for, or of which something else is known now.

        :param task_id: The task.
        """
        self._courses.pop(task_id, None)

    def forget_but(self, task_ids: Collection[str]) -> None:
        """Forget all but these.

        :param task_ids: The tasks that are waited for.
        """
        self._courses = {task_id: course for task_id, course in self._courses.items() if task_id in task_ids}

    def tell(self, told: Told) -> None:
        """Tell of the tasks in trouble, those in the same together, and those first of which nothing was told yet.

        :param told: Tells of it, or knows that it was told.
        """
        kinds: dict[str, list[tuple[str, _Course]]] = defaultdict(list)
        for task_id, course in self._courses.items():
            if course.kind:
                kinds[course.kind].append((task_id, course))
        for kind, tasks in kinds.items():
            (_, first), *others = sorted(tasks, key=lambda task: task[1].told_of == kind)
            names = ", ".join([*(task_id for task_id, _ in others[:_NAMED]), *(["..."] if others[_NAMED:] else [])])
            more = f"; the same with {len(others)} more: {names}" if others else ""
            if told.say(first.level, f"of tasks: {kind}", first.text + more, first.pause):
                for _, course in tasks:
                    course.told_of = kind
