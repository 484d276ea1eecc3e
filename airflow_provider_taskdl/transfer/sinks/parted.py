"""What is alike wherever a store takes a long file in parts, in any order, and shows nothing until they are joined."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Container
from contextlib import suppress

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored
from airflow_provider_taskdl.transfer.stop import Stop

_MIB = 1024 * 1024
# Up to this a file waits in memory for its commit; a longer one goes to the store as it comes.
ONE_REQUEST = 8 * _MIB
# A file of unknown length may turn out to be very long: after so many parts they double in length.
_DOUBLE_AFTER = 2000
_WAIT_FOR_PARTS = 5.0


class PartedSink(ABC):
    """A file on its way: in one request, or in numbered parts.

    :param target: The file's address, for people.
    :param origin: Its version at the host.
    :param part_size: Bytes of a part.
    :param held: Numbers of the parts that an earlier process has left, from 1 on.
    :param in_parts: Whether an earlier process has begun it in parts.
    """

    ordered = False
    chunk_size = _MIB

    def __init__(
        self, target: str, origin: Origin, *, part_size: int, held: Container[int] = (), in_parts: bool = False
    ) -> None:
        self._target, self._origin, self.part_size = target, origin, part_size
        self._held, self._in_parts = held, in_parts
        self._is_small = origin.size is not None and origin.size <= min(part_size, ONE_REQUEST) and not in_parts
        self._buffer, self._position, self._next = bytearray(), 0, 1
        self._stop, self._done, self._flying = Stop(), False, 0
        self._landing = threading.Condition()

    def holds(self, start: int, end: int) -> bool:
        """Tell whether an earlier process has left a part there."""
        number, rest = divmod(start, self.part_size)
        return rest == 0 and number + 1 in self._held and end - start == self._length(number + 1)

    def read_back(self, start: int, view: memoryview) -> None:
        """Give nothing back: such a store lets nothing of an unfinished file be read."""
        return

    def note(self, end: int, sha256: str) -> None:
        """Remember nothing: a digest helps only those who can read the bytes after it."""
        return

    def write(self, offset: int, data: memoryview) -> None:
        """Take a part, in any order and from any thread, or the next bytes of the whole."""
        number, rest = divmod(offset, self.part_size)
        is_part = self._origin.size is not None and not self._is_small and not self._buffer and rest == 0
        if is_part and len(data) == self._length(number + 1):
            self._send(number + 1, data)
        else:
            self._append(offset, data)

    def commit(self) -> Stored:
        """Join the parts and see what the store has then; a small file is sent now."""
        if not self._in_parts and (self._is_small or self._origin.size is None):
            self._check(len(self._buffer))
            stored = self._put(self._buffer)
        else:
            if self._buffer:
                self._flush()
            stored = self._complete()
        self._done = True
        return stored

    def stop(self) -> None:
        """End the requests that are sending bytes."""
        self._stop.set()

    def abort(self, *, keep: bool = False) -> None:
        """Stop the threads that still write, then leave the parts to a later process or remove them."""
        if self._done:
            return
        self._done = True
        self.stop()
        with self._landing:  # a part that arrives after the abort would stay there, unseen and paid for
            self._landing.wait_for(lambda: self._flying == 0, _WAIT_FOR_PARTS)
        self._buffer = bytearray()
        if self._in_parts and not (keep and self._origin.is_certain):
            with suppress(Exception):
                self._discard()

    @abstractmethod
    def _put(self, data: bytearray) -> Stored:
        """Publish a whole file in one request."""

    @abstractmethod
    def _send_part(self, number: int, data: memoryview) -> None:
        """Send a part; from any thread."""

    @abstractmethod
    def _complete(self) -> Stored:
        """Publish the file that has come in parts."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove the parts that were sent or found, as far as the store can."""

    def _length(self, number: int) -> int:
        """Return how many bytes a part has."""
        if self._origin.size is None:
            return self.part_size << ((number - 1) // _DOUBLE_AFTER)
        return min(self.part_size, self._origin.size - (number - 1) * self.part_size)

    def _append(self, offset: int, data: memoryview) -> None:
        if offset == 0 and self._position:
            self._begin_anew()
        if offset != self._position:
            raise ValueError(f"bytes for offset {offset} came at {self._position}")
        if self._origin.size is not None and offset + len(data) > self._origin.size:
            raise ValueError(f"bytes came beyond the end, {self._origin.size}")
        while data:
            taken = data[: self._length(self._next) - len(self._buffer)]
            self._buffer += taken
            self._position, data = self._position + len(taken), data[len(taken) :]
            if len(self._buffer) == self._length(self._next) and not self._is_small:
                self._flush()

    def _begin_anew(self) -> None:
        self._buffer, self._position, self._next = bytearray(), 0, 1
        if self._in_parts:  # not every store takes other bytes for a part that it has
            self._discard()
            self._in_parts, self._held = False, ()

    def _flush(self) -> None:
        with memoryview(self._buffer) as view:
            self._send(self._next, view)
        self._buffer, self._next = bytearray(), self._next + 1

    def _send(self, number: int, data: memoryview) -> None:
        with self._landing:
            if self._stop.is_set():
                raise DestinationError("the upload was given up", target=self._target)
            self._flying += 1
            self._in_parts = True
        try:
            self._send_part(number, data)
        finally:
            with self._landing:
                self._flying -= 1
                self._landing.notify_all()

    def _check(self, size: int) -> None:
        wanted = self._origin.size
        if wanted is not None and wanted != size:
            raise DestinationError(f"{size} of {wanted} bytes were written", target=self._target)
