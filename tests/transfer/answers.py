"""How a host answers for one file, ``DATA``: truly, cut short, or with what it is told to say."""

from __future__ import annotations

from collections.abc import Callable

from tests.transfer.harness import DATA
from tests.transfer.hosts import Answer, Request, ranged, sends

SIZE = len(DATA)
TAG = '"one"'
Script = Callable[[Request], Answer]


def good(request: Request) -> bytes:
    """Answers truly."""
    return ranged(DATA, request, ETag=TAG)


def cut(at: int, end: str, data: bytes = DATA, **fields: object) -> Script:
    """Answers truly, but ends before the byte ``at`` of the file."""

    def answer(request: Request) -> Answer:
        honest = ranged(data, request, **{"ETag": TAG, **fields})
        return sends(honest[: len(honest) - (len(data) - max(at, request.start))], end)

    return answer


def says(*parts: bytes, then: str = "close") -> Script:
    """Answers every request with these bytes."""
    return lambda request: sends(b"".join(parts), then)
