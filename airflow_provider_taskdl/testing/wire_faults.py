"""What a host can put on the wire that is no decent HTTP, or says something else than it does."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from airflow_provider_taskdl.testing.content import Memory
from airflow_provider_taskdl.testing.exchange import Reply, Request
from airflow_provider_taskdl.testing.faults import InsteadFault, ReplyFault

_BOUNDARY = "taskdl-part"


@dataclass
class Raw(InsteadFault):
    r"""Send bytes that need not be HTTP, then end the connection. ``\r\n`` and kin may be written out.

    :param text: The bytes, as Latin-1; none by default.
    :param endless: What follows them again and again, until the client goes.
    :param reset: End the connection with a reset (RST) instead of an orderly close.
    """

    word = "raw"
    text: str = ""
    endless: str = ""
    reset: bool = False

    def reply(self, request: Request) -> Reply:
        """Return the bytes."""
        reply = Reply(0)
        reply.delivery.wire, reply.delivery.endless = _bytes(self.text), _bytes(self.endless)
        reply.delivery.reset = self.reset
        return reply


@dataclass
class Tail(ReplyFault):
    """Send more than the length in the head announces, and keep the connection.

    :param text: What follows the body, as in :class:`Raw`.
    """

    word = "tail"
    text: str = "more than was announced"

    def change(self, request: Request, reply: Reply) -> None:
        """Add it."""
        reply.delivery.tail = _bytes(self.text)


@dataclass
class Multipart(ReplyFault):
    """Send a range as ``multipart/byteranges``, which is for several ranges only."""

    word = "multipart"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether it is a range."""
        return reply is not None and reply.status == 206

    def change(self, request: Request, reply: Reply) -> None:
        """Wrap the range up."""
        about = f"Content-Type: application/octet-stream\r\nContent-Range: {reply.headers['Content-Range']}"
        body = reply.content.read(reply.start, reply.end - reply.start)
        reply.content = Memory(
            f"--{_BOUNDARY}\r\n{about}\r\n\r\n".encode() + body + f"\r\n--{_BOUNDARY}--\r\n".encode()
        )
        reply.start, reply.end = 0, reply.content.size
        reply.set_header("Content-Range", None)
        reply.set_header("Content-Type", f"multipart/byteranges; boundary={_BOUNDARY}")


def _bytes(text: str) -> bytes:
    return codecs.decode(text.encode("latin-1"), "unicode_escape").encode("latin-1")
