"""What the clients of Azure and Google are asked, answered from memory: for what no emulator can be made to do."""

from __future__ import annotations

import asyncio
import json as js
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs, as fsspec has one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Refused(Exception):
    """Azure's refusal."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status_code, self.error_code, self.reason = status, code, code


class HttpError(Exception):
    """Google's refusal, in the client's words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class AzureAccount:
    """An account, as far as a store asks it; it stands for the file system, too.

    :ivar loose: Blob → name of a block → its bytes.
    :ivar blobs: Blob → what it is now.
    :ivar shown: What each blob has been, in order.
    :ivar given: Bytes of a blob that are given at most, whatever its size is said to be.
    :ivar then: Blob → what it becomes when it was asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.service_client = loop, self
        self.given: int | None = None
        self.then: dict[str, bytes] = {}
        self.loose: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, SimpleNamespace] = {}
        self.shown: list[tuple[str, bytes]] = []

    def get_blob_client(self, container: str, name: str) -> AzureBlob:
        return AzureBlob(self, name)

    def publish(self, name: str, data: bytes, metadata: dict[str, str] | None = None) -> dict[str, str]:
        self.shown.append((name, data))
        etag = f'"{len(self.shown)}"'
        self.blobs[name] = SimpleNamespace(name=name, size=len(data), metadata=metadata, etag=etag, data=data)
        self.loose.pop(name, None)
        return {"etag": etag}


class AzureBlob:
    """The client of one blob."""

    def __init__(self, account: AzureAccount, name: str) -> None:
        self.account, self.name = account, name

    def _there(self) -> Any:
        if self.name not in self.account.blobs:
            raise Refused(404, "BlobNotFound")
        there = self.account.blobs[self.name]
        if self.name in self.account.then:
            self.account.publish(self.name, self.account.then.pop(self.name))
        return there

    async def stage_block(self, block: str, data: AsyncIterator[bytes] | bytes, length: int) -> None:
        data = data if isinstance(data, bytes) else b"".join([part async for part in data])
        assert len(data) == length
        blocks = self.account.loose.setdefault(self.name, {})
        if any(len(other) != len(block) for other in blocks):
            raise Refused(400, "InvalidBlobOrBlock")
        blocks[block] = data

    async def get_block_list(self, kind: str) -> tuple[list[Any], list[Any]]:
        blocks = self.account.loose.get(self.name)
        if blocks is None:
            self._there()
        return [], [SimpleNamespace(id=name, size=len(data)) for name, data in (blocks or {}).items()]

    async def commit_block_list(self, blocks: list[str], metadata: Any = None, headers: Any = None) -> dict[str, str]:
        if headers and self.name in self.account.blobs:
            raise Refused(409, "BlobAlreadyExists")
        there = self.account.loose.get(self.name, {})
        return self.account.publish(self.name, b"".join(there[block] for block in blocks), metadata)

    async def upload_blob(self, data: bytes, *, length: int, overwrite: bool, metadata: Any = None) -> dict[str, str]:
        if not overwrite and self.name in self.account.blobs:
            raise Refused(409, "BlobAlreadyExists")
        return self.account.publish(self.name, bytes(data), metadata)

    async def get_blob_properties(self) -> Any:
        return self._there()

    async def download_blob(self, offset: int = 0, length: int | None = None, **_: Any) -> Any:
        there = self._there()
        data = there.data[: self.account.given][offset : None if length is None else offset + length]

        async def readall() -> bytes:
            return bytes(data)

        return SimpleNamespace(readall=readall, size=len(data), properties=there)

    async def delete_blob(self) -> None:
        self._there()
        del self.account.blobs[self.name]


class GoogleBucket:
    """A bucket, as far as a store asks for it through gcsfs; it stands for the file system.

    :ivar objects: Name → what it is now.
    :ivar shown: What each object has been, in order.
    :ivar fixed: Objects that cannot be removed.
    :ivar given: Bytes of an object that are given at most, whatever its size is said to be.
    :ivar then: Object → what it becomes when it was asked for.
    """

    _location = "http://store"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.requests_timeout: int | None = None
        self.objects: dict[str, dict[str, Any]] = {}
        self.shown: list[tuple[str, bytes]] = []
        self.fixed: set[str] = set()
        self.given: int | None = None
        self.then: dict[str, bytes] = {}

    def parts(self) -> list[str]:
        return [name for name in self.objects if "/parts/" in name]

    def put(self, name: str, data: bytes, metadata: Any = None) -> dict[str, Any]:
        self.shown.append((name, data))
        facts = {"name": name, "size": str(len(data)), "generation": str(len(self.shown)), "metadata": metadata or {}}
        self.objects[name] = {**facts, "data": data}
        return self.objects[name]

    async def _call(self, method: str, path: str, *args: str, json: Any = None, data: Any = None, headers: Any = None,
                    json_out: bool = False, **query: str) -> Any:  # fmt: skip
        if "/upload/" in path:
            content = data if isinstance(data, bytes) else b"".join([part async for part in data])
            assert int(headers["Content-Length"]) == len(content)
            query = dict(parse_qsl(urlsplit(path).query))
            if query["uploadType"] == "media":
                return self.put(query["name"], content)
            mark = headers["Content-Type"].partition("boundary=")[2].encode()
            assert content.endswith(b"\r\n--%b--" % mark)
            _, first, second = content.removesuffix(b"\r\n--%b--" % mark).split(b"--%b\r\n" % mark)
            facts = js.loads(first.partition(b"\r\n\r\n")[2])
            return self._new(query, facts["name"], second.partition(b"\r\n\r\n")[2], facts["metadata"])
        if path.endswith("/compose"):
            content = b"".join(self.objects[source["name"]]["data"] for source in json["sourceObjects"])
            return self._new(query, args[1], content, json["destination"]["metadata"])
        if len(args) == 1:
            return {"items": [facts for name, facts in self.objects.items() if name.startswith(query["prefix"])]}
        if args[1] not in self.objects:
            raise FileNotFoundError(args[1])
        if method == "DELETE":
            if args[1] in self.fixed:
                raise OSError(f"Forbidden: {args[1]}\nno right to remove")
            del self.objects[args[1]]
            return None
        there = self.objects[args[1]]
        if args[1] in self.then:
            self.put(args[1], self.then.pop(args[1]))
        if query.get("alt") == "media":
            start, end = headers["Range"].removeprefix("bytes=").split("-")
            if int(start) >= len(there["data"]):
                raise HttpError(416, "Request range not satisfiable, 416")
            return None, there["data"][: self.given][int(start) : int(end) + 1]
        return there

    def _new(self, query: dict[str, str], name: str, content: bytes, metadata: Any) -> dict[str, Any]:
        if query.get("ifGenerationMatch") == "0" and name in self.objects:
            raise FileExistsError(name)
        return self.put(name, content, metadata)
