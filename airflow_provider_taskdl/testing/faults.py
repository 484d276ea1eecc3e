"""What can go wrong with a question to a service, and the base of all faults.

Which requests a fault happens to is said by a rule (see ``rules``). What can happen to a file on its way is in
``file_faults``; either works with any request.
"""

from __future__ import annotations

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
    :param retry_after: ``Retry-After``: seconds, a date, or anything.
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
        """Return the error."""
        if request.kind.startswith(("eo.", "market.")):
            reply = eo_error(int(self.error or self.code), self.message, self.code)
        else:
            reply = bce_error(self.code, self.message, self.error)
        reply.set_header("Retry-After", self.retry_after)
        return reply


@dataclass
class Lose(ReplyFault):
    """Let the service act, but lose its answer: the connection ends in its place.

    :param status: What a gateway answers instead, as :class:`Status` does.
    :param reset: End the connection with a reset (RST) instead of an orderly close.
    """

    word = "lose"
    status: int | None = None
    reset: bool = False

    def change(self, request: Request, reply: Reply) -> None:
        """Take the answer away."""
        if self.status is None:
            reply.delivery.wire, reply.delivery.reset = b"", self.reset
        else:
            error = Status(self.status, message="the gateway lost the answer").reply(request)
            reply.status, reply.headers, reply.document = error.status, error.headers, error.document


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
        """Return the body."""
        return Reply(self.status, {"Content-Type": self.type}, Memory(self.text.encode()))


@dataclass
class Redirect(InsteadFault):
    """Send the client elsewhere.

    :param to: The address; ``{target}`` stands for path and query of the request.
    :param status: HTTP status.
    """

    word = "redirect"
    to: str
    status: int = 302

    def reply(self, request: Request) -> Reply:
        """Return the redirect."""
        return Reply(self.status, {"Location": self.to.replace("{target}", f"{request.path}?{request.query}")})


@dataclass
class Hide(ReplyFault):
    """Answer the question for links without all of them.

    :param how: ``empty``: no files, or an empty link; ``null``: a null result; ``blank``: the files with empty links;
        ``first``: only the first file's link is empty.
    """

    word = "hide"
    how: Literal["empty", "null", "blank", "first"] = "empty"

    def applies(self, request: Request, reply: Reply | None) -> bool:
        """Tell whether the answer holds links."""
        return reply is not None and bool(link_entries(reply.document))

    def change(self, request: Request, reply: Reply) -> None:
        """Take the links out."""
        entries, document = link_entries(reply.document), reply.document
        if self.how == "null":
            document["result" if request.kind == "bls.link" else "data"] = None
        elif self.how == "empty" and request.kind in ("eo.link", "market.link"):
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
        """Tell whether the answer names sizes."""
        return reply is not None and any("fileSize" in entry for entry, _ in link_entries(reply.document))

    def change(self, request: Request, reply: Reply) -> None:
        """Change the sizes."""
        for entry, _ in link_entries(reply.document):
            entry["fileSize"] = (entry["fileSize"] or 0) + self.by
        reply.document["data"]["totalSize"] = sum(entry["fileSize"] for entry, _ in link_entries(reply.document))
