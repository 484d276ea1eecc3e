"""Short ways to read a file, to run a job, and to list what an emulator holds."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.apis.base import Answer
from airflow_provider_taskdl.apis.eo_analysis import EoAnalysisApi
from airflow_provider_taskdl.apis.eo_market import EoMarketApi
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Synthetic, Task
from airflow_provider_taskdl.transfer import engine
from airflow_provider_taskdl.transfer.client import LinkClient, Response
from airflow_provider_taskdl.transfer.host_rules import HostRules
from airflow_provider_taskdl.transfer.job import DownloadJob
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.reader import RangeReader
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.sinks.base import Store
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.source import Source
from airflow_provider_taskdl.transfer.stop import Cancelled

FAST = RetryPolicy(failures=4, base=0.01, cap=0.02)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DATA = bytes(range(256)) * 8
BIG = Synthetic(6 * 1024 * 1024 + 5)
_TLS = ssl.create_default_context()  # costs more than a small file
FILES: dict[str, Any] = {"b ig.tif": BIG, "empty.csv": b"", "a.json": b'{"a": 1}'}


@contextmanager
def link_client(
    *, allowed: Sequence[str] = LOOPBACK, tls: ssl.SSLContext | None = None, timeout: float = 5.0,
    proxy: str | None = None,
) -> Iterator[LinkClient]:  # fmt: skip
    """A client that is closed at the end."""
    client = LinkClient(HostRules(None, allowed), tls=tls or ssl.create_default_context(), timeout=timeout, proxy=proxy)
    try:
        yield client
    finally:
        client.close()


def body(response: Response) -> bytes:
    """Read an answer to its end and let go of it."""
    try:
        return response.read_some(1 << 20)
    finally:
        response.close()


def get(url: str, fields: Mapping[str, str] | None = None, **options: Any) -> bytes:
    with link_client(**options) as client:
        return body(client.get(url, fields or {}))


def listing(*files: RemoteFile, task: str = "t-1") -> FileListing:
    return FileListing(task, files)


def remote(url: str, name: str = "f", size: int | None = None, expires_at: datetime | None = None) -> RemoteFile:
    return RemoteFile(name, Link(url, expires_at), size)


@dataclass
class Lister:
    """Lists what it is given, the last for ever, and counts; raises what is an error."""

    answers: list[FileListing | Exception]
    calls: int = field(default=0, init=False)

    def __call__(self) -> FileListing:
        answer = self.answers[min(self.calls, len(self.answers) - 1)]
        self.calls += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Read:
    """A file that was read: its bytes, its reader and how often its task was listed anew."""

    data: bytes
    reader: RangeReader
    listings: int


def read(
    url: str,
    *,
    size: int | None = None,
    renewed: Sequence[FileListing | Exception] = (),
    retry: RetryPolicy = FAST,
    timeout: float = 5.0,
    view: int = 1000,
    onto: bytearray | None = None,
    lister: Lister | None = None,
) -> Read:
    """Read a file by its link, as the engine does.

    :param renewed: What later listings give; by default the same link again.
    :param view: Bytes to ask for at once.
    :param onto: Takes the bytes, to look at them after a failure.
    """
    first = listing(remote(url, size=size))
    lister = lister or Lister(list(renewed) or [listing(remote(url, size=size))])
    data = bytearray() if onto is None else onto
    buffer = memoryview(bytearray(view))
    with link_client(timeout=timeout) as client:
        reader = RangeReader(Source(first.files[0]), LinkSource(first, lister, retry), client, retry, threading.Event())
        try:
            while count := reader.readinto(buffer):
                data += buffer[:count]
        finally:
            reader.close()
    return Read(bytes(data), reader, lister.calls)


def lists(server: EmulatorServer, task: Task) -> Callable[[], FileListing]:
    """Return what asks an emulator's service for a task's files."""
    emulator = server.emulator
    if task.service == "market":
        call, headers = EoMarketApi().list_files(task.id), {"X-API-Key": emulator.token}
    else:
        call = EoAnalysisApi().list_files(task.id)
        headers = {emulator.header_name: f"{emulator.header_prefix} {emulator.token}"}

    def ask() -> FileListing:
        url = server.base_url + emulator.eo_prefix + call.path
        asked: Any = {"params": call.query, "json": call.body, "headers": headers}
        response = httpx.request(call.method, url, **asked, trust_env=False, verify=_TLS, timeout=60)
        return call.read(Answer(response.status_code, dict(response.headers), response.content))

    return ask


def job(list_files: Callable[[], FileListing], to: Path | Store, **options: Any) -> DownloadJob:
    """Return a job that may read from this machine."""
    timeout = options.pop("timeout", 5.0)
    store: Store = LocalStore(to) if isinstance(to, Path) else to
    root = str(to) if isinstance(to, Path) else "store"
    client = LinkClient(HostRules(None, LOOPBACK), tls=ssl.create_default_context(), timeout=timeout)
    options = {"path_of": lambda name: f"{root}/{name}", "retry": FAST, **options}
    return DownloadJob(list_files=list_files, client=client, store=store, **options)


def published(root: Path) -> set[str]:
    """Return what shows at a local destination, our own folder left out."""
    return {path.name for path in root.iterdir() if path.name != "_taskdl"} if root.exists() else set()


def leftovers(root: Path) -> set[str]:
    """Return what lies in our own folder besides manifest and checkpoint."""
    own = root / "_taskdl"
    return {path.name for path in own.iterdir() if path.suffix != ".json"} if own.exists() else set()


def manifest(root: Path, task: Task) -> dict[str, Any] | None:
    """Return a local destination's manifest."""
    path = root / "_taskdl" / f"{task.id}.json"
    return json.loads(path.read_bytes()) if path.exists() else None


def checkpoint(root: Path, task: Task) -> list[str] | None:
    """Return the names in a local destination's checkpoint."""
    path = root / "_taskdl" / f"{task.id}.partial.json"
    return [file["name"] for file in json.loads(path.read_bytes())["files"]] if path.exists() else None


def fetched(emulator: Emulator) -> dict[str, int]:
    """Return how often the host was asked for each file since the last call."""
    counts: dict[str, int] = {}
    for seen in emulator.seen("file"):
        counts[seen.names[0]] = counts.get(seen.names[0], 0) + 1
    emulator.requests.clear()
    return counts


def empty(emulator: Emulator) -> None:
    """Take away an emulator's tasks, files, faults and memories."""
    for memory in (emulator.tasks, emulator.objects, emulator.rules, emulator.requests):
        memory.clear()


def split_finely(patch: pytest.MonkeyPatch, part: int) -> None:
    """Let files come in parts of so few bytes, which the engine would not make."""
    patch.setattr(engine, "_MIN_PART", part)
    patch.setattr(engine, "_MIB", part)


class Killed(BaseException):
    """Ends a process without a chance to tidy up, as far as that can be had without ending the tests."""


def killed(*_: object) -> None:
    """Stands for a call that a kill comes before."""
    raise Killed


@dataclass
class GoOn:
    """Is asked whether to go on, and says no the second time."""

    asked: int = field(default=0, init=False)

    def __call__(self) -> None:
        self.asked += 1
        if self.asked > 1:
            raise Cancelled


def until(condition: Callable[[], object]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
