"""What can be wrong with an answer of a service, what comes of it, and how often the service is asked.

Each row holds for all services and for both clients (only the market's listing has no names, and only the analysis
platform's has sizes that can be wrong). The answers go over real sockets: those of the emulator, with
one of its faults, where it knows the fault, else those of a host that sends what the row says byte by byte.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    MalformedResponseError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.hooks.exchange import MAX_ANSWER_BYTES
from airflow_provider_taskdl.testing import Body, Fault, Hide, Redirect, Status
from tests.canary import CANARY
from tests.transfer.hosts import Answer, Visit, chunked, head, sends, whole

Service = Literal["bls", "eo", "market"]
Wire = Callable[[Service], Answer]
# What a row may come to besides an error: the files, or "no files yet".
FILES, WAIT = "files", "wait"
LINK = "https://files.example/f?sign=CANARY-5c0ffee5/+=="


@dataclass(frozen=True)
class Row:
    """A fault and what it comes to.

    :param name: In words.
    :param fault: A fault of the emulator, or what a host sends.
    :param outcome: The error's very class, or ``FILES`` or ``WAIT``.
    :param retryable: What the error says of another try.
    :param says: A part of the error's text.
    :param requests: How often the service is asked.
    :param seconds: What the connection's extra ``timeout`` is; short in rows that wait for it.
    """

    name: str
    fault: Fault | Wire
    outcome: type[TaskApiError] | str
    retryable: bool = False
    says: str = ""
    requests: int = 1
    seconds: float = 10.0


def listed(service: Service, link: Any = LINK, name: Any = "a.tif", size: Any = 3, **more: Any) -> dict[str, Any]:
    """Return a good listing of one file, or one with other values."""
    if service == "bls":
        return {"success": True, "code": "OK", "result": {"fileName": name, "link": link}, **more}
    if service == "market":
        return {"code": 200, "data": {"status": 2, "downloadUrls": [link], "note": name}, **more}
    file = {"fileName": name, "downloadUrl": link, "fileSize": size, "expiresAt": "2099-01-01T00:00:00Z"}
    return {"code": 200, "message": "success", "data": {"downloadUrls": [file]}, **more}


def body(make: Callable[[Service], bytes], **fields: Any) -> Wire:
    """Answer 200 with a body."""
    return lambda service: whole(make(service), Content_Type="application/json", **fields)


def text(make: Callable[[Service], str], encoding: str = "utf-8") -> Wire:
    """Answer 200 with a text."""
    return body(lambda service: make(service).encode(encoding))


def document(make: Callable[[Service], Any]) -> Wire:
    """Answer 200 with JSON."""
    return body(lambda service: json.dumps(make(service)).encode())


def sized(size: Any) -> Wire:
    """Answer 200 with a file of a size."""
    return document(lambda service: listed(service, size=size))


def good(service: Service) -> bytes:
    """Return a good body."""
    return json.dumps(listed(service)).encode()


def packed(unpacked: bytes) -> bytes:
    """Return a long body of zeroes or spaces in a few kilobytes."""
    return gzip.compress(unpacked, 9)


def endless(start: bytes, piece: bytes) -> Wire:
    """Send, and send more until the other side goes."""

    def answer(visit: Visit) -> None:
        visit.send(start)
        while True:
            visit.send(piece)

    return lambda service: answer


def wire(answer: Answer) -> Wire:
    """Answer all services alike."""
    return lambda service: answer


def cut(at: float) -> Wire:
    """End the connection within the body, at this share of it."""

    def make(service: Service) -> Answer:
        content = good(service)
        return sends(head(Content_Length=len(content)) + content[: int(len(content) * at)], "close")

    return make


MIB = 2**20
CONNECTIONS = [
    Row("closed without a word", wire(sends(b"", "close")), ServiceUnavailableError, True, "cannot be reached"),
    Row("reset without a word", wire(sends(b"", "reset")), ServiceUnavailableError, True, "cannot be reached"),
    Row("closed in the status line", wire(sends(b"HTTP/1.1 20", "close")), ServiceUnavailableError, True),
    Row("closed in the header fields", wire(sends(b"HTTP/1.1 200 OK\r\nA: b\r\n", "close")), ServiceUnavailableError, True),
    Row("closed before the body", cut(0.0), ServiceUnavailableError, True),
    Row("closed in the middle of the body", cut(0.5), ServiceUnavailableError, True),
    Row("closed before the body's last byte", cut(0.999), ServiceUnavailableError, True),
    Row("reset in the body", wire(sends(head(Content_Length=99) + b'{"code"', "reset")), ServiceUnavailableError, True),
    Row("chunks without an end", wire(sends(chunked(b'{"code"', end=False), "close")), ServiceUnavailableError, True),
    Row("silence before the answer", wire(sends(b"", "hang")), ServiceUnavailableError, True, "within 1 s", seconds=1.0),
    Row("silence in the header fields", wire(sends(b"HTTP/1.1 200 OK\r\nA", "hang")), ServiceUnavailableError, True, "within 1 s", seconds=1.0),
    Row("silence in the body", wire(sends(head(Content_Length=99) + b"{", "hang")), ServiceUnavailableError, True, "within 1 s", seconds=1.0),
    Row("header fields without end", endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000), ServiceUnavailableError, True),
    Row("one header field without end", endless(b"HTTP/1.1 200 OK\r\nA: ", b"b" * 10_000), ServiceUnavailableError, True),
    Row("junk instead of HTTP", wire(sends(b"\x00\xff" * 500 + b"\r\n\r\n", "close")), ServiceUnavailableError, True),
    Row("another protocol", wire(sends(b"220 mail.example ESMTP\r\n", "close")), ServiceUnavailableError, True),
    Row("two different lengths", wire(sends(head(Content_Length=5) [:-2] + b"Content-Length: 7\r\n\r\n{}", "close")), ServiceUnavailableError, True),
]  # fmt: skip

LENGTHS = [
    Row("a body without end", endless(head(), b" " * 65536), MalformedResponseError, False, "longer than 8 MiB"),
    Row("chunks without number", endless(head(Transfer_Encoding="chunked"), b"10000\r\n" + b" " * 65536 + b"\r\n"), MalformedResponseError, False, "longer than 8 MiB"),
    Row("a body that says to be of 1 TB", endless(head(Content_Length=10**12), b" " * 65536), MalformedResponseError, False, "longer than 8 MiB"),
    Row("an error page without end", endless(head("503 x"), b" " * 65536), MalformedResponseError, False, "longer than 8 MiB"),
    Row("a good listing in a huge document", text(lambda s: json.dumps(listed(s, more="x" * MAX_ANSWER_BYTES))), MalformedResponseError, False, "longer than 8 MiB"),
    Row("as long as may be", text(lambda s: json.dumps(listed(s)) + " " * (MAX_ANSWER_BYTES - 400)), FILES),
    Row("50 MB in 50 kB", body(lambda s: packed(b" " * 50 * MIB), Content_Encoding="gzip"), MalformedResponseError, False, "longer than 8 MiB"),
    Row("a packed error page of 50 MB", wire(whole(packed(b" " * 50 * MIB), "500 x", Content_Encoding="gzip")), MalformedResponseError, False, "longer than 8 MiB"),
    Row("packed twice", body(lambda s: packed(packed(good(s))), Content_Encoding="gzip, gzip"), MalformedResponseError, True, "not asked for"),
    Row("packed well", body(lambda s: packed(good(s)), Content_Encoding="gzip"), FILES),
    Row("packed well, then more", body(lambda s: packed(good(s)) + b"x", Content_Encoding="gzip"), MalformedResponseError, True, "behind its end"),
    Row("packed well, then more without end", lambda s: endless(head(Content_Encoding="gzip") + packed(good(s)), b"x" * 65536)(s), MalformedResponseError, True, "behind its end"),
    Row("packed, and cut", body(lambda s: packed(good(s))[:-12], Content_Encoding="gzip"), MalformedResponseError, True, "unpacked"),
    Row("said to be packed", body(good, Content_Encoding="gzip"), MalformedResponseError, True, "cannot be unpacked"),
    Row("packed otherwise", body(lambda s: zlib.compress(good(s)), Content_Encoding="deflate"), MalformedResponseError, True, "not asked for"),
    Row("packed in an unknown way", body(good, Content_Encoding="x" * 5000), MalformedResponseError, True, "not asked for"),
    Row("packed as the credential says", body(good, Content_Encoding=CANARY), MalformedResponseError, True, "not asked for"),
    Row("not packed, and says so", body(good, Content_Encoding="identity"), FILES),
]  # fmt: skip

BODIES = [
    Row("nothing", text(lambda s: ""), MalformedResponseError, True, "without a body"),
    Row("blanks", text(lambda s: " \n"), MalformedResponseError, True, "without a body"),
    Row("204", wire(head("204 No Content")), MalformedResponseError, True, "without a body"),
    Row("a proxy's page", Body(), MalformedResponseError, True, "no JSON (text/html"),
    Row("a log-in page", Body(text="<html>Log in</html>", type="application/json"), MalformedResponseError, True, "no JSON"),
    Row("junk", body(lambda s: b"\x00\xff\xfe" * 50), MalformedResponseError, True, "no JSON"),
    Row("half a document", text(lambda s: json.dumps(listed(s))[:-9]), MalformedResponseError, True, "no JSON"),
    Row("a document and more", text(lambda s: json.dumps(listed(s)) + "{}"), MalformedResponseError, True, "no JSON"),
    Row("100,000 lists in each other", text(lambda s: "[" * 100_000 + "]" * 100_000), MalformedResponseError, True, "no JSON"),
    Row("depth where nobody looks", text(lambda s: json.dumps(listed(s, x=0)).replace("0}", "[" * 300 + "]" * 300 + "}")), FILES),
    Row("a number of 5,000 digits", text(lambda s: json.dumps(listed(s, x=0)).replace("0}", "9" * 5000 + "}")), MalformedResponseError, True, "no JSON"),
    Row("half a character", text(lambda s: json.dumps(listed(s, name="a")).replace('"a"', '"\\ud800"')), MalformedResponseError, True, "no JSON"),
    Row("a list", document(lambda s: [listed(s)]), MalformedResponseError, True, "shape"),
    Row("a text", document(lambda s: "OK"), MalformedResponseError, True, "shape"),
    Row("a number", document(lambda s: 200), MalformedResponseError, True, "shape"),
    Row("null", document(lambda s: None), MalformedResponseError, True, "shape"),
    Row("null for all", document(lambda s: {**dict.fromkeys(listed(s)), **({"success": True} if s == "bls" else {"code": 200})}), WAIT),
    Row("null for a file", document(lambda s: listed(s, **({"result": None} if s == "bls" else {"data": {"downloadUrls": None}}))), WAIT),
    Row("a null link", document(lambda s: listed(s, link=None)), WAIT),
    Row("an empty link", document(lambda s: listed(s, link="")), WAIT),
    Row("a blank link", document(lambda s: listed(s, link=" \t")), WAIT),
    Row("links that are hidden", Hide("blank"), WAIT),
    Row("a null result", Hide("null"), WAIT),
    Row("a link without a name", document(lambda s: listed(s, name=None)), MalformedResponseError, True, "name"),
    Row("a link that is a number", document(lambda s: listed(s, link={"url": LINK})), MalformedResponseError, True, "shape"),
    Row("a name that is a list", document(lambda s: listed(s, name=["a"])), MalformedResponseError, True, "shape"),
    Row("a name that is a number", document(lambda s: listed(s, name=7)), FILES),
    Row("a flag that is a text", document(lambda s: listed(s, **({"success": "perhaps"} if s == "bls" else {"code": "OK"}))), MalformedResponseError, True, "shape"),
    Row("a result that is a text", document(lambda s: listed(s, result="x", data="x")), MalformedResponseError, True, "shape"),
    Row("numbers as texts", document(lambda s: listed(s, size="3", **({} if s == "bls" else {"code": "200"}))), FILES),
    Row("unknown fields", document(lambda s: listed(s, more={"a": [1]}, __proto__={})), FILES),
    Row("keys twice: the last holds", text(lambda s: '{"result": null, "data": null, ' + json.dumps(listed(s))[1:]), FILES),
    Row("keys twice, the good one first", text(lambda s: json.dumps(listed(s))[:-1] + ', "result": null, "data": null}'), WAIT),
    Row("a byte order mark", text(lambda s: json.dumps(listed(s)), "utf-8-sig"), FILES),
    Row("UTF-16", text(lambda s: json.dumps(listed(s)), "utf-16"), MalformedResponseError, True, "no JSON"),
    Row("UTF-32", text(lambda s: json.dumps(listed(s)), "utf-32"), MalformedResponseError, True, "no JSON"),
    Row("Latin-1", text(lambda s: json.dumps(listed(s, name="\u00e9.tif"), ensure_ascii=False), "latin-1"), MalformedResponseError, True, "no JSON"),
    Row("UTF-8", text(lambda s: json.dumps(listed(s, name="\u00e9.tif"), ensure_ascii=False)), FILES),
]  # fmt: skip

# Of the analysis platform alone: the other service lists no sizes and no status of its own in the body.
BAD_SIZES: tuple[Any, ...] = (-1, 1.5, True, "x", "1e3", [], {}, 2**63, 10**400)
SIZES = [
    Row(f"a size of {size!r:.20}", sized(size), MalformedResponseError, True, "fileSize")
    for size in BAD_SIZES
] + [
    Row("a size that is not a number", text(lambda s: json.dumps(listed(s)).replace(": 3,", ": NaN,")), MalformedResponseError, True, "fileSize"),
    Row("a size without end", text(lambda s: json.dumps(listed(s)).replace(": 3,", ": 1e999,")), MalformedResponseError, True, "fileSize"),
    Row("no size", document(lambda s: listed(s, size=None)), FILES),
    Row("files without a list", document(lambda s: {"code": 200, "data": {"downloadUrls": {"a": 1}}}), MalformedResponseError, True, "downloadUrls"),
]  # fmt: skip

REFUSALS = [
    Row("the task is not known", Status(404, error="DownloadTaskNotFound"), TaskNotFoundError),
    Row("the key is refused", Status(401, error="401"), AuthenticationError),
    Row("the right is refused", Status(403, error="403"), AuthenticationError),
    Row("too many requests", Status(429, "7", error="429"), RateLimitedError, True, "fewer requests"),
    Row("down", Status(503, "7", error="503"), ServiceUnavailableError, True, "not available"),
    Row("no such page", Body(status=404), MalformedResponseError, True, "no such API"),
    Row("a redirect to nowhere", wire(head("302 Found", Content_Length=0)), MalformedResponseError, True, "redirect"),
    Row("a redirect to the same host", Redirect("/elsewhere"), MalformedResponseError, True, "redirect"),
    Row("a redirect to a metadata address", Redirect("http://169.254.169.254/", 307), MalformedResponseError, True, "redirect"),
    Row("a redirect with a listing", wire(whole(b"{}", "301 x", Location="/")), MalformedResponseError, True, "redirect"),
    Row("not modified", wire(head("304 Not Modified")), MalformedResponseError, True, "redirect"),
    Row("early hints, then the listing", lambda s: head("103 Early Hints", Link="</x>") + whole(good(s)), FILES),
    Row("a status that is none", wire(sends(head("999 x", Content_Length=0), "close")), ServiceUnavailableError, True),
]  # fmt: skip

# What can be wrong with names, where the listing holds some.
NAMED = {"a link without a name", "a name that is a list"}
ROWS = [*CONNECTIONS, *LENGTHS, *BODIES, *REFUSALS]

# Every status that is an error, by what it comes to; the rest of 400 ... 504 is `TaskApiError` itself.
STATUSES: dict[int, type[TaskApiError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    407: AuthenticationError,
    404: MalformedResponseError,  # without a code in the body that tells of the task
    408: ServiceUnavailableError,
    425: ServiceUnavailableError,
    429: RateLimitedError,
    **dict.fromkeys(range(500, 505), ServiceUnavailableError),
}
WEATHER = (ServiceUnavailableError, RateLimitedError)
# What `Retry-After` says, and the seconds that are believed: from, to.
RETRY_AFTER: dict[str, tuple[float, float] | None] = {
    "": None,
    "7": (7, 7),
    "0": (0, 0),
    "-5": None,
    "1.5": None,
    "soon": None,
    "99999999": (3600, 3600),
    "9" * 4000: (3600, 3600),
    "Wed, 21 Oct 2015 07:28:00 GMT": (0, 0),
    "Wed, 21 Oct 2099 07:28:00 GMT": (3600, 3600),
    "Wed, 99 Oct 2099 07:28:00 GMT": None,
    "Fri, 31 Dec 9999 23:59:59 -2359": (3600, 3600),
}
