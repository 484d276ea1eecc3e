"""Any store that fsspec knows: a deferred commit where the store has one, else a temporary name and a move.

``with fs.open(…, "wb")`` is not used on purpose: it publishes a truncated object when the block is left by an error.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    DestinationError,
    DestinationExistsError,
    TaskDownloadError,
)
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.sinks.base import LIST_FROM, MAX_SMALL, OWN_FOLDER, Origin, Stored, write_whole
from airflow_provider_taskdl.transfer.stop import Cancelled, never_stop

# Parts of an upload are copied several times inside fsspec: longer ones cost more memory than they gain.
_UPLOAD_PART, _MAX_PARTS = 5 * 1024 * 1024, 9_900
# What some stores want the length of a part to be a multiple of.
_STEP = 256 * 1024
# Buckets have no directories, and "making" one there can make a bucket out of a typing error.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss"})
# Stores whose multipart upload shows nothing before it is completed, by their own documentation and by our tests.
_DEFERS = frozenset({"s3", "s3a"})
# What fsspec takes for a pattern in what it moves.
_PATTERN = frozenset("*?[")
# Where file systems say when something was last changed.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
# Seconds after which nobody is writing something any more.
_OLD = 3 * 24 * 3600.0


class ObjectStore:
    """A prefix in an fsspec file system.

    :param fs: The file system, with its credentials.
    :param root: The prefix inside it, without a trailing slash.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root = fs, root.rstrip("/")
        self._defers: bool | None = None

    def prepare(self, needed: int) -> None:
        """Make the directory, where the store has such things, and learn how it commits."""
        with self._explained(""):
            if not self._is_one_of(_BUCKETS):
                self._fs.makedirs(self._path(OWN_FOLDER), exist_ok=True)
            self._defers = self._commits_late()
            if not self._defers and not _PATTERN.isdisjoint(self._root):
                raise ConnectionConfigError(
                    "this store takes *, ? and [ in a destination for a pattern when it moves files"
                )
            self._clear_old()

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""
        wanted = {self._path(name): name for name in names}
        with self._explained(""):
            self._fs.invalidate_cache()
            infos: Iterable[Mapping[str, Any]]
            if len(wanted) < LIST_FROM:
                infos = [info for path in wanted if (info := self._info(path))]
            else:
                try:
                    infos = self._fs.ls(self._root, detail=True)
                except FileNotFoundError:
                    infos = []
        # Some file systems begin their paths with a slash that was not asked for, others drop one.
        by_path = {str(info["name"]).strip("/"): info for info in infos if info.get("type") == "file"}
        return {name: _stored(by_path[p]) for path, name in wanted.items() if (p := path.strip("/")) in by_path}

    def open(
        self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None
    ) -> ObjectSink:
        """Begin a file."""
        block = max(_UPLOAD_PART, -(-(origin.size or 0) // (_MAX_PARTS * _STEP)) * _STEP)
        with self._explained(name):
            if self._defers is None:
                self._defers = self._commits_late()
            return ObjectSink(self, name, block=block, part_size=part_size, replace=replace, defers=self._defers)

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of a file that is there."""
        digests = Digests(announced or {})
        with self._explained(name), self._fs.open(self._path(name), "rb") as file:
            while chunk := file.read(1024 * 1024):
                go_on()
                digests.update(memoryview(chunk))
        digests.verify()
        return digests.sha256

    def settle(self, names: Iterable[str]) -> None:
        """Do nothing: what a kill interrupts here begins anew."""

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        with self._explained(name):
            self._fs.invalidate_cache()
            info = self._info(self._path(name))
            if info is None or _stored(info).size > MAX_SMALL:
                return None
            content: bytes = self._fs.cat_file(self._path(name))
            return content

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small objects that begin so."""
        with self._explained(OWN_FOLDER):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(OWN_FOLDER), detail=False)
            except FileNotFoundError:
                return []
        names = [f"{OWN_FOLDER}/{str(path).rstrip('/').rpartition('/')[2]}" for path in found]
        return [name for name in names if name.startswith(start)]

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        write_whole(self, name, data)

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        with self._explained(name), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def _clear_old(self) -> None:
        """Remove what killed processes have left; only its age tells it from what another one is writing."""
        try:
            there = self._fs.ls(self._path(OWN_FOLDER), detail=True)
        except Exception:  # noqa: BLE001 - nothing there, or no right to look: the files can come all the same
            return
        for info in there:
            name, changed = str(info["name"]), _time_of(info)
            if name.endswith((".part", ".probe")) and changed is not None and time.time() - changed > _OLD:
                with suppress(Exception):  # who comes next tries again
                    self._fs.rm_file(name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name

    def _info(self, path: str) -> Mapping[str, Any] | None:
        try:
            info: Mapping[str, Any] = self._fs.info(path)
        except FileNotFoundError:
            return None
        return info

    def _is_one_of(self, protocols: frozenset[str]) -> bool:
        own = self._fs.protocol
        return not protocols.isdisjoint({own} if isinstance(own, str) else own)

    def _begin(self, path: str, *, defers: bool, **options: Any) -> Any:
        """Return a new file to write to; one that ``defers`` shows when it is committed."""
        if not defers:
            return self._fs.open(path, "wb", **options)
        file = self._fs.open(path, "wb", autocommit=False, **options)
        # fsspec would keep it, and one more for each file, for the end of a transaction, of which there is none.
        with suppress(AttributeError):  # one that is not made as fsspec's own are may have no such list
            self._fs.transaction.files.clear()
        return file

    def _commits_late(self) -> bool:
        """Find out whether ``autocommit=False`` keeps an object invisible until ``commit()``, which replaces another.

        Not every file system that takes the option honours it (the one in memory does not), so one that is not known
        is tried with two tiny objects of one name.
        """
        if self._is_one_of(_DEFERS):
            return True
        path = self._path(f"{OWN_FOLDER}/{uuid.uuid4().hex}.probe")
        try:
            return all(self._commits(path, content) for content in (b"probe", b"another probe"))
        except (NotImplementedError, TypeError, AttributeError, ValueError):
            return False  # how file systems without a deferred commit refuse the option or lack the method
        finally:
            with suppress(Exception):
                self._fs.rm_file(path)

    def _commits(self, path: str, content: bytes) -> bool:
        """Tell whether ``content`` is at ``path`` after a deferred commit, and not before."""

        def is_there() -> bool:
            self._fs.invalidate_cache()
            info = self._info(path)
            return info is not None and _stored(info).size == len(content)

        file = self._begin(path, defers=True)
        file.write(content)
        file.close()
        early = is_there()
        with suppress(Exception):  # such as that the store moves nothing from its temporary directory to this one
            file.commit()
            if not early and is_there():
                return True
        with suppress(Exception):
            file.discard()
        return False

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except (TaskDownloadError, Cancelled):
            raise
        except FileExistsError:
            problem: TaskDownloadError = DestinationExistsError(
                "there is something of this name already", target=self._path(name)
            )
        except Exception as error:  # noqa: BLE001 - each store has its own tree of errors
            problem = DestinationError(f"the store refused: {type(error).__name__}: {error}", target=self._path(name))
        else:
            return
        try:
            raise problem
        finally:  # out here, too: while a block is left, what it raised counts as the context of whatever follows
            problem.__context__ = None


class ObjectSink:
    """A file on its way into an fsspec store; takes its bytes in order.

    :param store: The destination.
    :param name: The file's name there.
    :param block: Bytes per part of the upload.
    :param part_size: Bytes of a part of the file.
    :param replace: Whether an object of that name may be replaced.
    :param defers: Whether nothing shows before the commit; a temporary object is written otherwise.
    """

    ordered = True
    chunk_size = 1024 * 1024

    def __init__(
        self, store: ObjectStore, name: str, *, block: int, part_size: int, replace: bool, defers: bool
    ) -> None:
        self.part_size = part_size
        self._store, self._name, self._replace, self._defers = store, name, replace, defers
        self._target = store._path(name)
        self._writes_to = self._target if defers else store._path(f"{OWN_FOLDER}/{uuid.uuid4().hex}.part")
        self._file = store._begin(self._writes_to, defers=defers, block_size=block)
        self._position = 0
        self._done = False

    def holds(self, start: int, end: int) -> bool:
        """Tell that nothing is left of earlier processes: fsspec has no way to go on with an upload."""
        return False

    def read_back(self, start: int, view: memoryview) -> None:
        """Give nothing back."""

    def note(self, end: int, sha256: str) -> None:
        """Forget it, for the same reason."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take the next bytes."""
        if offset != self._position:
            raise ValueError(f"bytes for offset {offset} came at {self._position}")
        with self._store._explained(self._name):
            self._file.write(data)
        self._position += len(data)

    def commit(self) -> Stored:
        """Complete the upload, or move the whole temporary object to its name, and check what the store has."""
        fs = self._store._fs
        with self._store._explained(self._name):
            self._file.close()
            if not self._replace:
                fs.invalidate_cache()
                if self._store._info(self._target) is not None:
                    raise FileExistsError
            if self._defers:
                self._file.commit()
            else:
                self._check(self._writes_to)
                fs.mv(self._writes_to, self._target)
                fs.invalidate_cache()
                if self._store._info(self._writes_to) is not None:  # some say nothing of a name that is taken
                    raise DestinationError(
                        "the store did not move the whole file to its name; if an older one has that name, remove it: "
                        "not every store replaces a file by renaming another",
                        target=self._target,
                    )
            self._done = True
            return self._check(self._target)

    def stop(self) -> None:
        """Do nothing: fsspec has no way to end a write."""

    def abort(self, *, keep: bool = False) -> None:
        """Give the upload up; remove the temporary object."""
        if self._done:
            return
        self._done = True
        if self._defers:
            with suppress(Exception):
                self._file.discard()
            try:
                # One that counts as open is closed by the garbage collector, which would begin the upload anew.
                self._file.closed = True
            except AttributeError:  # a plain file, by which nothing begins
                with suppress(Exception):
                    self._file.close()
            return
        with suppress(Exception):
            self._file.close()
        with suppress(Exception):
            self._store._fs.rm_file(self._writes_to)

    def _check(self, path: str) -> Stored:
        self._store._fs.invalidate_cache()
        info = self._store._info(path)
        if info is None or _stored(info).size != self._position:
            has = "nothing" if info is None else f"{_stored(info).size} bytes"
            raise DestinationError(f"{self._position} bytes were written, the store has {has}", target=path)
        return _stored(info)


def _time_of(info: Mapping[str, Any]) -> float | None:
    """Return when something in a store was last changed, where its client gives that as a time."""
    for key in _TIMES:
        if isinstance(value := info.get(key), datetime):
            return value.timestamp()
        if isinstance(value, float | int):
            return float(value)
    return None


def _stored(info: Mapping[str, Any]) -> Stored:
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return Stored(int(info["size"]), f"etag:{info[key]}".replace('"', ""))
    for key in _TIMES:
        if value := info.get(key):
            # Some give the same time as a number in a listing and as a date elsewhere.
            return Stored(int(info["size"]), f"time:{value.timestamp() if isinstance(value, datetime) else value}")
    return Stored(int(info["size"]))
