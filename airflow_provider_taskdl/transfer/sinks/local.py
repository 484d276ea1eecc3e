"""A directory on a disk: a hidden part file beside the destination, then one atomic rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError, IntegrityError
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.sinks.base import MAX_SMALL, OWN_FOLDER, Origin, Stored, write_whole
from airflow_provider_taskdl.transfer.sinks.journal import Journal
from airflow_provider_taskdl.transfer.sinks.local_files import (
    CLOSED,
    move_beside,
    open_alone,
    remove_alone,
    reserve,
    room_of,
    sync_directory,
)  # fmt: skip
from airflow_provider_taskdl.transfer.stop import never_stop

# A journal of more lines would be too long to be read again.
_MAX_PARTS = 50_000


class LocalStore:
    """A directory on a local or mounted disk.

    :param root: The directory; made when the first file comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._journals: set[str] = set()

    def prepare(self, needed: int) -> None:
        """Make the directory, see what earlier processes have left, and check the free space."""
        with _explained(self.root):
            own = self.root / OWN_FOLDER
            own.mkdir(parents=True, exist_ok=True)
            self._journals = {path.stem for path in own.glob("*.journal")}
            parts = list(own.glob("*.part"))
            for path in parts:
                if path.stem not in self._journals:
                    remove_alone(path)
            # What an earlier process has reserved for its files is there for them still.
            free = shutil.disk_usage(self.root).free + sum(map(room_of, parts))
        if needed > free:
            raise DestinationError(f"{needed} bytes are to come, the disk has {free} free", target=str(self.root))

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""
        found = {}
        with _explained(self.root):
            for name in names:
                try:
                    found[name] = _stored(os.stat(self.root / name))
                except (FileNotFoundError, NotADirectoryError):
                    continue
        return found

    def open(
        self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None
    ) -> LocalSink:
        """Begin a file, or go on with one that an earlier process has left unfinished."""
        length = max(part_size, -(-(origin.size or 0) // _MAX_PARTS))
        longest = max(length, longest or 0)
        sink = LocalSink(self.root, name, origin, part_size=length, replace=replace, longest=longest)
        if sink.has_journal:
            self._journals.add(_label(name))
        return sink

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of a file that is there."""
        digests = Digests(announced or {})
        with _explained(self.root / name), (self.root / name).open("rb") as file:
            while chunk := file.read(1024 * 1024):
                go_on()
                digests.update(memoryview(chunk))
        digests.verify()
        return digests.sha256

    def settle(self, names: Iterable[str]) -> None:
        """Remove the journals of files that a checkpoint speaks of."""
        for label in {_label(name) for name in names} & self._journals:
            self._journals.discard(label)
            part = self.root / OWN_FOLDER / f"{label}.part"
            with suppress(OSError):
                remove_alone(part, part.with_suffix(".journal"))

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        path = self.root / name
        with _explained(path):
            try:
                return path.read_bytes() if path.stat().st_size <= MAX_SMALL else None
            except (FileNotFoundError, NotADirectoryError):
                return None

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small objects that begin so."""
        with _explained(self.root):
            try:
                names = [f"{OWN_FOLDER}/{name}" for name in os.listdir(self.root / OWN_FOLDER)]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [name for name in names if name.startswith(start)]

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        write_whole(self, name, data)

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        with _explained(self.root / name):
            (self.root / name).unlink(missing_ok=True)


class LocalSink:
    """A file that is written beside its destination and moved there when it is complete.

    A file that comes in parts has a journal, by which a later process goes on where this one was ended.

    :param root: The destination.
    :param name: The file's name there.
    :param origin: The file's version at its host.
    :param part_size: Bytes of a part.
    :param replace: Whether a file of that name may be replaced.
    :param longest: Bytes of the longest part of an earlier process that may be gone on with.
    """

    ordered = False
    chunk_size = 1024 * 1024

    def __init__(
        self, root: Path, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None
    ) -> None:
        self._target = root / name
        self._replace = replace
        self.part_size = part_size
        self._journal: Journal | None = None
        self._published = False
        self._file = CLOSED
        with _explained(self._target):
            try:
                self._open(root / OWN_FOLDER, _label(name), origin, longest or part_size)
            except BaseException:
                self.abort(keep=self._journal is not None and bool(self._journal.digests))
                raise

    def _open(self, own: Path, label: str, origin: Origin, longest: int) -> None:
        own.mkdir(parents=True, exist_ok=True)
        self._part = own / f"{label}.part"
        self._file = open_alone(self._part)
        if self._file == CLOSED:  # another process is writing this very file
            while self._file == CLOSED:
                self._part = own / f"{uuid.uuid4().hex}.part"
                self._file = open_alone(self._part)
        elif origin.is_certain and (origin.size or 0) > self.part_size:
            self._journal = Journal.open(self._part.with_suffix(".journal"), origin, self.part_size, longest)
            self.part_size = self._journal.part_size
        else:  # one that a killed process left would speak of other bytes
            self._part.with_suffix(".journal").unlink(missing_ok=True)
        if self._journal is not None and self._is_published(self._journal):
            self._part.unlink(missing_ok=True)
            os.close(self._file)
            self._file = os.open(self._target, os.O_RDONLY)
            self._published = True
        elif self._journal is None or not self._journal.digests:
            os.ftruncate(self._file, 0)
            if origin.size and origin.size > self.chunk_size:  # a short one is written at once anyway
                reserve(self._file, origin.size)

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal that is to be settled after the commit."""
        return self._journal is not None

    def holds(self, start: int, end: int) -> bool:
        """Tell whether an earlier process has left this part here."""
        return self._journal is not None and end in self._journal.digests

    def read_back(self, start: int, view: memoryview) -> str | None:
        """Fill ``view`` with a part that is held.

        :raises IntegrityError: The disk does not have all of it any more.
        """
        with _explained(self._target):
            filled = 0
            while filled < len(view) and (count := os.preadv(self._file, [view[filled:]], start + filled)):
                filled += count
        if filled < len(view):  # the rest of the view is not the file's, whatever it is
            raise IntegrityError("what an earlier try had left of the file is cut off")
        return None if self._journal is None else self._journal.digests[start + len(view)]

    def note(self, end: int, sha256: str) -> None:
        """Write to the journal that all parts before ``end`` are there."""
        if self._journal is not None:
            with _explained(self._target):
                self._journal.add(end, sha256)

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes, in any order."""
        with _explained(self._target):
            while data:
                written = os.pwrite(self._file, data, offset)
                data, offset = data[written:], offset + written

    def commit(self) -> Stored:
        """Force the bytes to the disk, then give them their name."""
        with _explained(self._target):
            if not self._published:
                os.fsync(self._file)
            stored = _stored(os.fstat(self._file))
            if not self._published:
                self._publish(stored)
            self._close()
            return stored

    def stop(self) -> None:
        """Do nothing: a disk does not keep one waiting for long."""

    def abort(self, *, keep: bool = False) -> None:
        """Remove the part file, or leave it with its journal for a later process."""
        try:
            if not (keep and self._journal is not None):
                if self._file != CLOSED and not self._published:  # while it is locked, the name is ours
                    self._part.unlink(missing_ok=True)
                if self._journal is not None:
                    self._journal.remove()
        except OSError:
            pass  # what is left is in our own folder and under no file's name
        self._close()

    def _is_published(self, journal: Journal) -> bool:
        """Tell whether an earlier process got as far as to give the file its name, and did not live to tell."""
        try:
            return journal.published == _stored(os.stat(self._target)).version
        except FileNotFoundError:
            return False

    def _publish(self, stored: Stored) -> None:
        if self._journal is not None and stored.version is not None:
            self._journal.publish(stored.version)
        if self._replace:
            os.replace(self._part, self._target)
        else:
            move_beside(self._part, self._target)
        sync_directory(self._target.parent)

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        file, self._file = self._file, CLOSED
        if file != CLOSED:
            os.close(file)


def _label(name: str) -> str:
    # Always the same for a name, so that what a killed process left is found.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _stored(stat: os.stat_result) -> Stored:
    return Stored(stat.st_size, f"mtime:{stat.st_mtime_ns}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        problem: DestinationError | DestinationExistsError = DestinationExistsError(
            "there is something of this name already", target=str(path)
        )
    except OSError as error:
        problem = DestinationError(f"the disk refused: {error.strerror or type(error).__name__}", target=str(path))
    else:
        return
    raise problem
