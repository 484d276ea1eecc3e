"""Files on a disk that one process at a time may write, and how they get their names."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

# No file.
CLOSED = -1
# How file systems say that they have no second names for a file.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def open_alone(path: Path) -> int:
    """Open a file that no other process has open this way; ``CLOSED`` if one has.

    Its name is known to everybody: a link that somebody has put there would lead out of the destination.

    :raises OSError: The file cannot be opened, or the file system has no locks.
    """
    while True:
        if path.is_symlink():
            path.unlink(missing_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file)
            if os.path.samestat(found, os.stat(path)):
                if found.st_nlink == 1:
                    return file
                os.unlink(path)  # it is a published file, too: a kill came between its two names
        except FileNotFoundError:
            pass  # another process has just moved it to its destination
        except BlockingIOError:
            os.close(file)
            return CLOSED
        except OSError:
            os.close(file)
            raise
        os.close(file)


def remove_alone(part: Path, *others: Path) -> None:
    """Remove a part file, and what belongs to it, unless a process is writing it."""
    file = open_alone(part)
    if file == CLOSED:
        return
    try:
        for path in (*others, part):
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def move_beside(part: Path, target: Path) -> None:
    """Give a file its name, if that is not taken."""
    try:
        os.link(part, target)  # unlike a rename, it fails then
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError from None
        os.replace(part, target)
    else:
        os.unlink(part)


def reserve(file: int, size: int) -> None:
    """Take the space now, so that a full disk shows before the bytes come."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def sync_directory(directory: Path) -> None:
    """Force a directory's names to the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks cannot sync a directory
            raise
    finally:
        os.close(handle)


def room_of(part: Path) -> int:
    """Return how many bytes a file takes on the disk."""
    try:
        return part.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
