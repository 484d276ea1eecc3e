"""One request to the emulator and the reply it gets, before anything is put on the wire."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_taskdl.testing.content import Content, Memory

if TYPE_CHECKING:
    from airflow_provider_taskdl.testing.tasks import TaskFile

_BCE_CODES = {
    400: "InvalidParameter", 401: "Unauthorized", 403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed",
    413: "RequestOverload", 416: "InvalidRange", 429: "RequestLimited", 500: "InternalError",
    503: "ServiceUnavailable",
}  # fmt: skip


@dataclass
class Request:
    """A request as it came in.

    :param kind: The endpoint: ``bls.link``, ``bls.status``, ``bls.list``, ``bls.create``, ``bls.delete``, ``eo.link``,
        ``eo.status``, ``eo.list``, ``eo.create``, ``market.link`` or ``file``.
    :param names: What a fault's pattern is matched with: the task's id, or a file's name and its path.
    :param method: HTTP method.
    :param scheme: ``http`` or ``https``.
    :param path: The path as sent.
    :param query: The query as sent, without ``?``.
    :param headers: Header fields, names in lower case.
    :param params: The decoded variable parts of path and query.
    :param body: The body.
    :param file: The file asked for, where it is one.
    """

    kind: str
    names: tuple[str, ...]
    method: str
    scheme: str
    path: str
    query: str
    headers: dict[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: TaskFile | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port by which the client knows this server."""
        return f"{self.scheme}://{self.headers.get('host', '')}"


@dataclass
class Delivery:
    """How a reply travels. Positions are those in the file, not in this reply.

    :param cut_at: Where the connection ends.
    :param reset: End it with a reset (RST) instead of an orderly close.
    :param pauses: Position to seconds of silence before the byte there; ``None`` is before the head.
    :param rate: Bytes per second at most.
    :param flips: Positions whose byte is changed.
    :param gzip: Send it compressed.
    :param chunked: Send no ``Content-Length``.
    :param wire: What is sent in the place of head and body, whatever it is; the connection ends after it.
    :param endless: What follows it again and again, until the client goes.
    :param tail: What follows the body that was announced.
    """

    cut_at: int | None = None
    reset: bool = False
    pauses: dict[int | None, float] = field(default_factory=dict)
    rate: float | None = None
    flips: set[int] = field(default_factory=set)
    gzip: bool = False
    chunked: bool = False
    wire: bytes | None = None
    endless: bytes = b""
    tail: bytes = b""


@dataclass
class Reply:
    """What is answered.

    :param status: HTTP status.
    :param headers: Header fields.
    :param content: Where the body comes from.
    :param start: First position of ``content`` that is sent.
    :param end: The position behind the last one; by default all of it.
    :param document: A JSON answer, which becomes the content just before it is sent.
    :param delivery: How it travels.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=lambda: Memory(b""))
    start: int = 0
    end: int = -1
    document: Any = None
    delivery: Delivery = field(default_factory=Delivery)

    def __post_init__(self) -> None:
        if self.end < 0:
            self.end = self.content.size

    def settle(self) -> None:
        """Turn the document into content; afterwards the body is what it will be."""
        if self.status in (204, 304):
            self.document, self.end = None, self.start  # these have no body, whatever anybody wants to say
        if self.document is not None:
            self.content = Memory(json.dumps(self.document, ensure_ascii=False).encode())
            self.start, self.end, self.document = 0, self.content.size, None

    def set_header(self, name: str, value: str | None) -> None:
        """Set a header field, or take it out with ``None``; the name's case does not matter."""
        for known in [known for known in self.headers if known.lower() == name.lower()]:
            del self.headers[known]
        if value is not None:
            self.headers[name] = value


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """Return a JSON answer.

    :param document: What is sent as JSON.
    :param status: HTTP status.
    :param headers: More header fields; ``_`` in a name stands for ``-``.
    """
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **fields}, document=document)


def bce_reply(document: Mapping[str, Any], status: int = 200) -> Reply:
    """Return an answer of BLS, with its request id."""
    return json_reply(document, status, X_Bce_Request_Id=str(uuid.uuid4()))


def bce_error(status: int, message: str, code: str | None = None) -> Reply:
    """Return a refusal as BLS and its object storage word it.

    :param status: HTTP status.
    :param message: The message.
    :param code: The error code; by default the usual one for ``status``.
    """
    request_id = str(uuid.uuid4())
    body = {"code": code or _BCE_CODES.get(status, "InternalError"), "message": message, "requestId": request_id}
    return json_reply(body, status, X_Bce_Request_Id=request_id)


def eo_error(code: int, message: str, status: int) -> Reply:
    """Return a refusal as the analysis platform words it.

    :param code: The code in the body.
    :param message: The message.
    :param status: HTTP status.
    """
    return json_reply({"code": code, "message": message, "data": None}, status)


def link_entries(document: Any) -> list[tuple[Any, Any]]:
    """Return the parts of an answer that hold a link, each with the name or number of the place it is in."""
    if not isinstance(document, dict):
        return []
    result, data = document.get("result"), document.get("data")
    if isinstance(result, dict) and "link" in result:
        return [(result, "link")]
    urls = (data.get("downloadUrls") or ()) if isinstance(data, dict) else ()
    return [(entry, "downloadUrl") if isinstance(entry, dict) else (urls, at) for at, entry in enumerate(urls)]
