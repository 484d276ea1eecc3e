"""The frame every remote API fits in: a call is a request together with the reading of its answer.

An API is described once; the sync and the async client run the same :class:`Call`.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_provider_taskdl.backoff import parse_retry_after
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskApiError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import SIZE_LIMIT, FileListing, TaskPage, TaskStatus
from airflow_provider_taskdl.redaction import NeverPickled, shortened

_NO_JSON = object()
# No "::", because the paths of manifests hold the id, and ObjectStoragePath ends a path there.
_TASK_ID = re.compile(r"(?!.*::)[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}")

# Tasks asked for in one page of a list.
PAGE_SIZE = 100

T = TypeVar("T")
U = TypeVar("U")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer(NeverPickled):
    """An HTTP answer, read whole. It shows its status alone: the rest can hold links, and echo what was sent.

    :param status: HTTP status.
    :param headers: Header fields, names in lower case.
    :param body: The body's bytes.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the reading of its answer.

    :param method: HTTP method.
    :param path: Path below the connection's base URL, percent-encoded, with a leading ``/``.
    :param read: Turns the answer into a value or raises a ``TaskApiError``.
    :param query: Query parameters.
    :param body: What is sent as JSON, if anything.
    :param remote_task_id: The task it is about; for error messages.
    :param is_hint: Whether one can do without the answer; a ``Retry-After`` of a 5xx then holds back no other calls.
    """

    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    remote_task_id: str | None = None
    is_hint: bool = False

    def then(self, make: Callable[[T], U]) -> Call[U]:
        """Return the same request, with another value made of what is read.

        :param make: Makes it.
        """
        return Call(
            self.method, self.path, lambda answer: make(self.read(answer)), self.query, self.body, self.remote_task_id,
            self.is_hint,
        )  # fmt: skip


class TaskApi(ABC):
    """A service whose tasks end in files with links.

    :cvar service: The service's name in messages.
    :cvar newest_first: Whether :meth:`list_tasks` is known to give the newest tasks first.
    """

    service: str
    newest_first: bool = False

    @abstractmethod
    def list_files(self, remote_task_id: str) -> Call[FileListing]:
        """Return the call that gives the task's files with fresh links."""

    def get_status(self, remote_task_id: str) -> Call[TaskStatus] | None:
        """Return the call that gives the task's state, or ``None`` if the service has none."""
        return None

    def list_tasks(self, page: int, *, group: str | None = None) -> Call[TaskPage] | None:
        """Return the call that gives a page of the service's tasks, or ``None`` if the service cannot list them.

        Newest first where the service can sort. About :data:`PAGE_SIZE` tasks a page: a service may give fewer, so it
        is :attr:`TaskPage.is_last` that tells the end.

        :param page: Which page, counted from 1.
        :param group: Only tasks that are listed under this, such as a project; otherwise whatever the service lists
            when it is not told, which may be the tasks of one group only.
        """
        return None

    @abstractmethod
    def probe(self) -> Call[None]:
        """Return a call that changes nothing and succeeds exactly if the service accepts the credentials."""

    def _probe_by(self, call: Call[Any], *codes: str) -> Call[None]:
        """Return a call about a task that is none, as the probe: that it is none is said to accepted credentials only.

        :param call: The call.
        :param codes: The service's codes that say the same, beside those for a task that is not found.
        """

        def read(answer: Answer) -> None:
            try:
                call.read(answer)
            except TaskApiError as error:
                is_refused = isinstance(error, AuthenticationError)
                if is_refused or not (isinstance(error, TaskNotFoundError) or error.code in codes):
                    raise

        return Call(call.method, call.path, read, query=call.query, body=call.body)


# What a service says about itself ends up in logs and events: nobody needs more of it.
ServiceText = Annotated[str, AfterValidator(lambda text: shortened(text, 500))]

# A size is added up, shown and compared, and Python's own numbers have no end.
FileSize = Annotated[
    int, BeforeValidator(lambda value: None if isinstance(value, bool) else value), Field(ge=0, lt=SIZE_LIMIT)
]


