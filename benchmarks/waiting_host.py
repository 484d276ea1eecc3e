"""A service whose tasks are never ready: canned answers over TLS, so that its own work is small and always the same.

Run as ``python -m benchmarks.waiting_host PORT CERTIFICATE KEY``; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

_RUNNING = json.dumps({"code": 200, "message": "OK", "data": {"id": "1", "taskStatus": 2, "taskItems": []}})


class _Host(asyncio.Protocol):
    requests = 0
    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._read = transport, b""
        _Host.connections += 1

    def data_received(self, data: bytes) -> None:
        *heads, self._read = (self._read + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1]
            if path == b"/counts":
                body = json.dumps({"requests": _Host.requests, "connections": _Host.connections})
                self._answer("200 OK", body)
                continue
            _Host.requests += 1
            if path.startswith(b"/absent"):  # what the sensor of the HTTP provider takes for "not yet"
                self._answer("404 Not Found", "{}")
            else:
                self._answer("200 OK", _RUNNING)

    def _answer(self, status: str, body: str) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write((head + body).encode())


async def main(port: int, certificate: str, key: str) -> None:
    """Serve until the standard input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Host, "127.0.0.1", port, ssl=context, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4]))
