"""Azure Blob Storage: blocks in any order and several at once, published in one step, resumable.

Nothing shows under a blob's name until its list of blocks is committed. Azure keeps the blocks of an unfinished blob
for a week.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.async_store import version_of
from airflow_provider_taskdl.transfer.sinks.azure_blocks import Blocks, Try
from airflow_provider_taskdl.transfer.sinks.azure_requests import MISSING, AzureRequests, stored_as
from airflow_provider_taskdl.transfer.sinks.azure_sink import AzureSink
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored, find_in
from airflow_provider_taskdl.transfer.stop import never_stop

_MAX_BLOCKS = 50_000


class AzureStore:
    """A prefix in a container.

    :param fs: The file system of the store's connection (adlfs), whose client and credentials are used.
    :param container: The container.
    :param prefix: What the blobs' names begin with, with or without a slash at its end.
    """

    def __init__(self, fs: Any, container: str, prefix: str) -> None:
        self.requests = AzureRequests(fs, container, prefix)
        self._blocks = Blocks(self.requests)

    def prepare(self, needed: int) -> None:
        """Do nothing: there are no directories, and a container that is missing is found out by the first question."""

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""

        def head(name: str) -> Stored | None:
            properties = self.requests.head(name)
            return None if properties is None else stored_as(properties)

        return find_in(names, self.requests.listed, head)

    def open(
        self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None
    ) -> AzureSink:
        """Begin a file, or go on with one."""
        length = max(part_size, -(-(origin.size or 0) // _MAX_BLOCKS))
        version = version_of(origin)
        left = self._blocks.resume(name, version, max(length, longest or 0)) if origin.is_certain else None
        return AzureSink(self.requests, self._blocks, name, origin, left or Try(version, length), replace=replace)

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of a blob's bytes."""
        properties = self.requests.head(name)
        if properties is None:
            raise DestinationError("the blob is not there any more", target=self.requests.target(name))
        read = partial(self.requests.read, name, headers={"If-Match": properties.etag})
        return self.requests.digest(name, properties.size, read, announced, go_on)

    def settle(self, names: Iterable[str]) -> None:
        """Do nothing: Azure forgets all loose blocks of a blob when one of its lists is committed."""

    def read_small(self, name: str) -> bytes | None:
        """Return a small blob's content, or ``None``."""
        return self.requests.read_small(name)

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small blobs that begin so."""
        return self.requests.names(start)

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small blob in one step."""
        self.requests.call(name, lambda: self.requests.blob(name).upload_blob(data, length=len(data), overwrite=True))

    def remove_small(self, name: str) -> None:
        """Remove a small blob, if it is there."""
        try:
            self.requests.call(name, lambda: self.requests.blob(name).delete_blob())
        except DestinationError as error:
            if error.code not in MISSING:
                raise
