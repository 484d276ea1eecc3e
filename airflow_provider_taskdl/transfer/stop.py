"""The word to stop, which may come from a signal in the middle of anything."""

from __future__ import annotations

import threading


class Stop(threading.Event):
    """An event that a signal's handler may set while the thread it interrupts is setting it.

    The plain one takes a lock for that, which the interrupted thread would never give back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition(threading.RLock())
