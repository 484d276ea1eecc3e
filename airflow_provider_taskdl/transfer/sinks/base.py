"""What the transfer asks of a destination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_taskdl.transfer.stop import never_stop

# The folder inside a destination that is ours: manifest, checkpoint, files that are not complete yet.
OWN_FOLDER = "_taskdl"
# Bytes of the longest small object that is read.
MAX_SMALL = 64 * 1024 * 1024
# From so many names on, one listing costs less than a question for each.
LIST_FROM = 16


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store says of something that is there.

    :param size: Bytes.
    :param version: The store's own mark of this very content (an ETag, or a modification time), if it has one.
    """

    size: int
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What tells one version of a file at its host from another.

    :param size: Bytes, if known.
    :param etag: Its ETag, if that is a strong one.
    :param modified: Its modification time as the host writes it.
    """

    size: int | None = None
    etag: str | None = None
    modified: str | None = None

    @property
    def is_certain(self) -> bool:
        """Whether another answer can be proved to be of the same version."""
        return self.size is not None and (self.etag is not None or self.modified is not None)


class Sink(Protocol):
    """One file on its way. Until :meth:`commit` nothing shows under its name.

    A file comes either as a whole in order, in chunks of any length, or, if its version is certain, in parts: part
    ``n`` is the bytes from ``n * part_size`` on, ``part_size`` of them or up to the file's end, and each comes in one
    :meth:`write`.

    :ivar ordered: Whether parts must come in order, too; otherwise several threads may write at once.
    :ivar chunk_size: Bytes that are best handed over at once.
    :ivar part_size: Bytes of a part.
    """

    ordered: bool
    chunk_size: int
    part_size: int

    def holds(self, start: int, end: int) -> bool:
        """Tell whether an earlier process has left this part here, for the same version of the file."""

    def read_back(self, start: int, view: memoryview) -> str | None:
        """Fill ``view`` with a part that is held, and return what :meth:`note` was told of it.

        Without a result the part is there, but this store cannot give it back.

        :raises DestinationError: The store refused.
        :raises IntegrityError: What is there is not the whole part.
        """

    def note(self, end: int, sha256: str) -> None:
        """Remember, for a later process, that all parts before ``end`` are there.

        :param end: The byte after them.
        :param sha256: Digest of the file up to there.
        :raises DestinationError: The store refused.
        """

    def write(self, offset: int, data: memoryview) -> None:
        """Take bytes.

        :raises DestinationError: The store refused.
        """

    def commit(self) -> Stored:
        """Publish the file under its name, in one step.

        :raises DestinationExistsError: There is one already and it is not to be replaced.
        :raises DestinationError: The store refused; nothing was published.
        """

    def stop(self) -> None:
        """End each :meth:`write` that waits for the store, if that can be done; from any thread, or a signal.

        Those writes raise a ``DestinationError``; :meth:`abort` is still to come.
        """

    def abort(self, *, keep: bool = False) -> None:
        """Give the file up. Never raises; may follow a failed :meth:`commit`.

        :param keep: Leave what has come for a later process, if this store can; nothing otherwise.
        """


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

    def open(self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None) -> Sink:
        """Begin a file, or go on with one that an earlier process has left unfinished.

        :param name: Its name.
        :param origin: Its version at the host.
        :param part_size: Bytes of a part; the sink may have another, such as that of the earlier process.
        :param replace: Whether what is there already may be replaced.
        :param longest: Bytes of the longest part of an earlier process that may be gone on with; ``part_size`` if not
            given.
        :raises DestinationError: The store refused.
        """

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of a file that is there, read once.

        :param name: Its name.
        :param announced: Digests that it must have.
        :param go_on: Called again and again while it is read; what it raises, such as ``Cancelled``, ends that.
        :raises DestinationError: The store refused.
        :raises IntegrityError: One of them is another.
        """

    def settle(self, names: Iterable[str]) -> None:
        """Clear away what proves, to a process that comes after a kill, that these files were published. Never raises.

        A committed file is told of by a checkpoint only a moment later. Until then a store that can resume a file keeps
        what it needs for that: opening it anew finds all parts there.

        :param names: Files that a checkpoint speaks of by now.
        """

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None`` if there is none (or it is absurdly long).

        :raises DestinationError: The store refused.
        """

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small objects.

        :param start: What they begin with: ``_taskdl/`` and more.
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


def find_in(
    names: Iterable[str],
    listed: Callable[[set[str]], Mapping[str, Stored]],
    head: Callable[[str], Stored | None],
) -> Mapping[str, Stored]:
    """Return those of ``names`` that are there, with few questions.

    :param names: The names.
    :param listed: Finds some of them, none of which has a ``/``, in one listing.
    :param head: Asks for one.
    """
    wanted = dict.fromkeys(names)
    together = {name for name in wanted if "/" not in name} if len(wanted) >= LIST_FROM else set()
    found = dict(listed(together)) if together else {}
    for name in wanted:
        if name not in together and (stored := head(name)) is not None:
            found[name] = stored
    return found


def write_whole(store: Store, name: str, data: bytes) -> None:
    """Write a small object through the store's own sink, so that it appears whole or not at all."""
    sink = store.open(name, Origin(len(data)), part_size=max(len(data), 1), replace=True)
    try:
        if data:
            sink.write(0, memoryview(data))
        sink.commit()
    except BaseException:
        sink.abort()
        raise
