"""One file on its way into a container: in one request, or in blocks that come in any order."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from string import hexdigits
from typing import TYPE_CHECKING, Any

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.async_store import MARK, AsyncSink, Body
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored

if TYPE_CHECKING:
    from airflow_provider_taskdl.transfer.sinks.azure import AzureStore

_EXISTS = frozenset({"BlobAlreadyExists", "ConditionNotMet"})
# What the client takes as one piece of bytes.
_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Try:
    """What one process, or several after each other, send of a version of a file.

    A block is called by the file's version, the try's mark, the length of the parts and the part's number. All names of
    one blob's blocks must be equally long; these have the length that adlfs has chosen too.

    :param version: Stands for the file's version.
    :param part_size: Bytes of a part.
    :param mark: Tells the blocks of two tries apart.
    :param sizes: Number → bytes of each part that is there.
    """

    version: str
    part_size: int
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    sizes: dict[int, int] = field(default_factory=dict)

    @property
    def start(self) -> str:
        """What the names of all its blocks begin with."""
        return f"{self.version[:12]}{self.mark}{self.part_size:08x}"

    def name_of(self, number: int) -> str:
        """Return a block's name."""
        return f"{self.start}{number:06d}"

    @staticmethod
    def collect(tries: dict[str, Try], version: str, block: str, size: int) -> None:
        """Put a block that is there to its try, if it is of this version.

        :param tries: All that were seen, by what their blocks' names begin with.
        :param version: The version.
        :param block: The block's name.
        :param size: Its bytes.
        """
        length, number = block[18:26], block[26:]
        if len(block) != 32 or not number.isdecimal() or not set(length) <= set(hexdigits):
            return
        found = Try(version, int(length, 16), block[12:18])
        if found.part_size > 0 and found.name_of(int(number)) == block:
            tries.setdefault(found.start, found).sizes[int(number)] = size


class AzureSink(AsyncSink):
    """A file on its way into a container.

    :param store: The destination.
    :param name: The file's name there.
    :param origin: Its version at the host.
    :param blocks: Its blocks, those too that an earlier process has left.
    :param replace: Whether a blob of that name may be replaced.
    """

    def __init__(self, store: AzureStore, name: str, origin: Origin, *, blocks: Try, replace: bool) -> None:
        self._store, self._name, self._replace = store, name, replace
        super().__init__(store, name, origin, part_size=blocks.part_size, in_parts=bool(blocks.sizes))
        sizes = {number: size for number, size in blocks.sizes.items() if size == self._length(number)}
        self._blocks, self._held = Try(blocks.version, blocks.part_size, blocks.mark, sizes), frozenset(sizes)

    def _discard(self) -> None:
        """See that nobody takes them for the file's: loose blocks stay until a list is committed, or a week."""
        spoiled, self._blocks = self._blocks, Try(self._blocks.version, self.part_size)
        if self._origin.is_certain:  # otherwise nobody else knows how to call them
            self._store.spoil(self._name, spoiled)

    def _send_part(self, number: int, data: memoryview) -> None:
        blocks, body = self._blocks, Body(data)
        blob = self._store.blob(self._name)
        send = partial(blob.stage_block, blocks.name_of(number), body, length=body.length)
        try:
            self._store.call(self._name, partial(body.while_taken, send), self._may_be_cancelled)
        finally:
            body.take_back()
        blocks.sizes[number] = len(data)

    def _put(self, data: bytearray) -> Stored:
        size = len(data)
        if size > _AT_ONCE:
            with memoryview(data) as view:
                self._send(1, view)
            return self._complete()
        content, metadata = bytes(data), self._metadata(size)
        return self._publish(
            size,
            lambda: self._store.blob(self._name).upload_blob(
                content, length=size, overwrite=self._replace, metadata=metadata
            ),
        )

    def _complete(self) -> Stored:
        self._check(size := sum(self._blocks.sizes.values()))
        blocks = [self._blocks.name_of(number) for number in sorted(self._blocks.sizes)]
        options: dict[str, Any] = {} if self._replace else {"headers": {"If-None-Match": "*"}}
        metadata = self._metadata(size)
        return self._publish(
            size, lambda: self._store.blob(self._name).commit_block_list(blocks, metadata=metadata, **options)
        )

    def _publish(self, size: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> Stored:
        """Send the request that gives the blob its name, and see what the store has then."""
        refused = None
        try:
            answer = self._store.call(self._name, work, self._may_be_cancelled)
            if not self._in_parts:  # the store has counted the bytes itself
                return Stored(size, f"etag:{answer['etag']}".replace('"', ""))
        except DestinationError as error:
            if self._replace or error.code not in _EXISTS:
                raise
            refused = error
        properties = self._store.head(self._name)
        # Its own mark tells it from another's: by a request whose answer was lost, it may be there for all that.
        if properties is not None and (properties.metadata or {}).get(MARK) == self._mark and properties.size == size:
            return stored_as(properties)
        if refused is not None:
            raise DestinationExistsError("there is something of this name already", target=self._target)
        raise DestinationError(
            f"the store has not the {size} bytes that were written, or no longer", target=self._target
        )


def stored_as(properties: Any) -> Stored:
    """Return what the store says of a blob, by its ETag."""
    return Stored(int(properties.size), f"etag:{properties.etag}".replace('"', ""))
