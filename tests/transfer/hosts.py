"""File hosts that misbehave byte by byte: a socket, a function, and a record of what was asked."""

from __future__ import annotations

import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

Answer = bytes | Callable[["Visit"], None]


@dataclass
class Request:
    """A request as it stood on the wire.

    :param line: The request line.
    :param fields: Header fields, names in lower case.
    :param connection: Which connection it came on, from 0.
    """

    line: str
    fields: dict[str, str]
    connection: int

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def start(self) -> int:
        """The first byte asked for."""
        return int(self.fields.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


class Visit:
    """One connection, in the hands of an answer."""

    def __init__(self, sock: socket.socket, request: Request, stop: threading.Event) -> None:
        self.sock, self.request, self._stop = sock, request, stop
        self.over = False

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        """End the connection in an orderly way."""
        self.over = True

    def reset(self) -> None:
        """End it with RST: the other side loses what it has not read yet."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.over = True

    def hang(self, seconds: float = 60.0) -> None:
        """Say nothing more, until the test ends."""
        self._stop.wait(seconds)


def head(status: str = "200 OK", /, **fields: object) -> bytes:
    """Return the head of an answer; ``_`` in a field's name stands for ``-``, ``None`` leaves it out."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def whole(body: bytes, status: str = "200 OK", /, **fields: object) -> bytes:
    """Return an answer with ``Content-Length``."""
    return head(status, **{"Content_Length": len(body), **fields}) + body


def chunked(*chunks: bytes, end: bool = True, **fields: object) -> bytes:
    """Return an answer in chunks; without ``end`` the mark that there are no more is missing."""
    parts = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    return head(**fields, Transfer_Encoding="chunked") + parts + (b"0\r\n\r\n" if end else b"")


def ranged(data: bytes, request: Request, /, **fields: object) -> bytes:
    """Return what a decent host answers, for a request with or without a range."""
    if "range" not in request.fields:
        return whole(data, **fields)
    last = f"bytes {request.start}-{len(data) - 1}/{len(data)}"
    return whole(data[request.start :], "206 Partial Content", **{"Content_Range": last, **fields})


class Host:
    """A file host on a port of this machine.

    :param answers: One per request, in order, the last one for all that follow; or a function of the request.
    :param tls: TLS settings of the server side.
    """

    def __init__(
        self, *answers: Answer, by: Callable[[Request], Answer] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answers, self._by, self._tls = list(answers), by, tls
        self._stop = threading.Event()
        self._open: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, target: str = "/f?sig=x", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{target}"

    @property
    def starts(self) -> list[int]:
        """From which byte each request asked."""
        return [request.start for request in self.requests]

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # or its thread would wait on
        self._listener.close()
        while not self._open.empty():
            self._open.get().close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._open.put(sock)
            while (request := read_request(sock, number)) is not None:
                visit = Visit(sock, request, self._stop)
                answer = self._answer(request)
                if isinstance(answer, bytes):
                    visit.send(answer)
                else:
                    answer(visit)
                if visit.over:
                    break
        except OSError:
            pass  # the client went away, as it may
        finally:
            sock.close()

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            if self._by is not None:
                return self._by(request)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def read_request(sock: socket.socket, connection: int = 0) -> Request | None:
    """Return the next request on a connection, or nothing at its end."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            return None
        data += byte
    line, *rest = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields: Mapping[str, str] = {
        name.strip().lower(): value.strip() for name, _, value in (r.partition(":") for r in rest)
    }
    return Request(line, dict(fields), connection)


@dataclass
class Once:
    """Answers that differ by how often was asked: the first ``times`` requests get one, the rest another.

    :param first: For the first requests.
    :param then: For the others.
    :param times: How many are first.
    """

    first: Callable[[Request], Answer]
    then: Callable[[Request], Answer]
    times: int = 1
    asked: int = field(default=0, init=False)

    def __call__(self, request: Request) -> Answer:
        self.asked += 1
        return (self.first if self.asked <= self.times else self.then)(request)


def sends(data: bytes, then: str) -> Callable[[Visit], None]:
    """Return an answer that sends ``data`` and then ends with ``close``, ``reset`` or ``hang``."""

    def answer(visit: Visit) -> None:
        visit.send(data)
        getattr(visit, then)()

    return answer
