"""What the transfer asks of a destination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

# The folder inside a destination that is ours: manifest, checkpoint, files that are not complete yet.
OWN_FOLDER = "_taskdl"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store says of something that is there.

    :param size: Bytes.
    :param version: The store's own mark of this very content (an ETag, or a modification time), if it has one.
    """

    size: int
    version: str | None = None


class Sink(Protocol):
    """One file on its way. Until :meth:`commit` nothing shows under its name.

    :ivar chunk_size: Bytes that are best handed over at once.
    """

    chunk_size: int

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes; offsets come in order unless the store says otherwise.

        :raises DestinationError: The store refused.
        """

    def commit(self) -> Stored:
        """Publish the file under its name, in one step.

        :raises DestinationExistsError: There is one already and it is not to be replaced.
        :raises DestinationError: The store refused; nothing was published.
        """

    def abort(self) -> None:
        """Leave nothing behind. Never raises; may follow a failed :meth:`commit`."""


class Store(Protocol):
    """A directory of some store. Names are relative to it; a small object's may begin with ``_taskdl/``."""

    def prepare(self, needed: int) -> None:
        """Make sure that files can be put here.

        :param needed: Bytes that are going to come, as far as is known.
        :raises DestinationError: They cannot.
        """

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there.

        :raises DestinationError: The store refused.
        """

    def open(self, name: str, *, size: int | None, replace: bool) -> Sink:
        """Begin a file.

        :param name: Its name.
        :param size: Bytes, if known.
        :param replace: Whether what is there already may be replaced.
        :raises DestinationError: The store refused.
        """

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None`` if there is none (or it is absurdly long).

        :raises DestinationError: The store refused.
        """

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step.

        :raises DestinationError: The store refused.
        """

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there.

        :raises DestinationError: The store refused.
        """


def write_whole(store: Store, name: str, data: bytes) -> None:
    """Write a small object through the store's own sink, so that it appears whole or not at all."""
    sink = store.open(name, size=len(data), replace=True)
    try:
        if data:
            sink.write(0, memoryview(data))
        sink.commit()
    except BaseException:
        sink.abort()
        raise
