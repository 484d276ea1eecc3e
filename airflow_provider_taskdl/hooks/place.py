"""Where one who waits for a task sleeps until it has to look, and what lists of tasks can change about that time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from airflow_provider_taskdl.listing import TaskState

# Whatever lists say: so many intervals after a look of its own each looks again, or at any moment before, so that those
# who came together do not look together, and among many some look soon.
_BELIEVED = 100
# Tasks that were deferred together should not ask together for ever. Never sooner: the service may have named the time.
_JITTER = 0.1


def jittered(wait: float) -> float:
    """Return up to a tenth more."""
    return wait * random.uniform(1.0, 1.0 + _JITTER)


class Place:
    """One wait's place in a roll call: sleep, look, sleep again.

    :param remote_task_id: The task that is waited for.
    :param interval: Seconds between two looks.
    :ivar group: In which list of the service the task is sought; ``None`` is the one that it gives without being told.
    :ivar is_new: Whether nothing is known of the task yet.
    :ivar can_be_listed: Whether lists have a say at this moment.
    :ivar is_listed: Whether the last that is known is from a list, which said that the task waits or runs.
    :ivar is_over: Whether the task is; to be set by whoever knows.
    """

    def __init__(self, remote_task_id: str, interval: float) -> None:
        self.remote_task_id = remote_task_id
        self.interval = interval
        self.group: str | None = None
        self.is_new = True
        self.can_be_listed = self.is_listed = self.is_over = False
        self._known_at = -math.inf
        self._due = self._doubted_at = math.inf
        self._state: TaskState | None = None  # by the last list that named it
        self._wake = asyncio.Event()

    async def sleep(
        self,
        seconds: float,
        most: float,
        *,
        can_be_listed: bool,
        group: str | None,
        tell: Callable[[TaskState], object],
    ) -> None:
        """Sleep until it is time to look: later if a list says that the task runs, at once if one says otherwise.

        :param seconds: For how long if no list says anything.
        :param most: For how long at most.
        :param can_be_listed: Whether lists have a say. Not after an error: its pause is not theirs to change.
        :param group: Where the last look says that the task is listed, if it does.
        :param tell: Told when lists first say that the task waits or runs; what else they say, a look will say better.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        end, told = now + most, self._state
        if group is not None and not self.is_listed:  # a list that names it is good enough
            self.group = group
        self._due, self._known_at = now + seconds, now
        self._doubted_at = now + self.interval * random.uniform(1, _BELIEVED)
        self.is_listed, self.can_be_listed = False, can_be_listed
        try:
            await asyncio.sleep(0)  # also where there is nothing to sleep: others want to run, too
            while (left := min(self._due, end) - loop.time()) > 0:
                self._wake.clear()
                timer = loop.call_later(left, self._wake.set)
                try:
                    await self._wake.wait()
                finally:
                    timer.cancel()
                if self._state is not None and self._state is not told and runs(self._state):
                    told = self._state
                    tell(told)
        finally:
            self.is_new = self.can_be_listed = False

    def age(self, now: float) -> float:
        """Return how old the last that is known of the task is, in seconds.

        :param now: The event loop's time.
        """
        return now - self._known_at

    def hear(self, state: TaskState, asked_at: float, now: float, apart: float = 0.0) -> bool:
        """Take what a list says.

        :param state: The task's state.
        :param asked_at: When the list was asked for.
        :param now: The event loop's time.
        :param apart: Seconds until one who has to look should do so.
        :returns: Whether that was of use: it saves a look, or brings one forward.
        """
        if not self.can_be_listed or asked_at < self._known_at:
            return False
        before, self._state = self._state, state
        if before is not state:
            self._wake.set()
        if runs(state):
            self.is_listed, self.is_new, self._known_at = True, False, asked_at
            put_off_to = min(asked_at + jittered(self.interval), self._doubted_at)
            self._due = max(self._due, put_off_to)
            return put_off_to > now
        if before is None or runs(before):  # once, or a list that is wrong would make it look at each call
            self.is_listed, self._due = False, min(self._due, now + apart)
            return True
        return False

    def go_alone(self, now: float) -> None:
        """Look without waiting for a list: at some moment of what is left of the interval.

        :param now: The event loop's time.
        """
        if self.is_listed:
            self._due = min(self._due, random.uniform(now, max(now, self._known_at + self.interval)))
            self._wake.set()


def runs(state: TaskState) -> bool:
    """Tell whether a state is that of a task that is to be waited for."""
    return state in (TaskState.WAITING, TaskState.RUNNING)
