"""One file on its way into a container: in one request, or in blocks that come in any order."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.async_store import MARK, AsyncSink, Body
from airflow_provider_taskdl.transfer.sinks.azure_blocks import Blocks, Try
from airflow_provider_taskdl.transfer.sinks.azure_requests import AzureRequests, stored_as
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored

_EXISTS = frozenset({"BlobAlreadyExists", "ConditionNotMet"})
# What the client takes as one piece of bytes.
_AT_ONCE = 1024 * 1024


class AzureSink(AsyncSink):
    """A file on its way into a container.

    :param requests: The destination.
    :param blocks: Its loose blocks.
    :param name: The file's name there.
    :param origin: Its version at the host.
    :param begun: The file's own blocks, those too that an earlier process has left.
    :param replace: Whether a blob of that name may be replaced.
    """

    def __init__(
        self, requests: AzureRequests, blocks: Blocks, name: str, origin: Origin, begun: Try, *, replace: bool
    ) -> None:
        self._requests, self._blocks, self._name, self._replace = requests, blocks, name, replace
        super().__init__(requests, name, origin, part_size=begun.part_size, in_parts=bool(begun.sizes))
        sizes = {number: size for number, size in begun.sizes.items() if size == self._length(number)}
        self._begun, self._held = Try(begun.version, begun.part_size, begun.mark, sizes), frozenset(sizes)

    def _discard(self) -> None:
        """See that nobody takes them for the file's: loose blocks stay until a list is committed, or a week."""
        spoiled, self._begun = self._begun, Try(self._begun.version, self.part_size)
        if self._origin.is_certain:  # otherwise nobody else knows how to call them
            self._blocks.spoil(self._name, spoiled)

    def _send_part(self, number: int, data: memoryview) -> None:
        begun, body = self._begun, Body(data)
        blob = self._requests.blob(self._name)
        send = partial(blob.stage_block, begun.name_of(number), body, length=body.length)
        try:
            self._requests.call(self._name, partial(body.while_taken, send), self._may_be_cancelled)
        finally:
            body.take_back()
        begun.sizes[number] = len(data)

    def _put(self, data: bytearray) -> Stored:
        size = len(data)
        if size > _AT_ONCE:
            with memoryview(data) as view:
                self._send(1, view)
            return self._complete()
        content, metadata = bytes(data), self._metadata(size)
        return self._publish(
            size,
            lambda: self._requests.blob(self._name).upload_blob(
                content, length=size, overwrite=self._replace, metadata=metadata
            ),
        )

    def _complete(self) -> Stored:
        self._check(size := sum(self._begun.sizes.values()))
        blocks = [self._begun.name_of(number) for number in sorted(self._begun.sizes)]
        options: dict[str, Any] = {} if self._replace else {"headers": {"If-None-Match": "*"}}
        metadata = self._metadata(size)
        return self._publish(
            size, lambda: self._requests.blob(self._name).commit_block_list(blocks, metadata=metadata, **options)
        )

    def _publish(self, size: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> Stored:
        """Send the request that gives the blob its name, and see what the store has then."""
        refused = None
        try:
            answer = self._requests.call(self._name, work, self._may_be_cancelled)
            if not self._in_parts:  # the store has counted the bytes itself
                return Stored(size, f"etag:{answer['etag']}".replace('"', ""))
        except DestinationError as error:
            if self._replace or error.code not in _EXISTS:
                raise
            refused = error
        properties = self._requests.head(self._name)
        # Its own mark tells it from another's: by a request whose answer was lost, it may be there for all that.
        if properties is not None and (properties.metadata or {}).get(MARK) == self._mark and properties.size == size:
            return stored_as(properties)
        if refused is not None:
            raise DestinationExistsError("there is something of this name already", target=self._target)
        raise DestinationError(
            f"the store has not the {size} bytes that were written, or no longer", target=self._target
        )
