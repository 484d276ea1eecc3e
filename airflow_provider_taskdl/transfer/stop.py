"""The word to stop, which may come from a signal in the middle of anything."""

from __future__ import annotations

import threading


class Cancelled(Exception):
    """The transfer was told to stop."""


class Stop(threading.Event):
    """An event that a signal's handler may set while the thread it interrupts is setting it.

    The plain one takes a lock for that, which the interrupted thread would never give back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition(threading.RLock())

    def check(self) -> None:
        """Return if nothing is to stop.

        :raises Cancelled: It is.
        """
        if self.is_set():
            raise Cancelled


def never_stop() -> None:
    """Stand for :meth:`Stop.check` where nothing can tell to stop."""
