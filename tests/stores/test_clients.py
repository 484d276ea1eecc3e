"""The stores' own clients, at a server that does what no store should do."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.transfer.sinks import async_store, gcs_requests
from airflow_provider_taskdl.transfer.sinks.base import Origin
from tests.stores.conftest import STORES
from tests.stores.places import Azure, Gcs

MIB = 1024 * 1024
needs_google = pytest.mark.skipif("gcs" not in STORES, reason="Google's client has an environment of its own")


class Odd(BaseHTTPRequestHandler):
    """Answers a look with nothing special, and takes nothing.

    :cvar answer: What a look gives, as status and body; ``None`` lets it wait.
    :cvar over: When the waiting ends.
    """

    answer: ClassVar[tuple[int, bytes] | None] = (200, b"{}")
    over: ClassVar[threading.Event]

    def do_GET(self) -> None:
        if self.answer is None:
            self.over.wait()
            return
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.over.wait()

    do_PUT = do_POST  # noqa: N815 - as it is called

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def odd_server(kind: type[Odd] = Odd) -> Iterator[str]:
    handler = type("Handler", (kind,), {"over": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            handler.over.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


def store_at(url: str, kind: type[Azure] | type[Gcs], patch: pytest.MonkeyPatch) -> Any:
    """Return a store whose connection leads to a server."""
    place = kind(url)
    conn_id = f"odd_{urlsplit(url).port}"  # Airflow keeps the client of each connection
    for name, value in place.environment().items():
        patch.setenv(f"AIRFLOW_CONN_{conn_id}".upper() if name.startswith("AIRFLOW_CONN_") else name, value)
    return Destination(f"{kind.scheme}://{conn_id}@bucket/x").store


@pytest.mark.parametrize("kind", [kind for name, kind in (("azure", Azure), ("gcs", Gcs)) if name in STORES])
def test_a_store_that_takes_no_more_bytes_is_not_waited_for(
    kind: type[Azure] | type[Gcs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_store, "PATIENCE", 0.5)
    with odd_server() as url:
        sink = store_at(url, kind, monkeypatch).open("f", Origin(40 * MIB), part_size=32 * MIB, replace=True)
        data = memoryview(bytes(32 * MIB))  # more than what is on its way at a time
        with pytest.raises(DestinationError, match="takes no more bytes"):
            sink.write(0, data)
        sink.abort()


@needs_google
def test_google_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Odd):
        answer = None

    async def at_once(seconds: float) -> None:
        """Wait for nothing between two tries of the client's."""

    monkeypatch.setattr(gcs_requests, "PATIENCE", 0.2)
    monkeypatch.setattr(sys.modules["gcsfs.retry"], "asyncio", SimpleNamespace(sleep=at_once))
    with odd_server(Mute) as url, pytest.raises(DestinationError, match=r"[Tt]imeout"):
        store_at(url, Gcs, monkeypatch).read_small("s")


@needs_google
@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (403, "somebody@x has no right to read", "with HTTP 403: somebody@x has no right to read"),
        (400, "an invalid name", "with HTTP 400: an invalid name"),
        (400, "no such thing", "with HTTP 400: no such thing"),
        (401, "who are you?", "with HTTP 401: who are you?"),
    ],
)
def test_googles_reason_is_told(monkeypatch: pytest.MonkeyPatch, status: int, reason: str, said: str) -> None:
    class Refusing(Odd):
        answer = (status, json.dumps({"error": {"code": status, "message": reason}}).encode())

    with odd_server(Refusing) as url, pytest.raises(DestinationError) as refused:
        store_at(url, Gcs, monkeypatch).read_small("s")
    assert said in refused.value.message
    assert refused.value.code == str(status)


@needs_google
def test_what_google_says_of_nothing_and_of_an_empty_object_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(Odd):
        answer = (404, b"Not Found")

    class Empty(Odd):
        answer = (416, b"Request range not satisfiable")

    for kind, content in ((Absent, None), (Empty, b"")):
        with odd_server(kind) as url:
            assert store_at(url, Gcs, monkeypatch).read_small("s") == content
