"""What can go wrong with a request. Which requests it happens to is said by a rule (see ``rules``).

Positions (``at``) are those in the file, not in one answer: a fault at a position happens to the request whose answer
holds that byte, and leaves requests for other parts of the file alone.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from airflow_provider_taskdl.testing.content import Memory
from airflow_provider_taskdl.testing.exchange import Reply, Request, bce_error, eo_error, link_entries

_JUNK = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


class Fault:
    """Base of all faults; use one of its three kinds below.

    :cvar word: Its name in a rule's text.
    """

    word: ClassVar[str]

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether there is anything to do; a request where there is not does not count as gone wrong.

        :param request: The request.
        :param reply: The reply, for a :class:`ReplyFault`.
        """
        return True


class RequestFault(Fault, ABC):
    """Changes what the service understands."""

    @abstractmethod
    def change(self, request: Request) -> None:
        """Change the request."""


class InsteadFault(Fault, ABC):
    """Answers in the service's place; the service never sees the request."""

    @abstractmethod
    def reply(self, request: Request) -> Reply:
        """Return the answer."""


class ReplyFault(Fault, ABC):
    """Changes the service's answer or its way to the client."""

    @abstractmethod
    def change(self, request: Request, reply: Reply) -> None:
        """Change the reply."""


@dataclass
class Status(InsteadFault):
    """Answer with an error in the service's own words.

    :param code: HTTP status.
    :param retry_after: ``Retry-After``: seconds or a date.
    :param error: The error code in the body, such as ``RequestExpired``, or a number for the analysis platform, which
        may differ from HTTP's; by default the usual one.
    :param message: The message in the body.
    """

    word = "status"
    code: int
    retry_after: str | None = None
    error: str | None = None
    message: str = "scripted fault"

    def reply(self, request: Request) -> Reply:
        if request.kind.startswith("eo."):
            reply = eo_error(int(self.error or self.code), self.message, self.code)
        else:
            reply = bce_error(self.code, self.message, self.error)
        reply.set_header("Retry-After", self.retry_after)
        return reply


@dataclass
class Body(InsteadFault):
    """Answer with another body, by default a proxy's error page.

    :param text: The body.
    :param status: HTTP status.
    :param type: ``Content-Type``.
    """

    word = "body"
    text: str = _JUNK
    status: int = 200
    type: str = "text/html"

    def reply(self, request: Request) -> Reply:
        return Reply(self.status, {"Content-Type": self.type}, Memory(self.text.encode()))


@dataclass
class Redirect(InsteadFault):
    """Send the client elsewhere.

    :param to: The address.
    :param status: HTTP status.
    """

    word = "redirect"
    to: str
    status: int = 302

    def reply(self, request: Request) -> Reply:
        return Reply(self.status, {"Location": self.to})


@dataclass
class Cut(ReplyFault):
    """End the connection in the middle of a body that was announced to be longer.

    :param at: The position of the first byte that is not sent.
    :param sent: Instead of a position: after how many bytes of the body.
    :param reset: End it with a reset (RST) instead of an orderly close.
    """

    word = "cut"
    at: int | None = None
    sent: int | None = None
    reset: bool = False

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return reply is not None and _place(reply, self.at, self.sent) is not None

    def change(self, request: Request, reply: Reply) -> None:
        reply.delivery.cut_at, reply.delivery.reset = _place(reply, self.at, self.sent), self.reset


@dataclass
class Stall(ReplyFault):
    """Fall silent for a while.

    :param seconds: How long.
    :param at: Before the byte at which position; by default before the head of the answer.
    :param sent: Instead of a position: after how many bytes of the body.
    """

    word = "stall"
    seconds: float
    at: int | None = None
    sent: int | None = None

    def applies(self, request: Request, reply: Reply | None) -> bool:
        at_head = self.at is None and self.sent is None
        return at_head or (reply is not None and _place(reply, self.at, self.sent) is not None)

    def change(self, request: Request, reply: Reply) -> None:
        place = None if self.at is None and self.sent is None else _place(reply, self.at, self.sent)
        reply.delivery.pauses[place] = self.seconds


@dataclass
class Drip(ReplyFault):
    """Send slowly.

    :param rate: Bytes per second.
    """

    word = "drip"
    rate: int

    def change(self, request: Request, reply: Reply) -> None:
        reply.delivery.rate = self.rate


@dataclass
class Corrupt(ReplyFault):
    """Change one byte of the body on its way.

    :param at: Its position.
    """

    word = "corrupt"
    at: int = 0

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return reply is not None and _place(reply, self.at, None) is not None

    def change(self, request: Request, reply: Reply) -> None:
        reply.delivery.flips.add(self.at)


@dataclass
class IgnoreRange(RequestFault):
    """Answer 200 with the whole file where a range was asked for."""

    word = "ignore-range"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return "range" in request.headers

    def change(self, request: Request) -> None:
        request.headers.pop("range", None)


