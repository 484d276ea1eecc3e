"""The destinations of the fault matrix: each can be looked at from behind, and broken."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import fsspec
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from fsspec.implementations.memory import MemoryFile

from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER, Store
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
from airflow_provider_taskdl.transfer.sinks.s3_requests import Tries
from tests.s3 import LOST, Fault, S3Front, Seen, uploads_in

_TRIES = Tries(count=4, base=0.01, cap=0.02)
_TMPFS_BYTES = 32 * 1024
_LONG = 4096  # a write of the big file


class Destination(ABC):
    """A directory of some store.

    :ivar polled: Whether looking at it is so cheap that it can be done all the time.
    :ivar refusals: How often it failed.
    """

    polled = True
    refusals = 0

    def call_after_changes(self, look: Callable[[], None]) -> None:
        """Call something after whatever may have changed what shows, if that can be told."""
        return

    @abstractmethod
    def store(self) -> Store:
        """Return the store as a new process would make it."""

    @abstractmethod
    def contents(self) -> dict[str, bytes]:
        """Return everything that shows, by name; what is our own as well."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Put a file there."""

    @abstractmethod
    def fail(self, how: str) -> None:
        """Break it."""

    @abstractmethod
    def mend(self) -> None:
        """Let it be whole again."""

    def uploads(self) -> list[str]:
        """Return the uploads that were begun and neither completed nor given up."""
        return []

    def signatures(self) -> set[str]:
        """Return the signatures that the transfer has made for this store."""
        return set()

    def requests(self) -> int:
        """Return how many requests the transfer has made to this store, if that can be told."""
        return 0

    def show(self) -> dict[str, str]:
        """Return what shows under a file's name: name to digest."""
        return {
            name: hashlib.sha256(data).hexdigest()
            for name, data in self.contents().items()
            if not name.startswith(f"{OWN_FOLDER}/")
        }


