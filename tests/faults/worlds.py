"""One row of the matrix at one destination: what is prepared, run, watched and proved."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Any

from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Fault, Synthetic, Task, TaskFile
from airflow_provider_taskdl.testing.rules import Rule, parse_rule
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.host_rules import HostRules
from airflow_provider_taskdl.transfer.job import DownloadJob, Result
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from tests.faults.destinations import Destination
from tests.faults.rows import PART, Do, Row, line
from tests.transfer.conftest import Certificate
from tests.transfer.harness import lists

ALLOWED = ("127.0.0.1", "localhost")
OLD = b"what was here before"


@cache
def _trusting(chain: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=chain)


@dataclass
class Watch:
    """Everything that ever showed at a destination.

    :ivar seen: Name and digest.
    :ivar looks: How often was looked.
    """

    destination: Destination
    seen: set[tuple[str, str]] = field(default_factory=set)
    looks: int = 0

    def look(self) -> None:
        """Look now."""
        self.seen.update(self.destination.show().items())
        self.looks += 1

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Look all the time, where that is cheap."""
        over = threading.Event()

        def poll() -> None:
            while not over.wait(0.001):
                self.look()

        self.destination.call_after_changes(self.look)
        thread = threading.Thread(target=poll)
        if self.destination.polled:
            thread.start()
        try:
            yield
        finally:
            self.destination.call_after_changes(lambda: None)
            over.set()
            if self.destination.polled:
                thread.join()
            self.look()


class World:
    """A row's task, its faults and its destination.

    :param row: The row.
    :param server: The emulator; its links point to itself until the row says otherwise.
    :param destination: Where the files go.
    :param certificate: For a file host that speaks https.
    """

    def __init__(self, row: Row, server: EmulatorServer, destination: Destination, certificate: Certificate) -> None:
        self.row, self.server, self.destination, self.certificate = row, server, destination, certificate
        self.emulator: Emulator = server.emulator
        self.task: Task = self.emulator.eo_task(row.files, declare_sizes=row.sized)
        self._listed = [(file, file.name, file.declared_size) for file in self.task.files]
        self.truth = {name: {content.sha256} for name, content in row.files.items()}
        self.watch = Watch(destination)
        self.rules: list[tuple[str, Rule]] = []
        self._tls_server: EmulatorServer | None = None

    def prepare(self) -> None:
        """Let go wrong what the row says."""
        facts = {
            "port": self.server.base_url.rpartition(":")[2],
            "soon": formatdate(time.time() + 60, usegmt=True),
            "past": formatdate(time.time() - 3600, usegmt=True),
        }
        for script in self.row.script:
            if callable(script):
                script(self)
                continue
            if not script.startswith("file "):  # of the service: it happens to all files
                rule = self.emulator.fault(script)
                self.rules += [(name, rule) for name in self.row.files]
                continue
            for name, content in self.row.files.items():
                rule = parse_rule(line(script, name, content, **facts))
                self.emulator.rules.append(rule)
                self.rules.append((name, rule))
        if self.row.old:
            for name in self.row.files:
                self.destination.put(name, OLD)
        if self.row.store:
            self.destination.fail(self.row.store)
        self.emulator.fault("file", Do(lambda _: self.watch.look()))

    def happens(self, where: str, fault: Fault, *names: str, **counts: int | None) -> None:
        """Let something go wrong that happens to these files."""
        rule = self.emulator.fault(where, fault, **counts)
        self.rules += [(name, rule) for name in names]

    def change(self, file: TaskFile) -> None:
        """Replace a file at the host; both versions are true."""
        file.change(Synthetic(file.content.size, seed=len(self.truth[file.name]) + 100))
        self.truth[file.name].add(file.content.sha256)

    def links_to(self, origin: str, *, tls: bool = False) -> None:
        """Let the links point elsewhere."""
        port = self.server.base_url.rpartition(":")[2]
        if tls:
            self._tls_server = EmulatorServer(
                self.emulator, certfile=self.certificate.chain, keyfile=self.certificate.key
            )
            self._tls_server.start()
            port = self._tls_server.base_url.rpartition(":")[2]
        self.emulator.link_origin = origin.replace("$port", port)

    def run(self) -> tuple[Result | None, Exception | None]:
        """Run the transfer as a task's try does."""
        client = LinkClient(HostRules(None, ALLOWED), tls=_trusting(self.certificate.chain), timeout=self.row.timeout)
        job = DownloadJob(
            list_files=lists(self.server, self.task), client=client, store=self.destination.store(),
            path_of=lambda name: f"there/{name}", concurrency=2, part_size=PART,
            retry=RetryPolicy(failures=self.row.failures, base=0.01, cap=0.02),
        )  # fmt: skip
        try:
            return job.run(), None
        except Exception as error:  # noqa: BLE001 - whatever it is, the row says what it must be
            return None, error

    def mend(self) -> None:
        """Let everything be well again."""
        self.emulator.clear_faults()
        self.emulator.link_origin = None
        self.task.files[:] = [file for file, _, _ in self._listed]
        for file, name, size in self._listed:
            file.name, file.declared_size = name, size
        self.destination.mend()

    def close(self) -> None:
        """Leave nothing behind."""
        self.mend()
        if self._tls_server is not None:
            self._tls_server.stop()

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest, if there is one."""
        content = self.destination.contents().get(f"_taskdl/{self.task.id}.json")
        return None if content is None else json.loads(content)


class Log(logging.Handler):
    """All that all libraries log, at level DEBUG, as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.args!r}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take everything for a while."""
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.DEBUG)
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)
            root.setLevel(level)
