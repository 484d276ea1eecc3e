"""One file on its way into a container: in one request, or in blocks that come in any order."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
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
class Left:
    """What an earlier process has left of a file.

    A block is called by the file's version, the length of the parts and the part's number. All names of one blob's
    blocks must be equally long; these have the length that adlfs has chosen too.

    :param part_size: Bytes of a part.
    :param sizes: Number → bytes of each part that is there.
    """

    part_size: int
    sizes: Mapping[int, int]

    @staticmethod
    def name_of(version: str, part_size: int, number: int) -> str:
        """Return a block's name."""
        return f"{version}{part_size:010x}{number:06d}"

    @staticmethod
    def place_of(block: str, version: str) -> tuple[int, int] | None:
        """Return length and number of a part of this version by its block's name; ``None`` if it is none."""
        if len(block) != 32 or not block.startswith(version):
            return None
        try:
            length, number = int(block[16:26], 16), int(block[26:])
        except ValueError:
            return None
        return (length, number) if Left.name_of(version, length, number) == block else None


class AzureSink(AsyncSink):
    """A file on its way into a container.

    :param store: The destination.
    :param name: The file's name there.
    :param origin: Its version at the host.
    :param version: Stands for that version in the names of its blocks.
    :param part_size: Bytes of a part, unless others are ``left``.
    :param replace: Whether a blob of that name may be replaced.
    :param left: What an earlier process has left of it.
    """

    def __init__(
        self,
        store: AzureStore,
        name: str,
        origin: Origin,
        *,
        version: str,
        part_size: int,
        replace: bool,
        left: Left | None,
    ) -> None:
        self._store, self._name, self._version, self._replace = store, name, version, replace
        super().__init__(
            store,
            name,
            origin,
            part_size=left.part_size if left else part_size,
            in_parts=left is not None,
        )
        self._sizes = dict(left.sizes) if left else {}
        self._held = {number for number, size in self._sizes.items() if size == self._length(number)}

    def _discard(self) -> None:
        """Leave them: nothing but a commit removes loose blocks. Another version's are never taken for this one's."""
        self._sizes = {}
        self._version = uuid.uuid4().hex[:16]

    def _send_part(self, number: int, data: memoryview) -> None:
        block = Left.name_of(self._version, self.part_size, number)
        body = Body(data)
        try:
            self._store.call(
                self._name,
                lambda: self._store.blob(self._name).stage_block(block, body, length=len(data)),
                self._may_be_cancelled,
            )
        finally:
            body.take_back()
        self._sizes[number] = len(data)

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
        self._check(size := sum(self._sizes.values()))
        blocks = [Left.name_of(self._version, self.part_size, number) for number in sorted(self._sizes)]
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
