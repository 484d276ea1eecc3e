"""Answers as a client gets them from a wire: with a body that is still to be read."""

from __future__ import annotations

from collections.abc import Callable

import httpx


def transport(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    """Return a transport that gives a function's answers."""

    def unread(request: httpx.Request) -> httpx.Response:
        response = answer(request)
        return httpx.Response(response.status_code, headers=response.headers, stream=response.stream)

    return httpx.MockTransport(unread)
