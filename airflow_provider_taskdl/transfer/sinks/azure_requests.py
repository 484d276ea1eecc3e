"""How requests reach Azure Blob Storage: through the client of the store's connection, on its own event loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.async_store import AsyncRequests
from airflow_provider_taskdl.transfer.sinks.base import MAX_SMALL, Stored

# Besides the plain answer "there is none"; a HEAD has no body that could say more.
MISSING = frozenset({"BlobNotFound", "404"})
_CLIENTS_LOG = "azure.core.pipeline.policies.http_logging_policy"
# What Azure's own words do not tell.
_HINTS = {
    "InvalidBlobOrBlock": "another program has left unfinished blocks there, with ids of another length; "
    "Azure drops them after a week, or at once when a whole blob is written",
}


class AzureRequests(AsyncRequests):
    """Talks to one container. Names of blobs are relative to the prefix.

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
        self._container, self._prefix = container, f"{prefix}/" if prefix else ""

    def blob(self, name: str) -> Any:
        """Return the client of one blob."""
        return self._client.get_blob_client(self._container, self._prefix + name)

    def head(self, name: str) -> Any:
        """Return what Azure says of a blob; ``None`` if there is none.

        :raises DestinationError: The store refused, or the container does not exist.
        """
        try:
            properties = self.call(name, lambda: self.blob(name).get_blob_properties())
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        return None if _is_folder(properties) else properties

    def listed(self, names: set[str]) -> Mapping[str, Stored]:
        """Return what is there of names without a slash, found in one listing.

        :raises DestinationError: The store refused.
        """
        return self.call("", partial(self._listed, names))

    def names(self, start: str) -> list[str]:
        """Return the names of blobs that begin so.

        :raises DestinationError: The store refused.
        """
        return self.call(start, partial(self._names, start))

    def read_small(self, name: str) -> bytes | None:
        """Return a small blob's content, or ``None``.

        :raises DestinationError: The store refused.
        """
        try:
            return self.call(name, partial(self._whole, name))
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise

    async def read(self, name: str, start: int, length: int, **conditions: Any) -> bytes:
        """Return some of a blob's bytes; for :meth:`digest`."""
        stream = await self.blob(name).download_blob(offset=start, length=length, max_concurrency=1, **conditions)
        content: bytes = await stream.readall()
        return content

    def target(self, name: str) -> str:
        """Return the address of a blob, for people."""
        return f"abfs://{self._container}/{self._prefix}{name}"

    async def _names(self, start: str) -> list[str]:
        container = self._client.get_container_client(self._container)
        found = container.list_blobs(name_starts_with=self._prefix + start)
        return [str(entry.name).removeprefix(self._prefix) async for entry in found]

    async def _listed(self, names: set[str]) -> dict[str, Stored]:
        found, container = {}, self._client.get_container_client(self._container)
        async for entry in container.walk_blobs(name_starts_with=self._prefix, include=["metadata"], delimiter="/"):
            name = entry.name.removeprefix(self._prefix)
            if name in names and hasattr(entry, "etag") and not _is_folder(entry):
                found[name] = stored_as(entry)
        return found

    async def _whole(self, name: str) -> bytes | None:
        # Asked for without a range: an empty blob has none.
        stream = await self.blob(name).download_blob(max_concurrency=1)
        if stream.size > MAX_SMALL or _is_folder(stream.properties):
            return None
        content: bytes = await stream.readall()
        return content

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


def stored_as(properties: Any) -> Stored:
    """Return what the store says of a blob, by its ETag."""
    return Stored(int(properties.size), f"etag:{properties.etag}".replace('"', ""))


def _is_folder(properties: Any) -> bool:
    # Accounts with real directories show them as empty blobs too.
    return (properties.metadata or {}).get("hdi_isfolder") == "true"
