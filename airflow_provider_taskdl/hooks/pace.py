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

from airflow_provider_taskdl.exceptions import RateLimitedError, TaskDownloadError

# A pause longer than this is not slept through but told of: whoever asked has a deadline, or can be asked to stop.
MAX_SLEEP = 10.0
# What a service that says "too many" without saying for how long is given: doubled from one refusal to the next.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# Timers are late; this much of it is made up for, so that a high rate is reached and a low one never passed.
_LATE = 0.02
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
        self._queue: OrderedDict[object, Callable[[], object]] = OrderedDict()  # who waits, and what wakes it
        self._next = self._paused_until = -math.inf
        self._refusals = 0

    def turn(self) -> None:
        """Wait, in this thread, until it may send a request.

        :raises RateLimitedError: The service asked for so long a pause that waiting is the caller's to decide.
        """
        event = threading.Event()
        self._join(event, event.set)
        try:
            while (seconds := self._seconds_to_turn(event)) > 0:
                event.wait() if seconds == math.inf else time.sleep(seconds)
        finally:
            self._leave(event)

    async def aturn(self) -> None:
        """Async twin of :meth:`turn`."""
        event = asyncio.Event()
        self._join(event, partial(asyncio.get_running_loop().call_soon_threadsafe, event.set))
        try:
            while (seconds := self._seconds_to_turn(event)) > 0:
                await (event.wait() if seconds == math.inf else asyncio.sleep(seconds))
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
            self._paused_until = max(self._paused_until, now + seconds)

    def _join(self, who: object, wake: Callable[[], object]) -> None:
        with self._lock:
            self._queue[who] = wake

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
            if next(iter(self._queue)) is not who:
                return math.inf
            now = self._clock()
            pause = self._paused_until - now
            if pause > MAX_SLEEP:
                raise RateLimitedError(
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
            who, wake = next(iter(self._queue.items()))
            try:
                wake()
                return
            except RuntimeError:  # its event loop was closed around it
                del self._queue[who]


_paces: dict[tuple[str, str], Pace] = {}


def pace_of(conn_id: str, base_url: str, rate: float | None) -> Pace:
    """Return the pace of a connection, the same one for all in this process.

    :param conn_id: The connection.
    :param base_url: Where it leads to.
    :param rate: Requests per second, as the connection has it now.
    """
    pace = _paces.setdefault((conn_id, base_url), Pace())
    pace.rate = rate
    if len(_paces) > _MOST_PACES:  # the test of a connection has a new id each time
        _paces.pop(next(iter(_paces)), None)
    return pace


def forget_paces() -> None:
    """Begin anew, as a forked child must: it has neither the threads that waited nor, perhaps, their locks' keys."""
    _paces.clear()


os.register_at_fork(after_in_child=forget_paces)