class WireModel(BaseModel):
    """A part of an answer: unknown fields are ignored, a number may stand for a text, errors quote nothing."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True, coerce_numbers_to_str=True)


def read_json(answer: Answer, model: type[M], service: str) -> M:
    """Return the answer's body as ``model``.

    :raises MalformedResponseError: The body is empty, no JSON, or of another shape. The text of the body is not
        quoted: it may hold links.
    """
    request_id = answer.headers.get("x-bce-request-id")
    if not answer.body.strip():  # as after a 204; the pages show that status together with a body
        raise MalformedResponseError(
            f"{service} answered HTTP {answer.status} without a body where one is needed", request_id=request_id
        )
    try:
        value = json.loads(answer.body.decode("utf-8-sig"))
        if b"\\u" in answer.body:  # JSON can spell half a surrogate pair, and no log or file takes that
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = _NO_JSON
    if value is _NO_JSON:  # raised outside the handler: what that caught quotes the body
        kind = answer.headers.get("content-type", "no content type")
        raise MalformedResponseError(
            f"{service} answered HTTP {answer.status} with no JSON ({shortened(kind, 100)}, {len(answer.body)} bytes)",
            request_id=request_id,
        )
    return read_model(value, model, service, request_id)


def read_refusal(answer: Answer, model: type[M], service: str) -> M:
    """Return a refusal's body as ``model``, or the model with nothing in it: a gateway refuses in words of its own."""
    try:
        return read_json(answer, model, service)
    except MalformedResponseError:
        return model()


def read_model(value: Any, model: type[M], service: str, request_id: str | None = None) -> M:
    """Return a part of a decoded answer as ``model``.

    :raises MalformedResponseError: It has another shape.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
    raise MalformedResponseError(
        f"the answer has not the shape of {service}'s: {'; '.join(problems[:3])}", request_id=request_id
    )


def raise_for_status(
    answer: Answer, service: str, *, code: str | None, message: str | None, status: int | None = None
) -> NoReturn:
    """Raise the error that an unsuccessful answer means, by its status.

    :param answer: The answer.
    :param service: The service's name.
    :param code: The service's own error code, if it gave one.
    :param message: The service's own words, if it gave any.
    :param status: What counts as the status, where it is not HTTP's.
    :raises TaskApiError: Always; which one, the status says.
    """
    status = answer.status if status is None else status
    said = f": {message}" if message else ""
    request_id = answer.headers.get("x-bce-request-id")
    facts: dict[str, Any] = {"code": code or f"HTTP {answer.status}", "request_id": request_id}
    retry_after = parse_retry_after(answer.headers.get("retry-after"))
    if status in (401, 403, 407):
        raise AuthenticationError(f"{service} refused the credentials of the connection{said}", **facts)
    if status == 429:
        raise RateLimitedError(f"{service} asks for fewer requests{said}", retry_after=retry_after, **facts)
    if status in (408, 425) or status >= 500:
        raise ServiceUnavailableError(f"{service} is not available{said}", retry_after=retry_after, **facts)
    if 300 <= status < 400:
        raise MalformedResponseError(
            f"{service} answered with a redirect (HTTP {status}); is the connection's host right?", **facts
        )
    if status == 404 and code is None:
        raise MalformedResponseError(
            f"there is no such API at this address (HTTP 404); is the host of the {service} connection right?", **facts
        )
    raise TaskApiError(f"{service} refused the request{said}", **facts)


def check_task_id(remote_task_id: object) -> str:
    """Return the task's id as text; it will stand in a path and in a file's name.

    :raises ConnectionConfigError: It is empty, too long, or holds what no id holds (spaces, slashes, …).
    """
    if isinstance(remote_task_id, bool) or not isinstance(remote_task_id, str | int):
        raise ConnectionConfigError(f"remote_task_id must be text, not {type(remote_task_id).__name__}")
    text = str(remote_task_id).strip()
    if not _TASK_ID.fullmatch(text):
        raise ConnectionConfigError(
            f"remote_task_id {text[:140]!r} is not a task id; if it comes from a template, what did the template give?"
        )
    return text


def is_task_id(text: str) -> bool:
    """Tell whether what a service lists as a task's id is one."""
    try:
        return check_task_id(text) == text
    except ConnectionConfigError:
        return False


def _as_task_id(text: str) -> str:
    if not is_task_id(text):
        raise ValueError("this is no task id")
    return text


# The id of a task that was made: it stands in the log and in XCom.
TaskId = Annotated[str, AfterValidator(_as_task_id)]
