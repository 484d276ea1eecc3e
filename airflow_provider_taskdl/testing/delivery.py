"""A reply's way to the client: whole, or with everything that can happen to it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from airflow_provider_taskdl.testing.exchange import Reply
from airflow_provider_taskdl.testing.state import Seen

_CHUNK = 512 * 1024
_KEPT_SECONDS = 0.5
# The server puts the connection's transport here, so that a connection can be ended in the middle of a body.
TRANSPORT = "taskdl.transport"


async def deliver(reply: Reply, seen: Seen, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a reply.

    :param reply: The reply.
    :param seen: The record that counts status and bytes.
    :param scope: As ASGI has it; so are ``receive``, whose request body was read already, and ``send``.
    """
    reply.settle()
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await _pause(gone, reply.delivery.pauses.get(None, 0.0))
        seen.status = reply.status
        if reply.delivery.wire is not None or reply.delivery.tail:
            await _past_the_server(reply, seen, scope, gone)
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": _head(reply)})
        async for piece in _encoded(reply, gone):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            seen.sent += len(piece)
        if gone.done():
            return
        if reply.delivery.cut_at is not None:
            await _end_connection(scope, gone, reset=reply.delivery.reset)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        gone.cancel()


async def _past_the_server(reply: Reply, seen: Seen, scope: Scope, gone: asyncio.Future[None]) -> None:
    """Put on the wire what no decent server would."""
    delivery, transport = reply.delivery, scope[TRANSPORT]
    if delivery.wire is not None:
        transport.write(delivery.wire)
        while delivery.endless and not gone.done():
            transport.write(delivery.endless * max(1, 4096 // len(delivery.endless)))
            await _pause(gone, 0.001)
        await _end_connection(scope, gone, reset=delivery.reset)
        return
    lines = [b"HTTP/1.1 %d Scripted" % reply.status, *(b"%b: %b" % pair for pair in _head(reply)), b"", b""]
    transport.write(b"\r\n".join(lines))
    async for piece in _pieces(reply, gone):
        transport.write(piece)
        seen.sent += len(piece)
    transport.write(delivery.tail)
    # It looks kept. What the client sends on it next is not heard any more, and ends it.
    await _pause(gone, _KEPT_SECONDS)
    await _end_connection(scope, gone, reset=False)


def _head(reply: Reply) -> list[tuple[bytes, bytes]]:
    delivery = reply.delivery
    if delivery.gzip:
        reply.set_header("Content-Encoding", "gzip")
    elif not delivery.chunked:
        reply.set_header("Content-Length", str(reply.end - reply.start))
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]


async def _encoded(reply: Reply, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
    if not reply.delivery.gzip:
        async for piece in _pieces(reply, gone):
            yield piece
        return
    encoder = zlib.compressobj(wbits=31)
    async for piece in _pieces(reply, gone):
        yield encoder.compress(piece) + encoder.flush(zlib.Z_SYNC_FLUSH)
    if reply.delivery.cut_at is None:
        yield encoder.flush()


async def _pieces(reply: Reply, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
    delivery, position = reply.delivery, reply.start
    end = reply.end if delivery.cut_at is None else delivery.cut_at
    stops = sorted(place for place in delivery.pauses if place is not None)
    # A slow body comes in ten pieces a second.
    most = _CHUNK if delivery.rate is None else max(1, min(_CHUNK, int(delivery.rate / 10)))
    began, first = time.monotonic(), position
    while position < end and not gone.done():
        if position in stops:
            await _pause(gone, delivery.pauses[position])
        until = min([end, position + most, *(stop for stop in stops if stop > position)])
        piece = reply.content.read(position, until - position)
        yield _flipped(piece, position, delivery.flips) if delivery.flips else piece
        position = until
        if delivery.rate is not None:
            await _pause(gone, began + (position - first) / delivery.rate - time.monotonic())


def _flipped(piece: bytes, position: int, flips: set[int]) -> bytes:
    changed = bytearray(piece)
    for place in flips:
        if position <= place < position + len(piece):
            changed[place - position] ^= 0xFF
    return bytes(changed)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pause(gone: asyncio.Future[None], seconds: float) -> None:
    if seconds > 0:
        await asyncio.wait({gone}, timeout=seconds)


async def _end_connection(scope: Scope, gone: asyncio.Future[None], *, reset: bool) -> None:
    transport: asyncio.Transport = scope[TRANSPORT]
    if reset:
        # Without lingering, closing throws away what was not sent and tells the peer with RST.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()  # sends what is buffered, then ends
    # The server counts an answer as abandoned, and stays silent about it, only once the connection is gone.
    await gone
