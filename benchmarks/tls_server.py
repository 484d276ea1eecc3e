"""A small HTTPS server, one thread per connection: what the hosts written in Python have in common.

Not the standard library's: that one spends more on a request's head than some of the clients that are measured.
"""

from __future__ import annotations

import io
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

_SCRATCH = 1024 * 1024


@dataclass
class Request:
    """A request, with its body still to be read.

    :ivar path: Decoded, without its leading slash.
    :ivar headers: Names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    input: io.BufferedReader
    output: ssl.SSLSocket
    scratch: memoryview
    _is_read: bool = False

    @property
    def is_chunked(self) -> bool:
        """Whether the body's length is not announced."""
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    @property
    def length(self) -> int:
        """The announced length of the body."""
        return int(self.headers.get("content-length", 0))

    def read(self) -> bytes:
        """Return the body."""
        self._is_read = True
        return b"".join(self.input.read(length) for length in self._pieces())

    def swallow(self) -> None:
        """Read the body, unless that was done, and forget it."""
        if self._is_read:
            return
        self._is_read = True
        for length in self._pieces():
            left = length
            while left:
                count = self.input.readinto1(self.scratch[:left])
                if not count:
                    raise ConnectionError("the client went away")
                left -= count

    def _pieces(self) -> Iterator[int]:
        if not self.is_chunked:
            yield self.length
            return
        while size := int(self.input.readline().partition(b";")[0], 16):
            yield size
            self.input.readline()
        while self.input.readline().strip():
            pass

    def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, size: int | None = None
    ) -> None:
        """Send an answer's head, and its body unless the request was a HEAD.

        :param size: The length to announce, where the body is sent by the caller or not at all.
        """
        self.swallow()
        lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body) if size is None else size}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        self.output.sendall(head if self.method == "HEAD" else head + body)


Handler = Callable[[Request], None]


def serve(port: int, certificate: Path, key: Path, handler: Handler) -> None:
    """Serve on loopback until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_talk, args=(connection, context, handler), daemon=True).start()


def _talk(plain: socket.socket, context: ssl.SSLContext, handler: Handler) -> None:
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    scratch = memoryview(bytearray(_SCRATCH))
    try:
        with context.wrap_socket(plain, server_side=True) as connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                handler(_request(line.decode("latin-1"), reader, connection, scratch))
    except (OSError, ValueError):
        return  # the client went away
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        raise


def _request(line: str, reader: io.BufferedReader, output: ssl.SSLSocket, scratch: memoryview) -> Request:
    method, target, _ = line.split(" ", 2)
    headers = {}
    while field_line := reader.readline().strip():
        name, _, value = field_line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    if headers.get("expect", "").lower() == "100-continue":
        output.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    options = dict(parse_qsl(query, keep_blank_values=True))
    return Request(method, unquote(path).lstrip("/"), options, headers, reader, output, scratch)
