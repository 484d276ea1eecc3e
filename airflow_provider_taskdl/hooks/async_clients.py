"""Many requests at once on one event loop, each on a client of one connection.

The pool inside a client looks through all its connections and requests whenever one of them begins or ends, which with
thousands of waiting tasks is most of what a look costs. So clients have one connection each and are lent out here.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from airflow_provider_taskdl.apis.base import Answer
from airflow_provider_taskdl.hooks.exchange import asend

# Requests under way at once, and so connections.
MAX_IN_FLIGHT = 100
# A connection that was not needed for so many seconds is not used again, and closed at the next call.
IDLE_SECONDS = 15.0
# What a question meets on a connection that the other side has closed.
_CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class AsyncClients:
    """Clients for one service: the last one used is the next one lent, so that few stay open.

    :param make: Makes a client.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._free = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._idle: deque[tuple[float, httpx.AsyncClient]] = deque()
        self._kept: set[httpx.AsyncClient] = set()
        self._is_closed = False

    async def send(self, request: Mapping[str, Any], turn: Callable[[], Awaitable[None]]) -> Answer:
        """Send a request on the next client that is free, and return the answer.

        Services close a connection that was idle for some seconds, at times in the moment of the next question. That
        says nothing of the service: what changes nothing there is asked once more, on a new connection.

        :param request: As for ``asend``.
        :param turn: Returns when a request may be sent.
        :raises TaskDownloadError: As ``asend`` does.
        :raises httpx.HTTPError: As the client has it.
        """
        async with self.one() as client:
            await turn()
            try:
                return await asend(client, request)
            except _CLOSED:
                if client not in self._kept or request["method"] != "GET":
                    raise
            await turn()
            return await asend(client, request)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client for one request; wait for one while too many are lent."""
        async with self._free:
            client = self._idle.pop()[1] if self._idle else self._make()
            try:
                yield client
                self._kept.add(client)
            except BaseException:
                self._kept.discard(client)  # its connection may be closed
                raise
            finally:
                now = time.monotonic()
                self._idle.append((now, client))
                while self._idle and (self._is_closed or now - self._idle[0][0] > IDLE_SECONDS):
                    await self._close(self._idle.popleft()[1])

    async def aclose(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._is_closed = True
        while self._idle:
            await self._close(self._idle.pop()[1])

    async def _close(self, client: httpx.AsyncClient) -> None:
        self._kept.discard(client)
        await client.aclose()


def of_living_loops(
    clients: Mapping[asyncio.AbstractEventLoop, AsyncClients],
) -> dict[asyncio.AbstractEventLoop, AsyncClients]:
    """Return those clients whose event loop is not over: others can be neither used nor closed."""
    return {loop: own for loop, own in clients.items() if not loop.is_closed()}
