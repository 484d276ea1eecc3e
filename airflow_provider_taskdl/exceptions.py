"""Every error this package raises on purpose.

::

    TaskDownloadError
    ├── ConnectionConfigError        the connection or a parameter is wrong
    ├── TaskApiError                 the service answered no, or not at all
    │   ├── AuthenticationError      it refused the credentials
    │   ├── TaskNotFoundError        it does not know the task
    │   ├── TaskNotReadyError        the files do not exist yet
    │   ├── TaskFailedError          the task failed or expired: its files will never exist
    │   ├── RateLimitedError         it asked for fewer requests (``retry_after``)
    │   │   └── PausedError          it had asked for it before; nothing was sent
    │   ├── ServiceUnavailableError  time-out, broken connection, 5xx
    │   └── MalformedResponseError   it answered something that is not its API
    └── TransferError                a file could not be brought to its destination
        ├── LinkExpiredError         the link ran out and a fresh one did as well
        ├── LinkRefusedError         the file host refused the link
        ├── UnsafeLinkError          the link points where no link may point
        ├── UnsafeFileNameError      the file's name is no plain file name
        ├── SourceChangedError       the file changed while it was read
        ├── IntegrityError           the bytes are not the ones that were announced
        ├── DestinationExistsError   ``overwrite="never"`` and there is something already
        ├── DestinationError         the object store or disk refused
        └── DownloadFailedError      several files failed: which, and why

``retryable`` says whether the same call may succeed later; the operators turn the others into a failure that
Airflow does not retry. No error holds a URL's query: texts are redacted when the error gets them, and since services
and file hosts have a say in them, they are also cut to a length and hold no character that could forge lines of a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from airflow_provider_taskdl.redaction import printable, redact_text, shortened

# What a service or a file host may have a say in, and how many characters of it are shown.
_SHOWN = {"message": 4000, **dict.fromkeys(("remote_task_id", "file", "target", "code", "request_id"), 1000)}


class TaskDownloadError(Exception):
    """Root of the tree.

    :param message: What happened and what to do, in words for the DAG author.
    :param remote_task_id: The task at the remote service.
    :param file: The file's name.
    :param target: Where the request went: a URL (redacted here) or a path.
    :param code: The service's own error code.
    :param request_id: The service's id of the request, for its support.
    :param retryable: Whether the same call may succeed later; overrides the class's own answer.
    :param retry_after: Seconds that the service asked to wait.
    """

    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        remote_task_id: str | None = None,
        file: str | None = None,
        target: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message
        self.remote_task_id = remote_task_id
        self.file = file
        self.target = target
        self.code = code
        self.request_id = request_id
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after
        super().__init__(self.message)

    def __setattr__(self, name: str, value: Any) -> None:
        # Here and not in the constructor, for some facts are known only to whoever catches the error.
        if name in _SHOWN and value is not None:
            # Escaped first, or a line end within a query would end what is hidden.
            value = shortened(redact_text(printable(str(value))), _SHOWN[name])
        super().__setattr__(name, value)

    def __str__(self) -> str:
        facts = {
            "task": self.remote_task_id,
            "file": self.file,
            "target": self.target,
            "code": self.code,
            "request id": self.request_id,
        }
        shown = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
        return f"{self.message} [{shown}]" if shown else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(vars(self)))

    def hide(self, secrets: Iterable[str]) -> None:
        """Take ``secrets`` out of everything this error shows; for texts that a service may have echoed."""
        known = {form for secret in secrets for form in (secret, printable(secret))}
        for name in _SHOWN:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, redact_text(value, known))
        self.args = (self.message,)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values, for a trigger's event."""
        return {"type": type(self).__name__, **{name: vars(self).get(name) for name in _FIELDS}}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TaskDownloadError:
        """Return the error that :meth:`to_dict` described; an unknown type gives the root class."""
        kind = next((cls for cls in _tree(TaskDownloadError) if cls.__name__ == data.get("type")), TaskDownloadError)
        facts = {name: data.get(name) for name in _FIELDS}
        return kind(str(facts.pop("message") or "unknown error"), **facts)


class ConnectionConfigError(TaskDownloadError):
    """The connection, one of its extras or a parameter cannot be used; nothing was sent."""


class TaskApiError(TaskDownloadError):
    """The service refused the request; the subclasses say why where that is known."""


class AuthenticationError(TaskApiError):
    """The service refused the credentials, or they may not do this."""


class TaskNotFoundError(TaskApiError):
    """The service does not know this task."""


class TaskNotReadyError(TaskApiError):
    """The task exists; its files do not, yet."""

    default_retryable = True


class TaskFailedError(TaskApiError):
    """The task failed at the service, or its files expired: waiting longer cannot help."""


class ServiceUnavailableError(TaskApiError):
    """Time-out, broken connection, or a status that asks to come back (408, 425, 5xx)."""

    default_retryable = True


class RateLimitedError(TaskApiError):
    """The service asked for fewer requests; ``retry_after`` has the seconds it named, if it did."""

    default_retryable = True


class PausedError(RateLimitedError):
    """Nothing was sent: the service had asked for a pause on this connection that is not over."""


class MalformedResponseError(TaskApiError):
    """The answer is not what this API answers: a proxy's page, a cut body, another service."""

    default_retryable = True


class TransferError(TaskDownloadError):
    """A file did not arrive: the network or the file host gave up."""

    default_retryable = True


class LinkExpiredError(TransferError):
    """The link was refused as expired, and so was the fresh one."""


class LinkRefusedError(TransferError):
    """The file host refused the link for another reason than its age."""


class UnsafeLinkError(TransferError):
    """The link, or a redirect, points to a place that no link may point to."""

    default_retryable = False


class UnsafeFileNameError(TransferError):
    """A name in the listing is no plain file name, or two files share one."""

    default_retryable = False


class SourceChangedError(TransferError):
    """The file at the source is not the one that was begun."""


class IntegrityError(TransferError):
    """Size or digest differ from what was announced."""


class DestinationExistsError(TransferError):
    """There is already something at the destination and ``overwrite="never"``."""

    default_retryable = False


class DestinationError(TransferError):
    """The destination could not be written."""


class DownloadFailedError(TransferError):
    """Several files failed.

    :param errors: One error per failed file, in the listing's order.
    """

    def __init__(self, message: str, *, errors: Sequence[TaskDownloadError] = (), **facts: Any) -> None:
        facts.setdefault("retryable", any(error.retryable for error in errors))
        super().__init__(message, **facts)
        self.errors = tuple(errors)


_FIELDS = ("message", "remote_task_id", "file", "target", "code", "request_id", "retryable", "retry_after")


def _tree(root: type[TaskDownloadError]) -> Iterable[type[TaskDownloadError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def _restore(kind: type[TaskDownloadError], state: dict[str, Any]) -> TaskDownloadError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (error.message,)
    return error
