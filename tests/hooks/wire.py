"""Answers as a client gets them from a wire: with a body that is still to be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx


def transport(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    """Return a transport that gives a function's answers."""

    def unread(request: httpx.Request) -> httpx.Response:
        return _unread(answer(request))

    return httpx.MockTransport(unread)


def async_transport(answer: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> httpx.MockTransport:
    """Return a transport for async clients that gives a coroutine function's answers."""

    async def unread(request: httpx.Request) -> httpx.Response:
        return _unread(await answer(request))

    return httpx.MockTransport(unread)


def _unread(response: httpx.Response) -> httpx.Response:
    return httpx.Response(response.status_code, headers=response.headers, stream=response.stream)