@dataclass
class IgnoreIfRange(RequestFault):
    """Answer 206 although the file is not the one that ``If-Range`` and ``If-Match`` name."""

    word = "ignore-if-range"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return bool({"if-range", "if-match"} & set(request.headers))

    def change(self, request: Request) -> None:
        request.headers.pop("if-range", None)
        request.headers.pop("if-match", None)


@dataclass
class ChangeFile(RequestFault):
    """Replace the file by another version before it is sent: another entity tag from now on, the same bytes.

    Each request that the rule takes does so again; ``times=1`` does it once. For other bytes as well, use
    ``task.file(name).change(content)``.
    """

    word = "change-etag"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return request.file is not None

    def change(self, request: Request) -> None:
        if request.file is not None:
            request.file.change()


@dataclass
class ShiftRange(ReplyFault):
    """Answer a range with another one, and say so in ``Content-Range``.

    :param by: How many bytes later it begins.
    """

    word = "shift-range"
    by: int = 1

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return reply is not None and reply.status == 206 and 0 <= reply.start + self.by < reply.content.size

    def change(self, request: Request, reply: Reply) -> None:
        reply.start += self.by
        reply.end = min(reply.end + self.by, reply.content.size)
        reply.headers["Content-Range"] = f"bytes {reply.start}-{reply.end - 1}/{reply.content.size}"


@dataclass
class Header(ReplyFault):
    """Set a header field, such as ``ETag``, ``Content-MD5`` or ``Content-Range``, to anything.

    :param name: Its name.
    :param value: Its value; empty to leave the field out.
    """

    word = "header"
    name: str
    value: str = ""

    def __post_init__(self) -> None:
        if self.name.lower() in ("content-length", "transfer-encoding"):
            raise ValueError(f"{self.name} frames the answer; use cut or chunked to break that")

    def change(self, request: Request, reply: Reply) -> None:
        reply.set_header(self.name, self.value or None)


@dataclass
class ContentRange(ReplyFault):
    """Send a range with a ``Content-Range`` that does not tell the truth.

    :param shift: What is added to its first and last position.
    :param total: The size it claims; ``*`` for none.
    """

    word = "content-range"
    shift: int = 0
    total: str | None = None

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return reply is not None and reply.status == 206

    def change(self, request: Request, reply: Reply) -> None:
        first, last = reply.start + self.shift, reply.end - 1 + self.shift
        reply.headers["Content-Range"] = f"bytes {first}-{last}/{self.total or reply.content.size}"


@dataclass
class WrongMd5(ReplyFault):
    """Send a ``Content-MD5`` of something else."""

    word = "wrong-md5"

    def change(self, request: Request, reply: Reply) -> None:
        reply.set_header("Content-MD5", base64.b64encode(b"something else.."[:16]).decode())


@dataclass
class Gzip(ReplyFault):
    """Send the body compressed although nobody asked for it."""

    word = "gzip"

    def change(self, request: Request, reply: Reply) -> None:
        reply.delivery.gzip = True


@dataclass
class Chunked(ReplyFault):
    """Send no ``Content-Length``."""

    word = "chunked"

    def change(self, request: Request, reply: Reply) -> None:
        reply.delivery.chunked = True


@dataclass
class Hide(ReplyFault):
    """Answer the question for links without all of them.

    :param how: ``empty``: no files, or an empty link; ``null``: a null result; ``blank``: the files with empty links;
        ``first``: only the first file's link is empty.
    """

    word = "hide"
    how: Literal["empty", "null", "blank", "first"] = "empty"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return reply is not None and bool(link_entries(reply.document))

    def change(self, request: Request, reply: Reply) -> None:
        entries, document = link_entries(reply.document), reply.document
        if self.how == "null":
            document["result" if request.kind == "bls.link" else "data"] = None
        elif self.how == "empty" and request.kind == "eo.link":
            document["data"]["downloadUrls"] = []
        else:
            for entry, field in entries[:1] if self.how == "first" else entries:
                entry[field] = ""


@dataclass
class DeclareSize(ReplyFault):
    """Let the analysis platform name wrong sizes.

    :param by: What is added to each file's size.
    """

    word = "declare-size"
    by: int = 1

    def applies(self, request: Request, reply: Reply | None) -> bool:
        return reply is not None and any("fileSize" in entry for entry, _ in link_entries(reply.document))

    def change(self, request: Request, reply: Reply) -> None:
        for entry, _ in link_entries(reply.document):
            entry["fileSize"] = (entry["fileSize"] or 0) + self.by
        reply.document["data"]["totalSize"] = sum(entry["fileSize"] for entry, _ in link_entries(reply.document))


def _place(reply: Reply, at: int | None, sent: int | None) -> int | None:
    reply.settle()  # only a body has places
    place = at if at is not None else reply.start + (sent or 0)
    return place if reply.start <= place < reply.end and reply.status < 300 else None
