"""Are the files of a task there yet? One decision, shared by every way of waiting.

:meth:`LinkWatch.look` is written as a generator of calls, so that the worker and the triggerer run the very same
steps, one with a sync and one with an async client.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from airflow_provider_taskdl.apis.base import Call, TaskApi
from airflow_provider_taskdl.backoff import MAX_RETRY_AFTER, growing_pause
from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    MalformedResponseError,
    PausedError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskFailedError,
    TaskNotFoundError,
    TaskNotReadyError,
)
from airflow_provider_taskdl.listing import FileListing, TaskState, TaskStatus

log = logging.getLogger(__name__)

R = TypeVar("R")
Steps = Generator[Call[Any], Any, R]

_WEATHER = (ServiceUnavailableError, RateLimitedError, MalformedResponseError)
# After so many useless answers in a row the state is not asked for any more.
_MAX_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """What one look gave.

    :param listing: The files, once they are all there.
    :param wait: Seconds to wait before the next look, if they are not.
    :param why: Why not; for the log.
    :param error: What kept the look from finding that out, if something did.
    """

    listing: FileListing | None = None
    wait: float = 0.0
    why: str = ""
    error: TaskApiError | None = None


def why_no_links(api: TaskApi, remote_task_id: str) -> Steps[None]:
    """Ask for the state of a task that has no links: whether it is over, and it is no use to wait for them.

    :param api: The service's API.
    :param remote_task_id: The task.
    :raises TaskFailedError: It failed or expired. Whatever else the service says leaves things as they are.
    """
    call = api.get_status(remote_task_id)
    if call is None:
        return
    try:
        status: TaskStatus = yield replace(call, is_hint=True)
    except TaskApiError as error:
        log.info("The task has no links, and its state is not available: %s", error)
        return
    _check_not_over(status)


def still(state: TaskState) -> str:
    """Return why a task in this state is not ready; for the log."""
    return f"the task is {state}"


@dataclass
class LinkWatch:
    """One wait for the files of one task.

    :param api: The service's API.
    :param remote_task_id: The task.
    :param interval: Seconds between two looks.
    :param not_found: ``"fail"`` at once, or ``"wait"``, when the service does not know the task.
    :param check_status: Ask for the task's state first, where the service can tell it.
    :param max_consecutive_errors: Failed looks in a row that are waited out.
    :param errors: Failed looks in a row until now.
    :param refusals: Useless answers of the state's endpoint in a row until now.
    :ivar group: What the service lists the task under, once a state has told it.
    """

    api: TaskApi
    remote_task_id: str
    interval: float
    not_found: Literal["fail", "wait"] = "fail"
    check_status: bool = True
    max_consecutive_errors: int = 10
    errors: int = 0
    refusals: int = 0
    group: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.not_found not in ("fail", "wait"):
            raise ConnectionConfigError(f"not_found must be 'fail' or 'wait', not {self.not_found!r}")

    def look(self) -> Steps[Decision]:
        """Look once.

        :returns: (by the generator) the decision: the listing, or how long to wait.
        :raises TaskFailedError: The task failed or expired.
        :raises TaskNotFoundError: The service does not know the task.
        :raises AuthenticationError: The credentials were refused.
        :raises TaskApiError: The request was refused, or ``max_consecutive_errors`` looks in a row failed.
        """
        try:
            try:
                listing = yield from self._ready_listing()
            except PausedError as error:
                # Nothing was asked, so nothing went wrong: this look counts neither way.
                return Decision(wait=self._spread(error.retry_after or 0.0), why=error.message, error=error)
            except _WEATHER as error:
                if not error.retryable:
                    raise
                return self._wait_out(error)
            except TaskNotReadyError as error:
                self.errors = 0
                return Decision(wait=self.interval, why=error.message)
            except TaskNotFoundError as error:
                if self.not_found == "fail":
                    raise
                self.errors = 0
                return Decision(wait=self.interval, why=error.message, error=error)
        except TaskApiError as error:
            error.remote_task_id = self.remote_task_id
            raise
        self.errors = 0
        return Decision(listing=listing)

    def _ready_listing(self) -> Steps[FileListing]:
        state = yield from self._state()
        if state in (TaskState.WAITING, TaskState.RUNNING):
            raise TaskNotReadyError(still(state))
        listing: FileListing = yield self.api.list_files(self.remote_task_id)
        if not listing.is_ready:
            linked = sum(file.link is not None for file in listing.files)
            raise TaskNotReadyError(
                f"{linked} of {len(listing.files)} files have a link" if listing.files else "no files yet"
            )
        return listing

    def _state(self) -> Steps[TaskState]:
        # Every other look in a row of errors goes without: a broken status endpoint alone must not end the wait. The
        # count tells, and not this object, since each look may be made by another one.
        asked = self.check_status and not self.errors % 2 and self.refusals < _MAX_REFUSALS
        call = self.api.get_status(self.remote_task_id) if asked else None
        if call is None:
            return TaskState.UNKNOWN
        try:
            status: TaskStatus = yield replace(call, is_hint=True)
        except (ServiceUnavailableError, RateLimitedError):
            raise
        except TaskApiError as error:
            # Missing, refused or of another shape, even "not found": what the links' own endpoint says, holds.
            if not self.refusals:
                log.info("The task's state is not available, its links alone decide: %s", error)
            self.refusals += 1
            return TaskState.UNKNOWN
        self.refusals, self.group = 0, status.group
        _check_not_over(status)
        return status.state

    def _wait_out(self, error: TaskApiError) -> Decision:
        self.errors += 1
        if self.errors > self.max_consecutive_errors:
            raise error
        wait = growing_pause(self.errors, self.interval)
        if error.retry_after is not None and error.retry_after > wait:
            wait = self._spread(min(error.retry_after, MAX_RETRY_AFTER))
        why = f"{error} ({self.errors} of at most {self.max_consecutive_errors} in a row)"
        return Decision(wait=wait, why=why, error=error)

    def _spread(self, wait: float) -> float:
        # All who wait were told the same; they do not come back at the same moment.
        return wait + random.uniform(0.0, self.interval)


def _check_not_over(status: TaskStatus) -> None:
    if status.state in (TaskState.FAILED, TaskState.EXPIRED):
        verb = "failed" if status.state is TaskState.FAILED else "has expired"
        raise TaskFailedError(f"the task {verb} at the service{': ' + status.reason if status.reason else ''}")
