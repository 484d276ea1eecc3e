"""How requests reach Google Cloud Storage: through the client of the store's connection, on its own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.async_store import PATIENCE, AsyncRequests, Body
from airflow_provider_taskdl.transfer.sinks.base import MAX_SMALL, Stored

# Seconds.
_TO_CONNECT = 30.0
# Objects that are removed at the same time.
_AT_ONCE = 16
_WORDS = {"Forbidden": "403", "Bad Request": "400"}


class GcsRequests(AsyncRequests):
    """Talks to one bucket. Names of objects are relative to the prefix.

    :param fs: The file system of the store's connection (gcsfs), whose client and credentials are used.
    :param bucket: The bucket.
    :param prefix: What the objects' names begin with, with or without a slash at its end.
    """

    def __init__(self, fs: Any, bucket: str, prefix: str) -> None:
        super().__init__(fs.loop)
        prefix = prefix.strip("/")
        self._fs, self._bucket, self._prefix = fs, bucket, f"{prefix}/" if prefix else ""
        if fs.requests_timeout is None:  # which would be for ever; a total would be too short for some part
            from aiohttp import ClientTimeout

            fs.requests_timeout = ClientTimeout(sock_connect=_TO_CONNECT, sock_read=PATIENCE)

    def path_of(self, name: str) -> str:
        """Return an object's name in the bucket."""
        return self._prefix + name

    def head(self, name: str) -> dict[str, Any] | None:
        """Return what the store says of an object; ``None`` if there is none.

        :raises DestinationError: The store refused.
        """
        ask = partial(self._fs._call, "GET", "b/{}/o/{}", self._bucket, self.path_of(name), json_out=True)
        try:
            item: dict[str, Any] = self.call(name, ask)
        except DestinationError as error:
            if error.code == "404":
                return None
            raise
        return item

    def listed(self, names: set[str]) -> Mapping[str, Stored]:
        """Return what is there of names without a slash, found in one listing.

        :raises DestinationError: The store refused.
        """
        entries = self.call("", partial(self._list, "", delimiter="/"))
        stored = {str(entry["name"]).removeprefix(self._prefix): stored_as(entry) for entry in entries}
        return {name: stored[name] for name in names & stored.keys()}

    def sizes(self, start: str) -> dict[str, int]:
        """Return names and sizes of the objects whose names begin so.

        :raises DestinationError: The store refused.
        """
        items = self.call(start, partial(self._list, start))
        return {str(item["name"]).removeprefix(self._prefix): int(item.get("size", 0)) for item in items}

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``.

        :raises DestinationError: The store refused.
        """
        try:
            content = self.call(name, partial(self.read, name, 0, MAX_SMALL + 1))
        except DestinationError as error:
            if error.code in ("404", "416"):  # an empty object has no range
                return None if error.code == "404" else b""
            raise
        return content if len(content) <= MAX_SMALL else None

    def upload(self, name: str, body: Body, *, begun: Any = None, **query: str) -> Any:
        """Send an object's bytes in one request, and return what the store says of it then.

        :param name: The object.
        :param body: Its bytes.
        :param begun: Told of the question, which it may cancel.
        :param query: What the request says besides; ``content_type`` is the body's.
        :raises DestinationError: The store refused.
        """
        kind = query.pop("content_type", "application/octet-stream")
        headers = {"Content-Type": kind, "Content-Length": str(body.length)}
        query = query or {"uploadType": "media", "name": self.path_of(name)}
        # In the address and not among the parameters, where `name` is taken.
        address = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        path = f"{self._fs._location}/upload/storage/v1/b/{quote(self._bucket, safe='')}/o?{address}"
        send = partial(self._fs._call, "POST", path, headers=headers, data=body, json_out=True)
        return self.call(name, partial(body.while_taken, send), begun)

    def join(self, parts: Sequence[str], name: str, metadata: Mapping[str, str], *, replace: bool, begun: Any) -> Any:
        """Make one object out of others, and return what the store says of it.

        :param parts: Their names, 32 at most.
        :param name: The object's.
        :param metadata: The object's.
        :param replace: Whether one that is there may be replaced.
        :param begun: Told of the question, which it may cancel.
        :raises DestinationError: The store refused.
        """
        body = {
            "sourceObjects": [{"name": self.path_of(part)} for part in parts],
            "destination": {"metadata": dict(metadata), "contentType": "application/octet-stream"},
        }
        condition = {} if replace else {"ifGenerationMatch": "0"}
        path = ("b/{}/o/{}/compose", self._bucket, self.path_of(name))
        return self.call(name, partial(self._fs._call, "POST", *path, json=body, json_out=True, **condition), begun)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, as far as they are there.

        :raises DestinationError: The store refused.
        """
        gone = list(names)
        self.call(gone[0] if gone else "", partial(self._remove, gone))

    async def read(self, name: str, start: int, length: int, **query: str) -> bytes:
        """Return some of an object's bytes; for :meth:`call` and :meth:`digest`."""
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        path = ("b/{}/o/{}", self._bucket, self.path_of(name))
        _, content = await self._fs._call("GET", *path, headers=headers, alt="media", **query)
        return bytes(content)

    def target(self, name: str) -> str:
        """Return the address of an object, for people."""
        return f"gs://{self._bucket}/{self.path_of(name)}"

    async def _list(self, start: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"prefix": self.path_of(start), **query}
        while True:
            page = await self._fs._call("GET", "b/{}/o", self._bucket, json_out=True, **query)
            found += page.get("items", ())
            if not (token := page.get("nextPageToken")):
                return found
            query["pageToken"] = token

    async def _remove(self, names: Sequence[str]) -> None:
        async def remove(name: str) -> None:
            with suppress(FileNotFoundError):
                await self._fs._call("DELETE", "b/{}/o/{}", self._bucket, self.path_of(name))

        for at in range(0, len(names), _AT_ONCE):
            await asyncio.gather(*(remove(name) for name in names[at : at + _AT_ONCE]))

    @staticmethod
    def _as_error(error: Exception, target: str) -> DestinationError:
        kind = type(error).__name__
        # These answers the client puts into errors that have no code. Of two, their text begins with a word for it and
        # a path; what the store said of the reason is in the next lines.
        known = {"FileNotFoundError": "404", "FileExistsError": "412"}
        first, _, rest = str(getattr(error, "message", None) or error).partition("\n")
        word = _WORDS.get(first.partition(": ")[0])
        code = str(getattr(error, "code", None) or word or known.get(kind, kind))
        said = " ".join(rest.split()) if word and rest.strip() else first
        if code == "404":
            said = "it knows no such bucket, or no such object in it"
        how = f", with HTTP {code}" if code.isdecimal() else ""
        return DestinationError(f"the store refused{how}: {said[:300] or code}", target=target, code=code)


def stored_as(item: Mapping[str, Any]) -> Stored:
    """Return what the store says of an object, by its generation."""
    return Stored(int(item.get("size", 0)), f"generation:{item['generation']}")
