"""The emulated world: tasks, their files, and what was asked of them."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_taskdl.testing.content import as_content
from airflow_provider_taskdl.testing.faults import Fault
from airflow_provider_taskdl.testing.rules import Rule, parse_rule
from airflow_provider_taskdl.testing.samples import access_log_for, rasters_for
from airflow_provider_taskdl.testing.tasks import (
    MARKET_PATH,
    AnyContent,
    Course,
    Service,
    State,
    Task,
    TaskFile,
    object_key,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_REMEMBERED_REQUESTS = 100_000


@dataclass
class Seen:
    """One request that the emulator answered.

    :param kind: The endpoint, as in :class:`~airflow_provider_taskdl.testing.exchange.Request`.
    :param names: The task's id, or the file's name and path.
    :param method: HTTP method.
    :param headers: The request's header fields, names in lower case.
    :param time: When it came, in seconds since the epoch.
    :param status: HTTP status of the answer; 0 while there is none.
    :param sent: Bytes of the body that were handed to the connection.
    :param leaked: Header fields with credentials of an API or cookies, on a request to the file host.
    """

    kind: str
    names: tuple[str, ...]
    method: str
    headers: Mapping[str, str]
    time: float
    status: int = 0
    sent: int = 0
    leaked: tuple[str, ...] = ()


class Emulator:
    """The services and their file host, in memory.

    :param access_key_id: BLS: the one Access Key ID that is known.
    :param secret_access_key: BLS: its Secret Access Key.
    :param security_token: BLS: the session token that requests must carry, for temporary credentials.
    :param token: EO: the API token.
    :param header_name: EO: the header field it is in.
    :param header_prefix: EO: what stands before it there.
    :param eo_prefix: EO: path prefix of the API, such as ``/api/v1``.
    :param status_endpoint: Whether the services can tell a task's state; without it nothing but the link endpoint
        exists.
    :param mirror_codes: EO: give the body's code as HTTP status too, instead of 200.
    :param link_seconds: Life of a link in whole seconds; links end on a whole second, so one lives up to a second less.
    :param expired_status: HTTP status by which the file host refuses an expired link, 400 or 403.
    :param link_origin: ``scheme://host[:port]`` of links; by default what the client asked the API at.
    :param ready_after: Seconds until a created task ends.
    :param starts: When they begin: ``"created"`` or ``"asked"``, with the first question about the task.
    :param make_log: BLS: gives the content of a created task from the request's fields; by default access logs of the
        window that was asked for.
    :param make_results: EO: gives the files of a created task from the request's fields; by default a small raster for
        each algorithm.
    :param clock: Time of tasks and links, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        access_key_id: str = "emulated-access-key",
        secret_access_key: str = "emulated-secret-key",  # noqa: S107 (no secret: the emulator's own)
        security_token: str | None = None,
        token: str = "emulated-token",  # noqa: S107
        header_name: str = "Authorization",
        header_prefix: str = "Bearer",
        eo_prefix: str = "",
        status_endpoint: bool = True,
        mirror_codes: bool = False,
        link_seconds: int = 300,
        expired_status: Literal[400, 403] = 403,
        link_origin: str | None = None,
        ready_after: float = 0.0,
        starts: Literal["created", "asked"] = "created",
        make_log: Callable[[Mapping[str, Any]], AnyContent] | None = None,
        make_results: Callable[[Mapping[str, Any]], Mapping[str, AnyContent]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.access_key_id = access_key_id
        self.secret_access_key = secret_access_key
        self.security_token = security_token
        self.token = token
        self.header_name = header_name
        self.header_prefix = header_prefix
        self.eo_prefix = f"/{eo_prefix.strip('/')}" if eo_prefix.strip("/") else ""
        self.status_endpoint = status_endpoint
        self.mirror_codes = mirror_codes
        self.link_seconds = link_seconds
        self.expired_status = expired_status
        self.link_origin = link_origin
        self.ready_after = ready_after
        self.starts = starts
        self.make_log = make_log or access_log_for
        self.make_results = make_results or rasters_for
        self.now = clock
        self.tasks: dict[tuple[str, str], Task] = {}
        self.objects: dict[str, tuple[Task, TaskFile]] = {}
        self.rules: list[Rule] = []
        self.requests: deque[Seen] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.link_generation = 0
        self._numbers = itertools.count(1)

    def bls_task(
        self,
        content: AnyContent = b"",
        *,
        name: str | None = None,
        id: str | None = None,
        file_dir: str = "bls-test/test/",
        checksums: bool = False,
        request: Mapping[str, Any] | None = None,
        **course: Unpack[Course],
    ) -> Task:
        """Add a BLS download task.

        :param content: The bytes of its one file; a path reads from disk.
        :param name: The file's name; by default made of the id.
        :param id: Its uuid; by default a new one.
        :param file_dir: ``bucket/dir/`` of the file; empty for a place that the service does not tell.
        :param checksums: As for :class:`TaskFile`.
        :param request: Fields of the description, such as ``logStoreName``.
        :param course: How it goes: ``ready_after``, ``ends`` and so on, as for :meth:`eo_task`.
        :returns: The task.
        """
        task_id = id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"task {next(self._numbers)}"))
        task = self._add("bls", task_id, course)
        task.request.update({"logStoreName": "access-log", "project": "default", "format": "json", **(request or {})})
        task.request["fileDir"] = file_dir
        file_name = name or f"{task.request['logStoreName']}_{task_id}.{task.request['format']}"
        self.add_file(task, file_name, content, checksums=checksums, directory=file_dir or f"bls-download/{task_id}/")
        return task

    def eo_task(
        self,
        files: Mapping[str, AnyContent] | None = None,
        *,
        id: str | int | None = None,
        declare_sizes: bool = True,
        checksums: bool = False,
        **course: Unpack[Course],
    ) -> Task:
        """Add an analysis task.

        :param files: File name to bytes; a path reads from disk. :meth:`add_file` adds more, also of a name twice.
        :param id: Its id; by default a new one.
        :param declare_sizes: Whether the service names the files' sizes.
        :param checksums: As for :class:`TaskFile`.
        :param course: How it goes: ``ready_after``, ``queued_for``, ``ends``, ``reason`` and ``unready`` as for
            :class:`~airflow_provider_taskdl.testing.Task`, and ``starts``: ``"created"`` (default) or ``"asked"``,
            when the time to ``ready_after`` begins.
        :returns: The task.
        """
        task_id = str(id) if id is not None else str(1_992_775_676_926_095_360 + next(self._numbers))
        task = self._add("eo", task_id, course)
        for name, content in (files or {}).items():
            self.add_file(task, name, content, declared_size="real" if declare_sizes else None, checksums=checksums)
        return task

    def market_order(
        self, files: Mapping[str, AnyContent], *, id: str | int | None = None, **course: Unpack[Course]
    ) -> Task:
        """Add an order of the market, whose links have neither names nor sizes.

        :param files: File name to bytes; a path reads from disk.
        :param id: Its number; by default a new one.
        :param course: How it goes, as for :meth:`eo_task`.
        :returns: The order.
        """
        order = self._add("market", str(id) if id is not None else f"O{20260101000 + next(self._numbers)}", course)
        for name, content in files.items():
            bytes_, path = as_content(content), f"{MARKET_PATH}/{next(self._numbers)}"
            order.files.append(TaskFile(name, bytes_, path, None, modified=self.now()))
            self.objects[path] = (order, order.files[-1])
        return order

    def add_file(
        self,
        task: Task,
        name: str,
        content: AnyContent,
        *,
        declared_size: int | Literal["real"] | None = "real",
        checksums: bool = False,
        directory: str | None = None,
    ) -> TaskFile:
        """Add a file to a task.

        :param task: The task.
        :param name: The file's name.
        :param content: Its bytes; a path reads from disk.
        :param declared_size: The size that the service names: the real one, another, or none.
        :param checksums: As for :class:`TaskFile`.
        :param directory: ``bucket/dir/`` at the file host.
        :returns: The file.
        """
        bytes_ = as_content(content)
        size = bytes_.size if declared_size == "real" else declared_size
        folder = (directory or f"eo-results/{task.id}").strip("/")
        first = path = f"/{folder}/{object_key(name, len(task.files))}"
        numbers = itertools.count(1)
        while path in self.objects:  # another task's file of that name, or this one's
            path = f"{first}-{next(numbers)}"
        file = TaskFile(name, bytes_, path, size, checksums, modified=self.now())
        task.files.append(file)
        self.objects[path] = (task, file)
        return file

    def remove(self, task: Task) -> None:
        """Forget a task and its files."""
        del self.tasks[task.service, task.id]
        for file in task.files:
            self.objects.pop(file.path, None)

    def find(self, service: str, task_id: str) -> Task | None:
        """Return the task of that id, if it is known."""
        return self.tasks.get((service, task_id))

    def state_of(self, task: Task) -> State:
        """Return a task's state now."""
        return task.state_at(self.now())

    def expire_links(self) -> None:
        """Let every link that was given until now be refused as expired."""
        self.link_generation += 1

    def fault(
        self, where: str, action: Fault | None = None, *, times: int | None = None, after: int | None = None
    ) -> Rule:
        """Let requests go wrong.

        :param where: ``kind`` or ``kind:pattern``, such as ``"file:*.tif"``; without ``action`` a whole rule as text,
            such as ``"file:big.bin cut at=1000 times=2"``.
        :param action: What goes wrong.
        :param times: How many requests; all by default.
        :param after: How many are let through before.
        :returns: The rule, which counts the requests it ``fired`` at.
        :raises ValueError: The text cannot be understood.
        """
        rule = parse_rule(where) if action is None else Rule.at(where, action)
        rule.times = rule.times if times is None else times
        rule.after = rule.after if after is None else after
        self.rules.append(rule)
        return rule

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self.rules.clear()

    def seen(self, kind: str = "*", name: str = "*") -> list[Seen]:
        """Return the requests of a kind about a task or file, in the order they came.

        :param kind: The endpoint, or a pattern.
        :param name: The task's id, the file's name or path, or a pattern.
        """
        return [
            seen
            for seen in tuple(self.requests)
            if fnmatchcase(seen.kind, kind) and (name == "*" or any(fnmatchcase(n, name) for n in seen.names))
        ]

    def count(self, kind: str = "*", name: str = "*") -> int:
        """Return how many requests :meth:`seen` gives."""
        return len(self.seen(kind, name))

    def bytes_sent(self, kind: str = "file", name: str = "*") -> int:
        """Return how many bytes of bodies were sent in answer to the requests that :meth:`seen` gives."""
        return sum(seen.sent for seen in self.seen(kind, name))

    @property
    def leaks(self) -> list[Seen]:
        """The requests that carried an API's credentials or cookies to the file host."""
        return [seen for seen in self.seen("file") if seen.leaked]

    def _add(self, service: Service, task_id: str, course: Course) -> Task:
        if (service, task_id) in self.tasks:
            raise ValueError(f"there is a {service} task {task_id!r} already")
        now, facts = self.now(), dict(course)
        starts = facts.pop("starts", "created")
        if starts not in ("created", "asked"):
            raise ValueError(f"starts must be 'created' or 'asked', not {starts!r}")
        task = Task(service, task_id, [], now, now if starts == "created" else None, **facts)  # type: ignore[arg-type]
        self.tasks[service, task_id] = task
        return task
