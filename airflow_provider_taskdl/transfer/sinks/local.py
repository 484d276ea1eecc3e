"""A directory on a disk: a hidden part file beside the destination, then one atomic rename."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER, Stored, write_whole

_MAX_SMALL = 64 * 1024 * 1024
_CLOSED = -1


class LocalStore:
    """A directory on a local or mounted disk.

    :param root: The directory; made when the first file comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self, needed: int) -> None:
        """Make the directory and check the free space."""
        with _explained(self.root):
            (self.root / OWN_FOLDER).mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.root).free
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

    def open(self, name: str, *, size: int | None, replace: bool) -> LocalSink:
        """Begin a file."""
        return LocalSink(self.root, name, replace=replace)

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        path = self.root / name
        with _explained(path):
            try:
                return path.read_bytes() if path.stat().st_size <= _MAX_SMALL else None
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        write_whole(self, name, data)

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        with _explained(self.root / name):
            (self.root / name).unlink(missing_ok=True)


class LocalSink:
    """A file that is written beside its destination and moved there when it is complete.

    :param root: The destination.
    :param name: The file's name there.
    :param replace: Whether a file of that name may be replaced.
    """

    chunk_size = 1024 * 1024

    def __init__(self, root: Path, name: str, *, replace: bool) -> None:
        self._target = root / name
        self._part = root / OWN_FOLDER / f"{uuid.uuid4().hex}.part"
        self._replace = replace
        with _explained(self._part):
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes, in any order."""
        with _explained(self._target):
            while data:
                written = os.pwrite(self._file, data, offset)
                data, offset = data[written:], offset + written

    def commit(self) -> Stored:
        """Force the bytes to the disk, then give them their name."""
        with _explained(self._target):
            os.fsync(self._file)
            stored = _stored(os.fstat(self._file))
            self._close()
            if self._replace:
                os.replace(self._part, self._target)
            else:
                os.link(self._part, self._target)  # unlike a rename, it fails if the name is taken
                os.unlink(self._part)
            _sync_directory(self._target.parent)
            return stored

    def abort(self) -> None:
        """Remove the part file."""
        self._close()
        try:
            self._part.unlink(missing_ok=True)
        except OSError:
            pass  # what is left is in our own folder and under no file's name

    def _close(self) -> None:
        file, self._file = self._file, _CLOSED
        if file != _CLOSED:
            os.close(file)


def _stored(stat: os.stat_result) -> Stored:
    return Stored(stat.st_size, f"mtime:{stat.st_mtime_ns}")


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks cannot sync a directory
            raise
    finally:
        os.close(handle)


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
