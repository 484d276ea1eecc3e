"""A task at one of the services, and its files."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from airflow_provider_taskdl.testing.content import Content, as_content

Service = Literal["bls", "eo", "market"]
State = Literal["waiting", "running", "success", "failed", "expired"]
Unready = Literal["empty", "null", "not-found", "link"]
AnyContent = Content | bytes | str | os.PathLike[str]

# Where the market has all its files, each by its number in the query.
MARKET_PATH = "/market/product/download"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~ ")


class Course(TypedDict, total=False):
    """How a task goes: its fields of :class:`Task`, and when its time begins to run.

    ``starts`` is ``"created"`` (default) or ``"asked"``: from the first question about it.
    """

    ready_after: float
    queued_for: float
    ends: State
    reason: str | None
    unready: Unready
    starts: Literal["created", "asked"]


@dataclass
class TaskFile:
    """A file of a task.

    :param name: Its name in the service's answers; nothing checks it, so that clients can be shown bad ones.
    :param content: Its bytes.
    :param path: Its decoded path at the file host.
    :param declared_size: The size that the service names; ``None`` names none. Only the analysis platform names sizes.
    :param checksums: Send ``Content-MD5`` and ``x-bce-content-crc32``; costs reading a content once.
    :param modified: When it was last changed, in seconds since the epoch.
    :param version: Grows with each change; part of the entity tag.
    """

    name: str
    content: Content
    path: str
    declared_size: int | None
    checksums: bool = False
    modified: float = 0.0
    version: int = 0

    @property
    def etag(self) -> str:
        """The strong entity tag, with its quotes."""
        text = f"{self.version} {self.content.identity}"
        return f'"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"'

    def change(self, content: AnyContent | None = None) -> None:
        """Replace the file at the host by another version.

        :param content: Its new bytes; without them only tag and time change.
        """
        if content is not None:
            self.content = as_content(content)
        self.version += 1
        self.modified = max(time.time(), self.modified + 1)


@dataclass
class Task:
    """A task at one of the services.

    :param service: ``bls``, ``eo`` or ``market``.
    :param id: Its id.
    :param files: Its files; a BLS task has one.
    :param created: When it was created, by the emulator's clock.
    :param started: When its time began to run; ``None`` until the first question about it.
    :param ready_after: Seconds until it ends.
    :param queued_for: How many of them it waits before it runs.
    :param ends: How it ends.
    :param reason: Why it failed, as the service says it.
    :param unready: What the link endpoint answers while there are no files: an ``empty`` list or link, a ``null``
        result, ``not-found``, or a ``link`` to a file that is not there yet.
    :param request: The fields that the task was created with.
    """

    service: Service
    id: str
    files: list[TaskFile]
    created: float
    started: float | None
    ready_after: float = 0.0
    queued_for: float = 0.0
    ends: State = "success"
    reason: str | None = None
    unready: Unready = "empty"
    request: dict[str, Any] = field(default_factory=dict)

    def state_at(self, now: float) -> State:
        """Return the state at a time of the emulator's clock; this starts a task that waits for its first question."""
        if self.started is None:
            self.started = now
        age = now - self.started
        if age >= self.ready_after:
            return self.ends
        return "waiting" if age < self.queued_for else "running"

    def finish(self, state: State = "success", reason: str | None = None) -> None:
        """End the task now.

        :param state: How.
        :param reason: Why, for a failure.
        """
        self.ready_after, self.queued_for, self.ends, self.reason = 0.0, 0.0, state, reason

    def file(self, name: str) -> TaskFile:
        """Return the file of that name.

        :raises KeyError: There is none.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(name)


def object_key(name: str, number: int) -> str:
    """Return what a file is called at the host, where not every name can be part of a path.

    :param name: The file's name.
    :param number: Its number in the task.
    """
    plain = bool(name.strip(". ")) and set(name) <= _PLAIN and len(name) < 256
    return name if plain else f"object-{number}"
