"""Azure Blob Storage: blocks in any order and several at once, published in one step, resumable.

Nothing shows under a blob's name until its list of blocks is committed. Azure keeps the blocks of an unfinished blob
for a week and lists them, and a block's name is ours to choose: it tells to which version of the file it belongs, so
that a later process on any machine can go on without a record of ours.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.async_store import AsyncStore, version_of
from airflow_provider_taskdl.transfer.sinks.azure_sink import AzureSink, Try, stored_as
from airflow_provider_taskdl.transfer.sinks.base import MAX_SMALL, Origin, Stored, find_in
from airflow_provider_taskdl.transfer.stop import never_stop

_MAX_BLOCKS = 50_000
_CLIENTS_LOG = "azure.core.pipeline.policies.http_logging_policy"
_MISSING = frozenset({"BlobNotFound", "404"})
# What Azure's own words do not tell.
_HINTS = {
    "InvalidBlobOrBlock": "another program has left unfinished blocks there, with ids of another length; "
    "Azure drops them after a week, or at once when a whole blob is written",
}


class AzureStore(AsyncStore):
    """A prefix in a container.

    :param fs: The file system of the store's connection (adlfs), whose client and credentials are used.
    :param container: The container.
    :param prefix: What the blobs' names begin with, with or without a slash at its end.
    """

    def __init__(self, fs: Any, container: str, prefix: str) -> None:
        prefix = prefix.strip("/")
        super().__init__(fs.loop)
        self._client = fs.service_client
        # As Airflow's own hook for Azure has it: the client tells of each request in twenty lines of the task's log.
        logging.getLogger(_CLIENTS_LOG).setLevel(os.environ.get("AZURE_HTTP_LOGGING_LEVEL", logging.WARNING))
        self.container, self.prefix = container, f"{prefix}/" if prefix else ""
        self._spoiled: set[tuple[str, str]] = set()

    def prepare(self, needed: int) -> None:
        """Do nothing: there are no directories, and a container that is missing is found out by the first question."""

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""

        def head(name: str) -> Stored | None:
            properties = self.head(name)
            return None if properties is None else stored_as(properties)

        return find_in(names, lambda listed: self.call("", lambda: self._list(listed)), head)

    def open(
        self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None
    ) -> AzureSink:
        """Begin a file, or go on with one."""
        length = max(part_size, -(-(origin.size or 0) // _MAX_BLOCKS))
        version = version_of(origin)
        left = self._left(name, version, max(length, longest or 0)) if origin.is_certain else None
        return AzureSink(self, name, origin, blocks=left or Try(version, length), replace=replace)

    def spoil(self, name: str, blocks: Try) -> None:
        """See that no later try goes on with these blocks, in this process or another: a block numbered 0 says so.

        :raises DestinationError: The store refused; then only this process knows.
        """
        self._spoiled.add((name, blocks.start))
        self.call(name, lambda: self.blob(name).stage_block(blocks.name_of(0), b"-", length=1))

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of a blob's bytes."""
        properties = self.head(name)
        if properties is None:
            raise DestinationError("the blob is not there any more", target=self.target(name))
        condition = {"If-Match": properties.etag}
        return self.digest(name, properties.size, partial(self._read, name, headers=condition), announced, go_on)

    def settle(self, names: Iterable[str]) -> None:
        """Do nothing: Azure forgets all loose blocks of a blob when one of its lists is committed."""

    def read_small(self, name: str) -> bytes | None:
        """Return a small blob's content, or ``None``."""
        try:
            return self.call(name, partial(self._whole, name))
        except DestinationError as error:
            if error.code in _MISSING:
                return None
            raise

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small blobs that begin so."""
        return self.call(start, partial(self._begin_with, start))

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small blob in one step."""
        self.call(name, lambda: self.blob(name).upload_blob(data, length=len(data), overwrite=True))

    def remove_small(self, name: str) -> None:
        """Remove a small blob, if it is there."""
        try:
            self.call(name, lambda: self.blob(name).delete_blob())
        except DestinationError as error:
            if error.code not in _MISSING:
                raise

    def head(self, name: str) -> Any:
        """Return what Azure says of a blob; ``None`` if there is none.

        :raises DestinationError: The store refused, or the container does not exist.
        """
        try:
            properties = self.call(name, lambda: self.blob(name).get_blob_properties())
        except DestinationError as error:
            if error.code in _MISSING:
                return None
            raise
        return None if _is_folder(properties) else properties

    def blob(self, name: str) -> Any:
        """Return the client of one blob."""
        return self._client.get_blob_client(self.container, self.prefix + name)

    def target(self, name: str) -> str:
        """Return the address of a blob, for people."""
        return f"abfs://{self.container}/{self.prefix}{name}"

    async def _begin_with(self, start: str) -> list[str]:
        container = self._client.get_container_client(self.container)
        found = container.list_blobs(name_starts_with=self.prefix + start)
        return [str(entry.name).removeprefix(self.prefix) async for entry in found]

    async def _list(self, names: set[str]) -> dict[str, Stored]:
        found, container = {}, self._client.get_container_client(self.container)
        async for entry in container.walk_blobs(name_starts_with=self.prefix, include=["metadata"], delimiter="/"):
            name = entry.name.removeprefix(self.prefix)
            if name in names and hasattr(entry, "etag") and not _is_folder(entry):
                found[name] = stored_as(entry)
        return found

    async def _read(self, name: str, start: int, length: int, **conditions: Any) -> bytes:
        stream = await self.blob(name).download_blob(offset=start, length=length, max_concurrency=1, **conditions)
        content: bytes = await stream.readall()
        return content

    async def _whole(self, name: str) -> bytes | None:
        # Asked for without a range: an empty blob has none.
        stream = await self.blob(name).download_blob(max_concurrency=1)
        if stream.size > MAX_SMALL or _is_folder(stream.properties):
            return None
        content: bytes = await stream.readall()
        return content

    def _left(self, name: str, version: str, longest: int) -> Try | None:
        """Return the most that an earlier process has left of this version of a file."""
        try:
            _, loose = self.call(name, lambda: self.blob(name).get_block_list("uncommitted"))
        except DestinationError as error:
            if error.code in _MISSING:
                return None
            raise
        tries: dict[str, Try] = {}
        for block in loose:
            Try.collect(tries, version, block.id, block.size)
        usable = [
            found
            for start, found in tries.items()
            if found.part_size <= longest and 0 not in found.sizes and (name, start) not in self._spoiled
        ]
        return max(usable, key=lambda found: len(found.sizes), default=None)

    @staticmethod
    def _as_error(error: Exception, target: str) -> DestinationError:
        status = getattr(error, "status_code", None)
        if status is None:
            # No answer: no way to the account, no credentials, a parameter it does not know.
            kind = type(error).__name__
            said = str(getattr(error, "message", error)).partition("\n")[0]
            return DestinationError(f"the store cannot be asked: {kind}: {said[:300]}", target=target, code=kind)
        code = getattr(error, "error_code", None)
        code = str(getattr(code, "value", code) or status)
        said = str(getattr(error, "reason", None) or getattr(error, "message", "")).partition("\n")[0] or code
        said = f"{said[:300]}: {_HINTS[code]}" if code in _HINTS else said[:300]
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        return DestinationError(
            f"the store refused, with HTTP {status}: {said}",
            target=target,
            code=code,
            request_id=headers.get("x-ms-request-id"),
        )


def _is_folder(properties: Any) -> bool:
    # Accounts with real directories show them as empty blobs too.
    return (properties.metadata or {}).get("hdi_isfolder") == "true"
