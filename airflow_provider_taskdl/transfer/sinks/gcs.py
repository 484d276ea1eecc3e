"""Google Cloud Storage: parts in any order and several at once, joined in one step, resumable.

Parts are small objects in ``_taskdl/parts/``, which the store joins by itself (`compose`). Their names tell to which
version of the file they belong, so that a later process on any machine can go on. A resumable session, the store's
other way, takes its bytes in order only, and the address by which it is gone on with is a credential.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.async_store import PATIENCE, AsyncStore, Body, version_of
from airflow_provider_taskdl.transfer.sinks.base import MAX_SMALL, OWN_FOLDER, Origin, Stored, find_in
from airflow_provider_taskdl.transfer.sinks.gcs_sink import GcsSink, Group, stored_as
from airflow_provider_taskdl.transfer.stop import never_stop

# Seconds.
_TO_CONNECT = 30.0
# Objects that are removed at the same time.
_AT_ONCE = 16
_WORDS = {"Forbidden": "403", "Bad Request": "400"}


class GcsStore(AsyncStore):
    """A prefix in a bucket.

    :param fs: The file system of the store's connection (gcsfs), whose client and credentials are used.
    :param bucket: The bucket.
    :param prefix: What the objects' names begin with, with or without a slash at its end.
    """

    def __init__(self, fs: Any, bucket: str, prefix: str) -> None:
        super().__init__(fs.loop)
        prefix = prefix.strip("/")
        self.fs, self.bucket, self.prefix = fs, bucket, f"{prefix}/" if prefix else ""
        self._groups: dict[str, list[Group]] | None = None
        self._uncleared: set[str] = set()
        if fs.requests_timeout is None:  # which would be for ever; a total would be too short for some part
            from aiohttp import ClientTimeout

            fs.requests_timeout = ClientTimeout(sock_connect=_TO_CONNECT, sock_read=PATIENCE)

    def prepare(self, needed: int) -> None:
        """See that the bucket answers, and what earlier processes have left."""
        self._groups = self._left()

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""

        def listed(some: set[str]) -> dict[str, Stored]:
            entries = self.call("", partial(self._list, "", delimiter="/"))
            stored = {str(entry["name"]).removeprefix(self.prefix): stored_as(entry) for entry in entries}
            return {name: stored[name] for name in some & stored.keys()}

        def head(name: str) -> Stored | None:
            item = self.look(name)
            return None if item is None else stored_as(item)

        return find_in(names, listed, head)

    def open(self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None) -> GcsSink:
        """Begin a file, or go on with one."""
        if self._groups is None:
            self._groups = self._left()
        version, known = version_of(origin), self._groups.get(hash_of(name), [])
        longest = max(part_size, longest or 0)
        usable = [one for one in known if one.sizes and one.version == version and one.part_size <= longest]
        group = max(usable, key=lambda group: len(group.sizes), default=None)
        others = [other for other in known if other is not group]
        group = group or Group(f"{OWN_FOLDER}/parts/{hash_of(name)}", version, part_size)
        return GcsSink(self, name, origin, group=group, others=others, replace=replace)

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of an object's bytes."""
        item = self.look(name)
        if item is None:
            raise DestinationError("the object is not there any more", target=self.target(name))
        read = partial(self._read, name, generation=item["generation"])
        return self.digest(name, int(item.get("size", 0)), read, announced, go_on)

    def settle(self, names: Iterable[str]) -> None:
        """Try once more to remove parts that could not be removed when they were joined or given up."""
        for place in tuple(self._uncleared):
            self._uncleared.discard(place)
            with suppress(DestinationError):  # a rule of the bucket is for what stays
                self.remove(self.parts_of(place))

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        try:
            content = self.call(name, partial(self._read, name, 0, MAX_SMALL + 1))
        except DestinationError as error:
            if error.code in ("404", "416"):  # an empty object has no range
                return None if error.code == "404" else b""
            raise
        return content if len(content) <= MAX_SMALL else None

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small objects that begin so."""
        return self.parts_of(start)

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        self.upload(name, Body(data))

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        self.call(name, partial(self._remove, [name]))

    def look(self, name: str) -> dict[str, Any] | None:
        """Return what the store says of an object; ``None`` if there is none.

        :raises DestinationError: The store refused.
        """
        path = partial(self.fs._call, "GET", "b/{}/o/{}", self.bucket, self.prefix + name, json_out=True)
        try:
            item: dict[str, Any] = self.call(name, path)
        except DestinationError as error:
            if error.code == "404":
                return None
            raise
        return item

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
        query = query or {"uploadType": "media", "name": self.prefix + name}
        # In the address and not among the parameters, where `name` is taken.
        address = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        path = f"{self.fs._location}/upload/storage/v1/b/{quote(self.bucket, safe='')}/o?{address}"
        send = partial(self.fs._call, "POST", path, headers=headers, data=body, json_out=True)
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
            "sourceObjects": [{"name": self.prefix + part} for part in parts],
            "destination": {"metadata": dict(metadata), "contentType": "application/octet-stream"},
        }
        condition = {} if replace else {"ifGenerationMatch": "0"}
        path = ("b/{}/o/{}/compose", self.bucket, self.prefix + name)
        return self.call(name, partial(self.fs._call, "POST", *path, json=body, json_out=True, **condition), begun)

    def clear(self, place: str) -> None:
        """Remove the parts of a try that is over.

        :param place: What their names begin with.
        :raises DestinationError: The store refused; :meth:`settle` tries once more.
        """
        try:
            self.remove(self.parts_of(place))
        except DestinationError:
            self._uncleared.add(place)
            raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, as far as they are there.

        :raises DestinationError: The store refused.
        """
        self.call("", partial(self._remove, list(names)))

    def parts_of(self, place: str) -> dict[str, int]:
        """Return names and sizes of the objects whose names begin so.

        :raises DestinationError: The store refused.
        """
        items = self.call(place, partial(self._list, place))
        return {str(item["name"]).removeprefix(self.prefix): int(item.get("size", 0)) for item in items}

    def target(self, name: str) -> str:
        """Return the address of an object, for people."""
        return f"gs://{self.bucket}/{self.prefix}{name}"

    def _left(self) -> dict[str, list[Group]]:
        groups: dict[str, Group] = {}
        for name, size in self.parts_of(f"{OWN_FOLDER}/parts/").items():
            Group.collect(groups, name, size)
        found: dict[str, list[Group]] = {}
        for group in groups.values():
            found.setdefault(group.folder.rpartition("/")[2], []).append(group)
        return found

    async def _list(self, start: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        query = {"prefix": self.prefix + start, **query}
        while True:
            page = await self.fs._call("GET", "b/{}/o", self.bucket, json_out=True, **query)
            found += page.get("items", ())
            if not (token := page.get("nextPageToken")):
                return found
            query["pageToken"] = token

    async def _read(self, name: str, start: int, length: int, **query: str) -> bytes:
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        path = ("b/{}/o/{}", self.bucket, self.prefix + name)
        _, content = await self.fs._call("GET", *path, headers=headers, alt="media", **query)
        return bytes(content)

    async def _remove(self, names: Sequence[str]) -> None:
        async def remove(name: str) -> None:
            with suppress(FileNotFoundError):
                await self.fs._call("DELETE", "b/{}/o/{}", self.bucket, self.prefix + name)

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


def hash_of(name: str) -> str:
    """Return what stands for a file in the names of its parts."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
