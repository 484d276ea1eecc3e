"""What a service lists: its tasks, a task's state, its files, and a link to each.

These values are all that the API side and the transfer side of the package know of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_taskdl.redaction import redact_url, storable

# More bytes than any store has; and no message and no database takes a number without end.
SIZE_LIMIT = 2**63


class TaskState(str, Enum):
    """Where a remote task is; ``unknown`` is an answer that was understood but says nothing about it."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task's state with the service's own words for it.

    :param state: The state.
    :param reason: Why, as the service says it; for ``failed`` and ``expired``.
    :param group: What the service lists the task under, such as a project, where the answer says so.
    """

    state: TaskState
    reason: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task in a service's list of tasks.

    :param remote_task_id: Its id.
    :param status: Its state.
    :param created: When it was made, where the list says so.
    :param group: What it is listed under, such as a project, where the list says so.
    :param name: What whoever made it called it, where the list says so.
    """

    remote_task_id: str
    status: TaskStatus
    created: datetime | None = None
    group: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of a service's list of tasks.

    :param tasks: The tasks, in the service's order.
    :param is_last: Whether this page is known to be the last one. A page behind the last one may be asked for; it is
        empty.
    :param total: Tasks over all pages, where the service says so.
    """

    tasks: tuple[ListedTask, ...]
    is_last: bool
    total: int | None = None


class Link:
    """A signed URL. Whoever holds it can read the file, so it never shows more than host and path.

    ``repr``, ``str``, ``format`` and pickle hold no query; :meth:`reveal` is the one way to the URL itself, byte for
    byte as the service gave it. A pickled link comes back without its URL.

    :param url: The URL as given.
    :param expires_at: When it ends by the service's word; the URL's own parameters are read as well and the earlier
        time holds.
    """

    __slots__ = ("_url", "expires_at", "shown")

    def __init__(self, url: str, expires_at: datetime | None = None) -> None:
        self._url: str | None = url
        self.shown = redact_url(url)
        known = [time for time in (expires_at, expiry_of(url)) if time is not None]
        self.expires_at = min(known, default=None)

    def reveal(self) -> str:
        """Return the URL.

        :raises ValueError: The link was pickled, and what came back has no URL any more.
        """
        if self._url is None:
            raise ValueError("this link was stored, and a stored link has no URL; ask the service for a new one")
        return self._url

    def expires_within(self, margin: float, now: datetime | None = None) -> bool:
        """Tell whether the link is known to end in less than ``margin`` seconds from now."""
        if self.expires_at is None:
            return False
        return self.expires_at - (now or datetime.now(timezone.utc)) < timedelta(seconds=margin)

    def __repr__(self) -> str:
        return f"Link({self.shown!r})"

    def __str__(self) -> str:
        return self.shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and self._url == other._url and self.shown == other.shown

    def __hash__(self) -> int:
        return hash((self._url, self.shown))

    def __getstate__(self) -> dict[str, Any]:
        return {"shown": self.shown, "expires_at": self.expires_at}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._url = None
        self.shown = state["shown"]
        self.expires_at = state["expires_at"]

    def __copy__(self) -> Link:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Link:
        return self


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a task.

    :param name: Its name as the service gives it; not yet judged.
    :param link: Where to fetch it, or ``None`` while the service has no link for it.
    :param size: Bytes, where the service says so.
    :param is_named_by_host: Whether the service gives no name: then ``name`` is what tells this link from the task's
        others, in each new listing the same, and the file's own name is what its host says (``Content-Disposition``).
        It is kept where the host says none.
    """

    name: str
    link: Link | None
    size: int | None = None
    is_named_by_host: bool = False


@dataclass(frozen=True, slots=True)
class FileListing:
    """A task's files, in the service's order.

    :param remote_task_id: The task.
    :param files: Its files.
    :param total_size: Bytes of all files, where the service says so.
    """

    remote_task_id: str
    files: tuple[RemoteFile, ...]
    total_size: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is at least one file and every file has a link."""
        return bool(self.files) and all(file.link is not None for file in self.files)

    def summary(self) -> dict[str, Any]:
        """Return what may go through XCom and events: names and sizes, no link.

        Whatever a service lists, Airflow can store it: a triggerer that cannot store an event ends, and all waits with
        it. So a name is not always the one that is judged, and a sum that no store can hold is not known.
        """
        sizes = [file.size for file in self.files]
        known = None if None in sizes else sum(size for size in sizes if size is not None)
        total = known if self.total_size is None else self.total_size
        return {
            "remote_task_id": storable(self.remote_task_id),
            "file_names": [storable(file.name) for file in self.files],
            "file_count": len(self.files),
            "total_size": total if total is not None and 0 <= total < SIZE_LIMIT else None,
        }


def expiry_of(url: str) -> datetime | None:
    """Return when a signed URL ends by its own parameters, or ``None`` where it does not say.

    Understood: BCE (``authorization=bce-auth-v1/<ak>/<time>/<seconds>/…``; -1 never ends), AWS and GCS version 4
    (``X-Amz-Date`` + ``X-Amz-Expires``, ``X-Goog-…``), AWS version 2, OSS, CloudFront and GCS version 2 (``Expires``,
    seconds of the epoch) and Azure SAS (``se``).
    """
    try:
        query = {key.lower(): value for key, value in parse_qsl(urlsplit(url).query)}
        if query.get("authorization", "").startswith("bce-auth-v"):
            _, _, signed_at, seconds, *_ = query["authorization"].split("/")
            return None if int(seconds) < 0 else parse_time(signed_at) + timedelta(seconds=int(seconds))
        for vendor in ("amz", "goog"):
            if f"x-{vendor}-expires" in query and f"x-{vendor}-date" in query:
                signed = datetime.strptime(query[f"x-{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
                return signed + timedelta(seconds=int(query[f"x-{vendor}-expires"]))
        if query.get("expires", "").isdigit():
            return datetime.fromtimestamp(int(query["expires"]), timezone.utc)
        if "se" in query and "sig" in query:
            return parse_time(query["se"])
    except (ValueError, OverflowError, OSError):
        return None
    return None


def time_or_none(text: object) -> datetime | None:
    """Return an ISO 8601 time, ``None`` for anything else."""
    try:
        return parse_time(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def parse_time(text: str) -> datetime:
    """Return an ISO 8601 time; one without a zone is taken as UTC.

    :raises ValueError: The text is no such time.
    """
    # datetime.fromisoformat knows neither "Z" nor fractions of other than 3 or 6 digits before Python 3.11, nor a day
    # without hyphens (`ds_nodash`).
    text = text.strip()
    if len(text) == 8 and text.isdecimal():
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    time = datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
