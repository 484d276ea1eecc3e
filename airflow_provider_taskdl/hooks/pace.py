"""How often this process asks one service: each in turn, no faster than the connection allows, later if it is told so.

One :class:`Pace` serves all threads and event loops of a process that use a connection. Who waits stands in a queue and
sleeps: only the first one has a timer, and whoever goes or gives up wakes the next, so nobody's turn is lost.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from airflow_provider_taskdl.backoff import MAX_RETRY_AFTER
from airflow_provider_taskdl.exceptions import PausedError, RateLimitedError, TaskDownloadError

# A pause longer than this is not slept through but told of: whoever asked has a deadline, or can be asked to stop.
MAX_SLEEP = 10.0
# What a service that says "too many" without saying for how long is given: doubled from one refusal to the next.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# Timers are late; this much of it is made up for, so that a high rate is reached and a low one never passed.
_LATE = 0.02
# How often a thread that waits sees to it that the first in the queue is still there.
_LOOK_UP = 10.0
_MOST_PACES = 256


class Pace:
    """The turns of all who call one service from this process.

    :param rate: Requests per second at most; no limit without it. May be changed at any time.
    :param clock: Gives the time in seconds.
    """

    def __init__(self, rate: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._queue: OrderedDict[object, _Sleeper] = OrderedDict()  # who waits, and how to wake it
        self._next = self._paused_until = -math.inf
        self._refusals = 0

    def turn(self) -> None:
        """Wait, in this thread, until it may send a request.

        :raises PausedError: The service asked for so long a pause that waiting is the caller's to decide.
        """
        event = threading.Event()
        self._join(event, _Sleeper(event.set))
        try:
            while (seconds := self._seconds_to_turn(event)) > 0:
                event.wait(_LOOK_UP) if seconds == math.inf else time.sleep(seconds)
        finally:
            self._leave(event)

    async def aturn(self, then: Callable[[], object] = lambda: None) -> None:
        """Async twin of :meth:`turn`; ``then`` is called when it is its turn."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        self._join(event, _Sleeper(partial(loop.call_soon_threadsafe, event.set), loop.is_closed))
        try:
            while (seconds := self._seconds_to_turn(event)) > 0:
                await (event.wait() if seconds == math.inf else asyncio.sleep(seconds))
            then()
        finally:
            self._leave(event)

    def heard(self, error: TaskDownloadError | None) -> None:
        """Learn from an answer: whoever is told to come later speaks for everybody.

        :param error: What the answer meant; ``None`` for success.
        """
        if error is None:
            self._refusals = 0
            return
        seconds = error.retry_after
        if seconds is None and not isinstance(error, RateLimitedError):
            return
        with self._lock:
            now = self._clock()
            if now >= self._paused_until:  # else it was under way when another one heard the same
                self._refusals += 1
            if seconds is None:
                seconds = min(_FIRST_PAUSE * 2.0 ** min(self._refusals - 1, 32), _LONGEST_PAUSE)
            self._paused_until = max(self._paused_until, now + min(seconds, MAX_RETRY_AFTER))

    def _join(self, who: object, sleeper: _Sleeper) -> None:
        with self._lock:
            self._queue[who] = sleeper

    def _leave(self, who: object) -> None:
        with self._lock:
            if who in self._queue:
                was_first = next(iter(self._queue)) is who
                del self._queue[who]
                if was_first:
                    self._wake_first()

    def _seconds_to_turn(self, who: object) -> float:
        """Return 0 and give the turn, or how long to sleep; without end for those who are woken."""
        with self._lock:
            first, sleeper = next(iter(self._queue.items()))
            if first is not who:
                if sleeper.is_gone():
                    self._wake_first()
                return math.inf
            now = self._clock()
            pause = self._paused_until - now
            if pause > MAX_SLEEP:
                raise PausedError(
                    f"the service asked everybody on this connection to wait; {pause:.0f} s are left", retry_after=pause
                )
            wait = max(self._next - now, pause)
            if wait > 0:
                return wait
            if self.rate:
                self._next = (self._next if now - self._next < _LATE else now) + 1.0 / self.rate
            del self._queue[who]
            self._wake_first()
            return 0.0

    def _wake_first(self) -> None:
        while self._queue:
            who, sleeper = next(iter(self._queue.items()))
            try:
                sleeper.wake()
                return
            except RuntimeError:  # its event loop was closed around it
                del self._queue[who]


class _Sleeper(NamedTuple):
    """How to wake one who waits, and whether nobody can any more, its event loop having been closed around it."""

    wake: Callable[[], object]
    is_gone: Callable[[], bool] = lambda: False


_paces: dict[tuple[str, str], Pace] = {}
_paces_lock = threading.Lock()


def pace_of(conn_id: str, base_url: str, rate: float | None) -> Pace:
    """Return the pace of a connection, the same one for all in this process.

    :param conn_id: The connection.
    :param base_url: Where it leads to.
    :param rate: Requests per second, as the connection has it now.
    """
    key = conn_id, base_url
    with _paces_lock:
        _paces[key] = pace = _paces.pop(key, None) or Pace()  # the last ones used stand last
        if len(_paces) > _MOST_PACES:  # the test of a connection has a new id each time
            del _paces[next(iter(_paces))]
    pace.rate = rate
    return pace


def forget_paces() -> None:
    """Begin anew, as a forked child must: it has neither the threads that waited nor, perhaps, their locks' keys."""
    global _paces_lock  # noqa: PLW0603 - the old one may be held by a thread that is not there any more
    _paces_lock = threading.Lock()
    _paces.clear()


os.register_at_fork(after_in_child=forget_paces)