class Disk(Destination):
    """A directory on this machine."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self._patch, self._mounted = root, patch, False

    def store(self) -> Store:
        return LocalStore(self.root)

    def contents(self) -> dict[str, bytes]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            try:
                if path.is_file():
                    found[path.relative_to(self.root).as_posix()] = path.read_bytes()
            except FileNotFoundError:
                pass  # it was moved since
        return found

    def show(self) -> dict[str, str]:
        found = {}
        with os.scandir(self.root) as entries:
            for name in [entry.name for entry in entries if entry.name != OWN_FOLDER]:
                found[name] = hashlib.sha256((self.root / name).read_bytes()).hexdigest()
        return found

    def put(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    def fail(self, how: str) -> None:
        if how == "full":
            if not self._mount():
                self._break("pwrite", errno.ENOSPC)
        elif how == "read-only":
            if not self._mount(read_only=True):
                self._break("mkdir", errno.EROFS)
        elif how == "full in the middle":
            self._break("pwrite", errno.ENOSPC, after=2, least=_LONG)
        elif how == "revoked in the middle":
            self._break("pwrite", errno.ESTALE, after=2, least=_LONG)
            self._break("replace", errno.ESTALE)
        elif how == "refuses the name":
            self._break("replace", errno.EACCES)
        else:
            raise ValueError(how)

    def mend(self) -> None:
        self._patch.undo()
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.root)], check=True)
            self._mounted = False
        self.root.chmod(0o755)

    def _mount(self, *, read_only: bool = False) -> bool:
        options = f"size={_TMPFS_BYTES}{',ro' if read_only else ''}"
        command = ["mount", "-t", "tmpfs", "-o", options, "taskdl-test", str(self.root)]
        try:
            self._mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except OSError:
            self._mounted = False
        self.refusals += self._mounted
        return self._mounted

    def _break(self, call: str, number: int, *, after: int = 0, least: int = 0) -> None:
        real, calls = getattr(os, call), iter(range(after))

        def broken(*args: Any, **kwargs: Any) -> Any:
            if (not least or len(args[1]) >= least) and next(calls, None) is None:
                self.refusals += 1
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        self._patch.setattr(os, call, broken)


class Bucket(Destination):
    """A prefix in a bucket of a real S3 server, with a front before it that can refuse.

    Only requests through the front change anything, so it is looked at after each of them.
    """

    polled = False

    def __init__(self, front: S3Front, bucket: str, prefix: str, client: Any, admin: Any) -> None:
        self._front, self._client, self._admin = front, client, admin
        self.bucket, self.prefix = bucket, prefix
        self._digests: dict[tuple[str, ...], str] = {}

    def store(self) -> Store:
        return S3Store(self._client, self.bucket, self.prefix, min_part_size=1, tries=_TRIES)

    def contents(self) -> dict[str, bytes]:
        return {name: self._content(name) for name, _ in self._list()}

    def show(self) -> dict[str, str]:
        for _ in range(5):
            try:
                return self._show()
            except (BotoCoreError, ClientError):
                continue  # an object was replaced while it was looked at
        raise AssertionError("the bucket cannot be looked at")

    def _show(self) -> dict[str, str]:
        found = {}
        for name, version in self._list():
            if not name.startswith(f"{OWN_FOLDER}/"):
                if version not in self._digests:
                    self._digests[version] = hashlib.sha256(self._content(name)).hexdigest()
                found[name] = self._digests[version]
        return found

    def _list(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        found = self._admin.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/").get("Contents", ())
        for entry in found:
            version = (entry["Key"], entry["ETag"], str(entry["Size"]), str(entry["LastModified"]))
            yield entry["Key"].removeprefix(f"{self.prefix}/"), version

    def _content(self, name: str) -> bytes:
        content: bytes = self._admin.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")["Body"].read()
        return content

    def put(self, name: str, data: bytes) -> None:
        self._admin.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=data)

    def uploads(self) -> list[str]:
        return [key for key in uploads_in(self._admin, self.bucket) if key.startswith(f"{self.prefix}/")]

    def call_after_changes(self, look: Callable[[], None]) -> None:
        self._front.after = look

    def requests(self) -> int:
        return len(self._front.seen)

    def signatures(self) -> set[str]:
        return {value for seen in self._front.seen for value in parse_qs(seen.query).get("X-Amz-Signature", ())}

    def fail(self, how: str) -> None:
        rule = {
            "full": lambda: _refusing(507, "XMinioStorageFull", _sends),
            "full in the middle": lambda: _refusing(507, "XMinioStorageFull", _is_part, after=2),
            "read-only": lambda: _refusing(403, "AccessDenied", _writes),
            "revoked in the middle": lambda: _revoked(after=2),
            "busy for a moment": lambda: _refusing(503, "SlowDown", _sends, times=3),
            "busy for ever": lambda: _refusing(503, "SlowDown", _sends),
            "loses connections": lambda: _answering(b"", _sends, times=3),
            "loses answers": lambda: _answering(LOST, _sends, times=3),
            "refuses the name": lambda: _refusing(403, "AccessDenied", lambda seen: _completes(seen) or _puts(seen)),
            "loses the last answer": lambda: _answering(LOST, _completes, times=1),
            "fails under a 200": lambda: _refusing(200, "InternalError", _completes),
        }[how]()

        def counting(seen: Seen) -> Fault | None:
            fault = rule(seen)
            self.refusals += fault is not None
            return fault

        self._front.rule = counting

    def mend(self) -> None:
        self._front.rule = lambda seen: None


class InMemory(Destination):
    """A directory of a file system that fsspec knows, without a deferred commit."""

    def __init__(self, root: str, patch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, patch
        self._fs: Any = fsspec.filesystem("memory")

    def store(self) -> Store:
        return ObjectStore(self._fs, self.root)

    def contents(self) -> dict[str, bytes]:
        start = f"{self.root}/"
        return {
            path.removeprefix(start): file.getvalue()
            for path, file in list(self._fs.store.items())
            if path.startswith(start)
        }

    def put(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(f"{self.root}/{name}", data)

    def fail(self, how: str) -> None:
        error = {
            "full": OSError(errno.ENOSPC, "no space"),
            "full in the middle": OSError(errno.ENOSPC, "no space"),
            "read-only": PermissionError("this store is read-only"),
            "revoked in the middle": PermissionError("the token was revoked"),
            "refuses the name": PermissionError("not this name"),
        }[how]
        if how == "refuses the name":
            self._break(type(self._fs), "cp_file", error)
        elif how == "read-only":
            self._break(type(self._fs), "_open", error)
        else:
            in_the_middle = how.endswith("middle")
            self._break(MemoryFile, "write", error, after=2 * in_the_middle, least=_LONG * in_the_middle)
            if how.startswith("revoked"):
                self._break(type(self._fs), "cp_file", error)

    def mend(self) -> None:
        self._patch.undo()

    def _break(self, owner: Any, method: str, error: Exception, *, after: int = 0, least: int = 0) -> None:
        real, calls = getattr(owner, method), iter(range(after))

        def broken(*args: Any, **kwargs: Any) -> Any:
            if (not least or len(args[1]) >= least) and next(calls, None) is None:
                self.refusals += 1
                raise error
            return real(*args, **kwargs)

        self._patch.setattr(owner, method, broken)


def _answering(
    fault: Fault, concerned: Callable[[Seen], bool], *, after: int = 0, times: int | None = None
) -> Callable[[Seen], Fault | None]:
    before, left = iter(range(after)), None if times is None else iter(range(times))

    def rule(seen: Seen) -> Fault | None:
        if not concerned(seen) or next(before, None) is not None:
            return None
        return fault if left is None or next(left, None) is not None else None

    return rule


def _refusing(
    status: int, code: str, concerned: Callable[[Seen], bool], *, after: int = 0, times: int | None = None
) -> Callable[[Seen], Fault | None]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
    return _answering((status, body), concerned, after=after, times=times)


def _revoked(after: int) -> Callable[[Seen], Fault | None]:
    """Refuse everything from the part after so many parts on."""
    parts: list[Seen] = []

    def concerned(seen: Seen) -> bool:
        if seen.is_part:
            parts.append(seen)
        return len(parts) > after

    return _refusing(403, "InvalidAccessKeyId", concerned)


def _is_part(seen: Seen) -> bool:
    return seen.is_part


def _writes(seen: Seen) -> bool:
    return seen.method in ("PUT", "POST")


def _puts(seen: Seen) -> bool:
    return _sends(seen) and not seen.is_part


def _sends(seen: Seen) -> bool:
    return seen.method == "PUT" and not seen.key.endswith(".json")


def _completes(seen: Seen) -> bool:
    return seen.method == "POST" and "uploadId=" in seen.query
