"""The least that Python can do: one GET with the standard library, written to a file as it comes.

Run as ``python -m benchmarks.floor URL FILE CERTIFICATE [DIGEST]``; with ``sha256`` it also hashes what comes.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
import sys
from urllib.parse import urlsplit


def main(url: str, target: str, certificate: str, digest: str = "") -> None:
    """Fetch one file."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context)
    connection.request("GET", parts.path)
    answer = connection.getresponse()
    if answer.status != 200:
        sys.exit(f"HTTP {answer.status}")
    running = hashlib.new(digest) if digest else None
    buffer = memoryview(bytearray(1024 * 1024))
    with open(target, "wb", buffering=0) as file:
        while count := answer.readinto(buffer):
            if running is not None:
                running.update(buffer[:count])
            file.write(buffer[:count])


if __name__ == "__main__":
    main(*sys.argv[1:])
