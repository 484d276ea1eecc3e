"""A file host that gives each connection so many bytes per second, as many hosts do.

nginx's ``limit_rate`` is no such host: it counts anew for each request and gives a second's worth at once, so that a
client which asks for ranges smaller than that is not held back at all. Here a connection's bytes count, whatever number
of requests they answer.

Run as ``python -m benchmarks.capped_host PORT CERTIFICATE KEY FOLDER BYTES_PER_SECOND``.
"""

from __future__ import annotations

import mmap
import re
import ssl
import sys
import time
import weakref
from pathlib import Path

from benchmarks.tls_server import Request, serve

_PIECE = 128 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class Pace:
    """How much a connection may send by now.

    :param rate: Bytes per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = 0.0

    def wait(self, count: int) -> None:
        """Wait until ``count`` bytes may follow what was sent."""
        now = time.monotonic()
        self._due = max(self._due, now)  # time that was not used is lost: no bursts
        if self._due > now:
            time.sleep(self._due - now)
        self._due += count / self._rate


class CappedHost:
    """Serves the files of a folder.

    :param folder: The folder.
    :param rate: Bytes per second and connection.
    """

    def __init__(self, folder: Path, rate: float) -> None:
        self._folder, self._rate = folder, rate
        self._paces: weakref.WeakKeyDictionary[ssl.SSLSocket, Pace] = weakref.WeakKeyDictionary()

    def __call__(self, request: Request) -> None:
        """Answer a request."""
        path = self._folder / request.path
        if not path.is_file():
            request.answer(404)
            return
        size = path.stat().st_size
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{size:x}"', "Content-Type": "application/octet-stream"}
        wanted = _RANGE.match(request.headers.get("range", ""))
        start, end = 0, size
        if wanted:
            start = int(wanted[1])
            end = min(size, int(wanted[2]) + 1) if wanted[2] else size
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if start >= end:
            request.answer(416)
            return
        request.answer(206 if wanted else 200, headers=headers, size=end - start)
        if request.method == "GET":
            self._send(request.output, path, start, end)

    def _send(self, output: ssl.SSLSocket, path: Path, start: int, end: int) -> None:
        pace = self._paces.setdefault(output, Pace(self._rate))
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for position in range(start, end, _PIECE):
                piece = content[position : min(position + _PIECE, end)]
                pace.wait(len(piece))
                output.sendall(piece)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), CappedHost(Path(sys.argv[4]), float(sys.argv[5])))
