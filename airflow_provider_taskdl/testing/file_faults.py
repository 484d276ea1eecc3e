"""What can happen to a file on its way.

Positions (``at``) are those in the file, not in one answer: a fault at a position happens to the request whose answer
holds that byte, and leaves requests for other parts of the file alone.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from airflow_provider_taskdl.testing.exchange import Reply, Request
from airflow_provider_taskdl.testing.faults import ReplyFault, RequestFault


@dataclass
class Cut(ReplyFault):
    """End the connection in the middle of a body that was announced to be longer.

    :param at: The position of the first byte that is not sent.
    :param sent: Instead of a position: after how many bytes of the body.
    :param reset: End it with a reset (RST) instead of an orderly close.
    """

    word = "cut"
    at: int | None = None
    sent: int | None = None
    reset: bool = False

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether the place is in this body."""
        return reply is not None and _place(reply, self.at, self.sent) is not None

    def change(self, request: Request, reply: Reply) -> None:
        """Mark the place."""
        reply.delivery.cut_at, reply.delivery.reset = _place(reply, self.at, self.sent), self.reset


@dataclass
class Stall(ReplyFault):
    """Fall silent for a while.

    :param seconds: How long.
    :param at: Before the byte at which position; by default before the head of the answer.
    :param sent: Instead of a position: after how many bytes of the body.
    """

    word = "stall"
    seconds: float
    at: int | None = None
    sent: int | None = None

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether the place is in this answer."""
        at_head = self.at is None and self.sent is None
        return at_head or (reply is not None and _place(reply, self.at, self.sent) is not None)

    def change(self, request: Request, reply: Reply) -> None:
        """Mark the place."""
        place = None if self.at is None and self.sent is None else _place(reply, self.at, self.sent)
        reply.delivery.pauses[place] = self.seconds


@dataclass
class Drip(ReplyFault):
    """Send slowly.

    :param rate: Bytes per second.
    """

    word = "drip"
    rate: int

    def change(self, request: Request, reply: Reply) -> None:
        """Set the rate."""
        reply.delivery.rate = self.rate


@dataclass
class Corrupt(ReplyFault):
    """Change one byte of the body on its way.

    :param at: Its position.
    """

    word = "corrupt"
    at: int = 0

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether the byte is in this body."""
        return reply is not None and _place(reply, self.at, None) is not None

    def change(self, request: Request, reply: Reply) -> None:
        """Mark the byte."""
        reply.delivery.flips.add(self.at)


@dataclass
class IgnoreRange(RequestFault):
    """Answer 200 with the whole file where a range was asked for."""

    word = "ignore-range"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether a range was asked for."""
        return "range" in request.headers

    def change(self, request: Request) -> None:
        """Drop the range."""
        request.headers.pop("range", None)


@dataclass
class IgnoreIfRange(RequestFault):
    """Answer 206 although the file is not the one that ``If-Range`` and ``If-Match`` name."""

    word = "ignore-if-range"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether there is a condition."""
        return bool({"if-range", "if-match"} & set(request.headers))

    def change(self, request: Request) -> None:
        """Drop the conditions."""
        request.headers.pop("if-range", None)
        request.headers.pop("if-match", None)


@dataclass
class ChangeFile(RequestFault):
    """Replace the file by another version before it is sent: another entity tag from now on, the same bytes.

    Each request that the rule takes does so again; ``times=1`` does it once. For other bytes as well, use
    ``task.file(name).change(content)``.
    """

    word = "change-etag"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether the request is for a file."""
        return request.file is not None

    def change(self, request: Request) -> None:
        """Change the file."""
        if request.file is not None:
            request.file.change()


@dataclass
class ShiftRange(ReplyFault):
    """Answer a range with another one, and say so in ``Content-Range``.

    :param by: How many bytes later it begins.
    """

    word = "shift-range"
    by: int = 1

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether it is a range that can be moved that far."""
        return reply is not None and reply.status == 206 and 0 <= reply.start + self.by < reply.content.size

    def change(self, request: Request, reply: Reply) -> None:
        """Move the range."""
        reply.start += self.by
        reply.end = min(reply.end + self.by, reply.content.size)
        reply.headers["Content-Range"] = f"bytes {reply.start}-{reply.end - 1}/{reply.content.size}"


@dataclass
class StopRange(ReplyFault):
    """Answer a range with one that ends elsewhere, and say so in ``Content-Range``.

    :param by: How many bytes later (or, below zero, earlier) it ends.
    """

    word = "stop-range"
    by: int = -1

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether it is a range that can end there."""
        return reply is not None and reply.status == 206 and reply.start < reply.end + self.by <= reply.content.size

    def change(self, request: Request, reply: Reply) -> None:
        """Move the end."""
        reply.end += self.by
        reply.headers["Content-Range"] = f"bytes {reply.start}-{reply.end - 1}/{reply.content.size}"


@dataclass
class ContentRange(ReplyFault):
    """Send a range with a ``Content-Range`` that does not tell the truth.

    :param shift: What is added to its first and last position.
    :param last: What is added to its last position alone.
    :param total: The size it claims; ``*`` for none.
    """

    word = "content-range"
    shift: int = 0
    total: str | None = None
    last: int = 0

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether it is a range."""
        return reply is not None and reply.status == 206

    def change(self, request: Request, reply: Reply) -> None:
        """Write the untrue field."""
        first, last = reply.start + self.shift, reply.end - 1 + self.shift + self.last
        reply.headers["Content-Range"] = f"bytes {first}-{last}/{self.total or reply.content.size}"


@dataclass
class Header(ReplyFault):
    """Set a header field, such as ``ETag``, ``Content-MD5`` or ``Content-Range``, to anything.

    :param name: Its name.
    :param value: Its value; empty to leave the field out.
    """

    word = "header"
    name: str
    value: str = ""

    def __post_init__(self) -> None:
        if self.name.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"{self.name} frames the answer; use cut or chunked to break that")

    def change(self, request: Request, reply: Reply) -> None:
        """Set the field."""
        reply.set_header(self.name, self.value or None)


@dataclass
class WrongMd5(ReplyFault):
    """Send a ``Content-MD5`` of something else."""

    word = "wrong-md5"

    def change(self, request: Request, reply: Reply) -> None:
        """Write the untrue field."""
        reply.set_header("Content-MD5", base64.b64encode(b"something else.."[:16]).decode())


@dataclass
class Gzip(ReplyFault):
    """Send the body compressed although nobody asked for it."""

    word = "gzip"

    def change(self, request: Request, reply: Reply) -> None:
        """Choose the encoding."""
        reply.delivery.gzip = True


@dataclass
class Chunked(ReplyFault):
    """Send no ``Content-Length``."""

    word = "chunked"

    def change(self, request: Request, reply: Reply) -> None:
        """Choose the framing."""
        reply.delivery.chunked = True


def _place(reply: Reply, at: int | None, sent: int | None) -> int | None:
    reply.settle()  # only a body has places
    place = at if at is not None else reply.start + (sent or 0)
    return place if reply.start <= place < reply.end and reply.status < 300 else None
