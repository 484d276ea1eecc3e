"""One question to a service and its answer, which is given no more room and time than an answer can need.

A service, or whatever answers in its place, may send without end, slowly for ever, or a few bytes that unpack to
gigabytes. The client's own time-outs are for one network operation and cannot see that.
"""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import httpx

from airflow_provider_taskdl.apis.base import Answer
from airflow_provider_taskdl.exceptions import MalformedResponseError, ServiceUnavailableError
from airflow_provider_taskdl.redaction import NeverPickled
from airflow_provider_taskdl.wire_log import unlogged

# A listing of 10,000 files with long links is about 7 MB; nothing an API says is much longer.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
# From the first byte of the question to the last one of the answer.
MAX_ANSWER_SECONDS = 300.0
# One packing only, because its unpacking can be bounded.
ACCEPTED = {"Accept": "application/json", "Accept-Encoding": "gzip"}


class Body(NeverPickled):
    """An answer's body, collected and unpacked as it comes.

    :param headers: The answer's header fields.
    :raises MalformedResponseError: It is packed in a way that was not asked for.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        packed = headers.get("content-encoding", "").strip().lower()
        if packed not in ("", "identity", "gzip", "x-gzip"):
            raise MalformedResponseError("the answer is packed in a way that was not asked for")
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if packed.endswith("gzip") else None
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        """Take the next bytes from the wire.

        :raises MalformedResponseError: They cannot be unpacked, or the body is too long.
        """
        if self._unpacker is not None:
            try:
                data = self._unpacker.decompress(data, MAX_ANSWER_BYTES + 1 - len(self._bytes))
            except zlib.error:
                data, self._unpacker = b"", None
                raise MalformedResponseError("the answer cannot be unpacked") from None
            if self._unpacker.unused_data:  # which would be kept, however much came
                raise MalformedResponseError("the answer cannot be unpacked: it goes on behind its end")
        self._bytes += data
        if len(self._bytes) > MAX_ANSWER_BYTES:
            raise MalformedResponseError(f"the answer is longer than {MAX_ANSWER_BYTES // 2**20} MiB", retryable=False)

    def whole(self) -> bytes:
        """Return the body.

        :raises MalformedResponseError: A packed one was cut.
        """
        if self._unpacker is not None and self._bytes and not self._unpacker.eof:
            raise MalformedResponseError("the answer cannot be unpacked: its end is missing")
        return bytes(self._bytes)


class Exchange:
    """Sends requests of a sync client, and ends the ones that take too long from a thread beside them."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def send(self, client: httpx.Client, request: Mapping[str, Any]) -> Answer:
        """Send a request and return its answer.

        :param client: The client.
        :param request: What its ``stream`` takes.
        :raises MalformedResponseError: The answer is too long, or cannot be unpacked.
        :raises ServiceUnavailableError: It took too long.
        :raises httpx.HTTPError: As the client has it.
        """
        with self._limited() as over, unlogged():
            try:
                with client.stream(**request, extensions={"trace": partial(self._watch, over)}) as response:
                    body = Body(response.headers)
                    for data in response.iter_raw():
                        body.add(data)
                if not over.is_set():  # else a body that goes on to the connection's end was cut by us
                    return _answer(response, body)
            except httpx.HTTPError:
                if not over.is_set():
                    raise
        raise _too_slow()

    def _watch(self, over: threading.Event, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            new = info["return_value"].get_extra_info("socket")
            self._sockets = [*(sock for sock in self._sockets if sock.fileno() >= 0), new]
            if over.is_set():
                _shut(new)

    @contextmanager
    def _limited(self) -> Iterator[threading.Event]:
        over = threading.Event()

        def end() -> None:
            over.set()
            for sock in self._sockets:
                _shut(sock)

        timer = threading.Timer(MAX_ANSWER_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            yield over
        finally:
            timer.cancel()


async def asend(client: httpx.AsyncClient, request: Mapping[str, Any]) -> Answer:
    """Async twin of :meth:`Exchange.send`."""

    # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes together with the result.
    with anyio.move_on_after(MAX_ANSWER_SECONDS), unlogged():
        async with client.stream(**request) as response:
            body = Body(response.headers)
            async for data in response.aiter_raw():
                body.add(data)
        return _answer(response, body)
    raise _too_slow()


def _shut(sock: socket.socket) -> None:
    try:
        # Not close(): the thread that waits still holds it, and closing would not wake it.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass


def _answer(response: httpx.Response, body: Body) -> Answer:
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body.whole())


def _too_slow() -> ServiceUnavailableError:
    return ServiceUnavailableError(f"the service did not finish its answer within {MAX_ANSWER_SECONDS:g} s")
