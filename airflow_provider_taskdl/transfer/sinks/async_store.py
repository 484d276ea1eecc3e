"""What stores have in common whose clients work on an event loop of their own, as those of fsspec do."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, TypeVar

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.parted import PartedSink

T = TypeVar("T")

# In an object's metadata: by which sink it came.
MARK = "taskdl_upload"
# What is given to the network at once.
_SLICE = 256 * 1024
# What is read back at once.
_READ = 4 * 1024 * 1024
# Seconds in which something has to come from a store, or some more bytes have to be taken by it.
PATIENCE = 120.0


class AsyncRequests(ABC):
    """Talks to a store from any thread.

    :param loop: The loop that the client's connections belong to.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(
        self, name: str, work: Callable[[], Coroutine[Any, Any, T]], begun: Callable[[Future[T]], None] | None = None
    ) -> T:
        """Let the client work and wait for its answer.

        :param name: The object that it is about, for people.
        :param work: Asks for something.
        :param begun: Told of the question, which it may cancel.
        :raises DestinationError: The store refused, or the question was cancelled; ``code`` says what it answered.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
            if begun is not None:
                begun(future)
            return future.result()
        except CancelledError:
            problem = DestinationError("the upload was given up", target=self.target(name))
        except Exception as error:  # noqa: BLE001 - the client's errors cannot be named without importing it
            problem = self._as_error(error, self.target(name))
        raise problem  # outside the handler: what it caught holds the request

    def digest(
        self,
        name: str,
        size: int,
        read: Callable[[int, int], Coroutine[Any, Any, bytes]],
        announced: Mapping[str, str] | None,
        go_on: Callable[[], None],
    ) -> str:
        """Return the sha256 of an object.

        :param name: The object.
        :param size: Its bytes.
        :param read: Reads from a position on, as many bytes at most.
        :param announced: Digests that it must have.
        :param go_on: As for :meth:`Store.sha256`.
        :raises DestinationError: The store refused, or gives fewer bytes than it says there are.
        :raises IntegrityError: A digest is another.
        """
        digests, position = Digests(announced or {}), 0
        while position < size:
            go_on()
            content = self.call(name, partial(read, position, _READ))
            if not content:
                raise DestinationError(f"the store gives {position} of {size} bytes back", target=self.target(name))
            digests.update(memoryview(content))
            position += len(content)
        digests.verify()
        return digests.sha256

    @abstractmethod
    def target(self, name: str) -> str:
        """Return the address of an object, for people."""

    @staticmethod
    @abstractmethod
    def _as_error(error: Exception, target: str) -> DestinationError:
        """Return our word for a client's error; ``code`` says what the store answered."""


class AsyncSink(PartedSink):
    """A file on its way to such a store.

    :param requests: The destination.
    :param name: The file's name there.
    :param origin: Its version at the host.
    :param facts: What :class:`PartedSink` asks for besides.
    """

    def __init__(self, requests: AsyncRequests, name: str, origin: Origin, **facts: Any) -> None:
        super().__init__(requests.target(name), origin, **facts)
        self._asked: set[Future[Any]] = set()
        self._hash = hashlib.sha256()
        self._digest = (0, self._hash.hexdigest())
        self._mark = uuid.uuid4().hex

    def write(self, offset: int, data: memoryview) -> None:
        """Take a part, or the next bytes of the whole: as that a file comes whose version is not certain."""
        if self._origin.is_certain:
            super().write(offset, data)
        else:  # though some chunk may look like a part, its bytes belong into the digest
            self._append(offset, data)

    def note(self, end: int, sha256: str) -> None:
        """Remember the digest: the last one is the file's, and goes into its metadata."""
        self._digest = (end, sha256)

    def stop(self) -> None:
        """End the requests that are sending bytes."""
        super().stop()
        for future in tuple(self._asked):
            future.cancel()

    def _append(self, offset: int, data: memoryview) -> None:
        super()._append(offset, data)
        self._hash.update(data)
        self._digest = (self._position, self._hash.hexdigest())

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._hash = hashlib.sha256()

    def _metadata(self, size: int) -> dict[str, str]:
        """Return what the object is to bear: by which sink it came and, if that was seen, its sha256."""
        end, digest = self._digest
        return {MARK: self._mark, **({"sha256": digest} if end == size else {})}

    def _may_be_cancelled(self, future: Future[Any]) -> None:
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        if self._stop.is_set():
            future.cancel()


class Body:
    """Bytes that go out slice by slice and, if the client tries again, once more: nothing copies them as a whole.

    :param pieces: The bytes, in order.
    :ivar length: How many they are.
    """

    def __init__(self, *pieces: memoryview | bytes) -> None:
        self._pieces: Sequence[memoryview | bytes] = pieces
        self.length = sum(map(len, pieces))
        self._gone, self._is_going = 0, False

    async def while_taken(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Let a client send them and return what the store says, however long it takes, while some go out.

        :param work: Sends them.
        :raises TimeoutError: The store took none for long, which the clients would bear for ever.
        """
        task = asyncio.ensure_future(work())
        try:
            while not task.done():
                before = self._gone
                await asyncio.wait({task}, timeout=PATIENCE)
                if self._is_going and self._gone == before and not task.done():
                    raise TimeoutError("it takes no more bytes")
            return task.result()
        finally:
            task.cancel()

    def take_back(self) -> None:
        """Let no more of them go: whoever gave the bytes has other use for their place."""
        self._pieces = ()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._slices()

    async def _slices(self) -> AsyncIterator[bytes]:
        self._is_going = True
        try:
            for piece in self._pieces:
                for at in range(0, len(piece), _SLICE):
                    if not self._pieces:
                        return
                    self._gone += 1
                    yield bytes(piece[at : at + _SLICE])
        finally:
            self._is_going = False


def version_of(origin: Origin) -> str:
    """Return what stands for a file's version in the names of its parts.

    What cannot be told from another version is nobody else's.
    """
    text = f"{origin.size}\n{origin.etag}\n{origin.modified}" if origin.is_certain else uuid.uuid4().hex
    return hashlib.sha256(text.encode()).hexdigest()[:16]
