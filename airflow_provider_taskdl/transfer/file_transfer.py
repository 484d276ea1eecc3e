"""One file on its way, in one piece or in parts that several workers fetch at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_provider_taskdl.exceptions import (
    DestinationError,
    DestinationExistsError,
    IntegrityError,
    SourceChangedError,
    TaskDownloadError,
)
from airflow_provider_taskdl.listing import RemoteFile
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.manifest import Entry
from airflow_provider_taskdl.transfer.progress import Progress
from airflow_provider_taskdl.transfer.publish import publish
from airflow_provider_taskdl.transfer.reader import RangeReader
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.sinks.base import Origin, Sink, Store
from airflow_provider_taskdl.transfer.source import Source
from airflow_provider_taskdl.transfer.stop import Cancelled, Stop

# A file that changes while it is read, or whose digest is wrong or not known, is read once more from its start.
_READINGS = 2


@dataclass(frozen=True)
class Surroundings:
    """What all files of a transfer share.

    :param links: Gives the current link of each file.
    :param client: Fetches links.
    :param store: The destination.
    :param path_of: Gives a file's path for its record.
    :param replace: Whether files that are there may be replaced.
    :param retry: How patient to be with the network.
    :param progress: Counts bytes and files.
    """

    links: LinkSource
    client: LinkClient
    store: Store
    path_of: Callable[[str], str]
    replace: bool
    retry: RetryPolicy
    progress: Progress


class Buffer:
    """A worker's memory, used again for each piece."""

    def __init__(self) -> None:
        self._bytes = bytearray(0)

    def view(self, size: int) -> memoryview:
        """Return ``size`` bytes of it."""
        if len(self._bytes) < size:
            self._bytes = bytearray(size)
        return memoryview(self._bytes)[:size]


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that one worker does for a file: begin it, or fetch one of its parts.

    :param transfer: The file on its way.
    :param start: The part's first byte, or ``None`` for the beginning of it all.
    :param end: The byte after its last.
    :param reader: Where it can be read from, if that is open already.
    """

    transfer: FileTransfer
    start: int | None = None
    end: int = 0
    reader: RangeReader | None = None


class FileTransfer:
    """A file between its host and the store.

    Each piece is run by one worker; :meth:`run` gives the pieces that follow from it. After the last one it is certain
    what became of the file.

    :param file: The file.
    :param around: What all files share.
    :param part_size: Bytes of a part; a longer file comes in parts.
    :param longest: Bytes of the longest part that may be held, for a file that an earlier process split otherwise.
    :ivar entry: The file's record, once it is there.
    :ivar error: Why it is not, once that is certain; ``Cancelled`` if it was told to stop.
    :ivar retries: Failures that were mended.
    """

    def __init__(self, file: RemoteFile, around: Surroundings, *, part_size: int, longest: int) -> None:
        self.file, self._around, self._part_size, self._longest = file, around, part_size, longest
        self.entry: Entry | None = None
        self.error: TaskDownloadError | Cancelled | None = None
        self.retries = 0
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._stop = Stop()
        self._told_to_stop = False
        self._reading = 0
        self._start_over()

    @property
    def is_over(self) -> bool:
        """Whether it is certain what became of the file."""
        return self.entry is not None or self.error is not None

    def stop(self) -> None:
        """Give the file up, keeping for a later try what its store can keep."""
        self._told_to_stop = True
        self._stop.set()
        if (sink := self._sink) is not None:
            sink.stop()

    def run(self, piece: Piece, buffer: Buffer) -> Sequence[Piece]:
        """Do one piece of work and return those that come next.

        :param piece: The piece.
        :param buffer: The worker's memory.
        :raises Exception: Whatever is neither a ``TaskDownloadError`` nor ``Cancelled``; the file is given up.
        """
        following: Sequence[Piece] = ()
        mistake: BaseException | None = None
        try:
            if piece.start is None:
                following = self._begin(buffer)
            else:
                self._fetch_part(piece.start, piece.end, piece.reader, buffer)
        except (TaskDownloadError, Cancelled) as error:
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - raised again when the file was given up
            mistake = error
            self._fail(Cancelled())
        with self._lock:
            self._left += len(following) - 1
            last = self._left == 0
        if last:
            following = self._conclude()
        if mistake is not None:
            raise mistake
        return following

    def _start_over(self) -> None:
        self._reading += 1
        self._stop.clear()
        self._failure: TaskDownloadError | Cancelled | None = None
        self._source = Source(self.file)
        self._sink: Sink | None = None
        self._digests = Digests({})
        self._hashed = 0
        self._unread = False
        self._counted = 0
        self._left = 1
        if self._told_to_stop:  # since it was decided to start over
            self._stop.set()

    def _begin(self, buffer: Buffer) -> Sequence[Piece]:
        around, size = self._around, self.file.size
        first = None if size is not None and size <= self._part_size else self._part_size
        reader, handed_on = self._reader(0, first), False
        try:
            reader.open()
            source = self._source
            in_parts = reader.end is not None and source.size is not None and reader.end < source.size
            if in_parts and not source.origin.is_certain:
                # Nothing would prove that other parts are of the same file, so it comes in one piece.
                self._let_go(reader)
                source = self._source = Source(self.file)  # nothing was read yet, so the next answer is the first
                reader, in_parts = self._reader(0, None), False
                reader.open()
            sink = self._sink = around.store.open(
                self.file.name,
                # What comes in one piece is written from its start, whatever an earlier process has left.
                source.origin if in_parts else Origin(source.size),
                part_size=self._part_size,
                replace=around.replace,
                longest=self._longest,
            )
            self._digests = Digests(source.digests)
            if not in_parts or source.size is None:
                self._pump(reader, sink, buffer)
                return ()
            length = sink.part_size
            pieces = [Piece(self, at, min(at + length, source.size)) for at in range(0, source.size, length)]
            if length == first and not sink.holds(0, length):
                pieces[0], handed_on = Piece(self, 0, length, reader), True
            return pieces
        finally:
            if not handed_on:
                self._let_go(reader)

    def _fetch_part(self, start: int, end: int, reader: RangeReader | None, buffer: Buffer) -> None:
        reader = reader or self._reader(start, end)
        try:
            sink = self._sink
            if self._stop.is_set() or sink is None:
                raise Cancelled
            view = buffer.view(end - start)
            if sink.holds(start, end):
                known = sink.read_back(start, view)
                # What is there but cannot be seen is no obstacle: the digest is taken of the whole file later.
                self._unread |= known is None
                self._count(end - start)
                self._in_turn(start, view, sink, known=known)
                return
            self._take_part(reader, start, sink, view)
        finally:
            self._let_go(reader)

    def _take_part(self, reader: RangeReader, start: int, sink: Sink, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            count = reader.readinto(view[filled:])
            if not count:
                raise IntegrityError(f"the file host's part from byte {start} ends at byte {start + filled}")
            filled += count
            self._count(count)
        reader.close()
        if start == 0:
            self._source.check_content(view)
        if not sink.ordered:
            sink.write(start, view)
        self._in_turn(start, view, sink, write=sink.ordered)

    def _in_turn(
        self, start: int, view: memoryview, sink: Sink, *, write: bool = False, known: str | None = None
    ) -> None:
        """Take a part into the digest, and into a sink that wants order, when all before it are there."""
        with self._turn:
            while self._hashed != start:
                if self._stop.is_set():
                    raise Cancelled
                self._turn.wait(0.2)
        end = start + len(view)
        if not self._unread:
            self._digests.update(view)
            if known is not None and known != self._digests.sha256:
                raise IntegrityError("what an earlier try had left of the file is damaged")
        if write:
            for at in range(0, len(view), sink.chunk_size):
                sink.write(start + at, view[at : at + sink.chunk_size])
        if not self._unread and known is None:
            sink.note(end, self._digests.sha256)
        with self._turn:
            self._hashed = end
            self._turn.notify_all()

    def _pump(self, reader: RangeReader, sink: Sink, buffer: Buffer) -> None:
        """Take a whole file, chunk by chunk."""
        size = self._source.size
        view = buffer.view(sink.chunk_size if size is None else max(1, min(sink.chunk_size, size)))
        filled = 0
        while True:
            count = reader.readinto(view[filled:])
            self._count(count)
            filled += count
            if filled and (count == 0 or filled == len(view)):
                if self._hashed == 0:
                    self._source.check_content(view[:filled])
                self._digests.update(view[:filled])
                sink.write(self._hashed, view[:filled])
                self._hashed, filled = self._hashed + filled, 0
            if count == 0:
                return

    def _conclude(self) -> Sequence[Piece]:
        """All pieces are done: publish the file, or give it up, or begin it once more."""
        if self._failure is None:
            try:
                self.entry = self._publish()
                self._sink = None  # with what it still holds in memory
                self._around.progress.file_done()
                return ()
            except (TaskDownloadError, Cancelled) as error:
                self._fail(error)
            except BaseException:
                self._give_up(keep=False)
                raise
        failure = self._failure
        again = isinstance(failure, SourceChangedError | IntegrityError)
        # Of parts that an earlier process brought no digest is known by which its own file could be told from another.
        again |= self._unread and isinstance(failure, DestinationExistsError)
        self._give_up(keep=not again)
        if again and self._reading < _READINGS and not self._told_to_stop:
            self._start_over()
            return [Piece(self)]
        if isinstance(failure, TaskDownloadError):
            failure.file = self.file.name
        self.error = failure
        return ()

    def _publish(self) -> Entry:
        if self._sink is None:
            raise AssertionError("a file that did not fail has a sink")
        digests = None if self._unread else self._digests
        name, store = self.file.name, self._around.store
        stored, sha256 = publish(name, self._sink, store, self._hashed, digests, self._source.digests, self._stop.check)
        return Entry(
            name=name,
            size=self._hashed,
            sha256=sha256,
            source_etag=self._source.etag,
            path=self._around.path_of(name),
            time=datetime.now(timezone.utc),
            stored_version=stored.version,
        )

    def _give_up(self, *, keep: bool) -> None:
        self._around.progress.add(-self._counted)
        if self._sink is not None:
            self._sink.abort(keep=keep)

    def _fail(self, error: TaskDownloadError | Cancelled) -> None:
        with self._turn:
            if self._told_to_stop and isinstance(error, DestinationError):
                error = Cancelled()  # the store was told as well
            # A part that was stopped because of another one's failure has nothing to say.
            if self._failure is None or isinstance(self._failure, Cancelled):
                self._failure = error
            self._stop.set()
            self._turn.notify_all()

    def _reader(self, start: int, end: int | None) -> RangeReader:
        around = self._around
        return RangeReader(self._source, around.links, around.client, around.retry, self._stop, start, end)

    def _let_go(self, reader: RangeReader) -> None:
        reader.close()
        with self._lock:
            self.retries += reader.retries

    def _count(self, count: int) -> None:
        self._around.progress.add(count)
        with self._lock:
            self._counted += count
