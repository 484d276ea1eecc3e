"""Many requests at once on one event loop, each on a client of one connection.

The pool inside a client looks through all its connections and requests whenever one of them begins or ends, which with
thousands of waiting tasks is most of what a look costs. So clients have one connection each and are lent out here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

# Requests under way at once, and so connections.
MAX_IN_FLIGHT = 100
# A connection that was not needed for so many seconds is not used again, and closed at the next call.
IDLE_SECONDS = 15.0


class AsyncClients:
    """Clients for one service: the last one used is the next one lent, so that few stay open.

    :param make: Makes a client.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._free = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._idle: deque[tuple[float, httpx.AsyncClient]] = deque()
        self._is_closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client for one request; wait for one while too many are lent."""
        async with self._free:
            client = self._idle.pop()[1] if self._idle else self._make()
            try:
                yield client
            finally:
                now = time.monotonic()
                self._idle.append((now, client))
                while self._idle and (self._is_closed or now - self._idle[0][0] > IDLE_SECONDS):
                    await self._idle.popleft()[1].aclose()

    async def aclose(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop()[1].aclose()
