"""One file from its host, first byte to last, mending on the way what a network breaks.

Retry and resume are one mechanism: whatever goes wrong, the next request asks for the bytes from where the last one
stopped, under the condition that the file is still the same (RFC 9110 §13.1.5, §14).
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_provider_taskdl.backoff import full_jitter, parse_retry_after
from airflow_provider_taskdl.exceptions import (
    IntegrityError,
    LinkExpiredError,
    LinkRefusedError,
    SourceChangedError,
    TaskApiError,
    TransferError,
)
from airflow_provider_taskdl.listing import Link, RemoteFile
from airflow_provider_taskdl.transfer.client import LinkClient, Response
from airflow_provider_taskdl.transfer.connection import ConnectionBroken
from airflow_provider_taskdl.transfer.digest import announced_digests
from airflow_provider_taskdl.transfer.link_source import LinkSource

_WEATHER = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,64})</Code>")
# What hosts call a link that is over; the others say so of any refusal, and only the time tells.
_EXPIRED_CODES = frozenset({"RequestExpired", "ExpiredToken"})
_VAGUE_CODES = frozenset({"AccessDenied", "AuthenticationFailed"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a transfer is.

    :param failures: Failures in a row, without one new byte, that are mended.
    :param base: Seconds; the first wait is up to this long and each further one up to twice the one before.
    :param cap: Seconds that one wait lasts at most; a host's ``Retry-After`` may ask for more.
    """

    failures: int = 6
    base: float = 0.5
    cap: float = 30.0


class Cancelled(Exception):
    """The transfer was told to stop."""


class FileReader:
    """Reads a file of the listing in order.

    :param file: The file.
    :param links: Gives its current link.
    :param client: Fetches links.
    :param retry: How patient to be.
    :param cancelled: Set when the whole transfer is to stop.
    :ivar size: Bytes of the file, as far as they are known; after :meth:`open`.
    :ivar etag: The file's ETag at the host, if it has one.
    :ivar digests: What the host announced of the whole file.
    :ivar retries: Failures mended so far.
    """

    def __init__(
        self, file: RemoteFile, links: LinkSource, client: LinkClient, retry: RetryPolicy, cancelled: threading.Event
    ) -> None:
        self.file, self._links, self._client, self._retry, self._cancelled = file, links, client, retry, cancelled
        self.size: int | None = file.size
        self.etag: str | None = None
        self.digests: dict[str, str] = {}
        self.retries = 0
        self.position = 0
        self._last_modified: str | None = None
        self._known = False
        self._response: Response | None = None
        self._to_skip = 0
        self._failures = 0
        self._renewed = False
        self._scratch = memoryview(bytearray(0))

    def open(self) -> None:
        """Ask for the file, so that its size and validator are known.

        :raises TransferError: As for :meth:`readinto`.
        """
        while self._response is None:
            self._connect()

    def readinto(self, view: memoryview) -> int:
        """Fill the front of ``view`` with the next bytes and return how many; 0 when the file is complete.

        :raises LinkExpiredError: The link and a fresh one were refused as expired.
        :raises LinkRefusedError: They were refused for another reason.
        :raises UnsafeLinkError: The link points where none may point.
        :raises SourceChangedError: The file is not the one that was begun; to be read again from its start.
        :raises IntegrityError: Its length is not the announced one.
        :raises TransferError: The connection broke too often in a row, or a renewal of the link failed for good.
        :raises Cancelled: The transfer is to stop.
        """
        while True:
            self.open()
            response = self._response
            if response is None:
                continue
            try:
                count = response.readinto(self._skip_view() if self._to_skip else view)
            except ConnectionBroken as error:
                if self.position == self.size and not self._to_skip:
                    return self._end()  # only the mark of the answer's end is missing
                self._failed(str(error))
                continue
            if self._cancelled.is_set():
                raise Cancelled
            if count and self._to_skip:
                self._to_skip -= count
            elif count:
                if self.size is not None and self.position + count > self.size:
                    raise IntegrityError(f"the file host sends more than the {self.size} bytes that were announced")
                self.position += count
                self._failures, self._renewed = 0, False
                return count
            elif self.position == self.size or (self.size is None and not self._to_skip):
                return self._end()
            else:
                self._failed(f"the host's answer ended at byte {self.position}")

    def close(self) -> None:
        """Let go of the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _end(self) -> int:
        self.close()
        return 0

    def _skip_view(self) -> memoryview:
        if not self._scratch:
            self._scratch = memoryview(bytearray(256 * 1024))
        return self._scratch[: self._to_skip]

    def _connect(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        try:
            link = self._links.current(self.file.name)
        except TaskApiError as error:
            self._api_failed(error)
            return
        fields = {}
        if self.position:
            fields["Range"] = f"bytes={self.position}-"
            if self.etag and not self.etag.startswith("W/"):
                fields["If-Range"] = self.etag
        try:
            response = self._client.get(link.reveal(), fields)
        except ConnectionBroken as error:
            self._failed(str(error))
            return
        self._to_skip = 0
        self._response = response
        try:
            self._judge(response, link)
        except BaseException:
            self.close()
            raise

    def _judge(self, response: Response, link: Link) -> None:
        status = response.status
        if status == 200 or (status == 204 and self.file.size == 0):
            self._begin(response)
        elif status == 206 and self.position:
            self._resume(response)
        elif status == 416 and self.position:
            raise SourceChangedError(f"the file host has no byte {self.position} any more")
        elif status in _WEATHER:
            self._failed(f"the host answered HTTP {status}", parse_retry_after(response.headers.get("Retry-After")))
        elif 400 <= status < 500:
            self._refused(response, link)
        else:
            raise TransferError(f"the file host answered HTTP {status}, which is no file", target=response.shown)

    def _begin(self, response: Response) -> None:
        """Take an answer that starts at the file's first byte."""
        encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
        if encoding not in ("identity", "") and (self.file.size is None or response.length != self.file.size):
            raise TransferError(f"the file host sends the file encoded as {encoding}, which was not asked for",
                                target=response.shown, retryable=False)  # fmt: skip
        if not self._known:
            self._learn(response)
            return
        # A Range was asked for and the whole file came.
        self._check_same(response, response.length)
        self._learn_size(response)
        self._to_skip = self.position

    def _learn(self, response: Response) -> None:
        self._known = True
        self.etag = response.headers.get("ETag")
        self._last_modified = response.headers.get("Last-Modified")
        self.digests = announced_digests(response.headers)
        self._learn_size(response)

    def _learn_size(self, response: Response) -> None:
        if response.length is None:
            if self.size is None and not response.ends_itself:
                raise _no_end(response)
            return
        if self.file.size is not None and response.length != self.file.size:
            raise IntegrityError(
                f"the service announced {self.file.size} bytes, the file host has {response.length}",
                target=response.shown,
            )
        self.size = response.length

    def _resume(self, response: Response) -> None:
        match = _CONTENT_RANGE.fullmatch((response.headers.get("Content-Range") or "").strip())
        if not match or int(match[1]) != self.position or int(match[2]) < self.position:
            self._failed(f"the host answered the range from byte {self.position} with another one")
            return
        total = None if match[3] == "*" else int(match[3])
        self._check_same(response, total)
        if self.size is None and total is None:
            raise _no_end(response)  # nothing says that this range is the last
        self.size = total if self.size is None else self.size

    def _check_same(self, response: Response, total: int | None) -> None:
        """Prove that the answer is of the same file; without a proof the file must be read again."""
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        changed = (
            (total is not None and self.size is not None and total != self.size)
            or (etag is not None and self.etag is not None and etag != self.etag)
            or (modified is not None and self._last_modified is not None and modified != self._last_modified)
        )
        # A weak ETag speaks of the same meaning, not of the same bytes. Of no byte there is nothing to prove.
        strong = etag is not None and not etag.startswith("W/")
        same = (strong and etag == self.etag) or (modified is not None and modified == self._last_modified)
        proved = same or (self.position == 0 and announced_digests(response.headers) == self.digests)
        if changed:
            raise SourceChangedError(f"the file at the host changed after {self.position} bytes of it were read")
        if not proved:
            raise SourceChangedError(
                f"the connection broke at byte {self.position}, and the file host gives no ETag or date that proves "
                "the rest to be of the same file"
            )

    def _refused(self, response: Response, link: Link) -> None:
        code = _error_code(response.read_some(4096))
        status, shown = response.status, response.shown
        self.close()
        if not self._renewed:
            # Once per stretch: a refusal can have other reasons than age, and must not become a loop.
            self._renewed = True
            try:
                self._links.renew(self.file.name, link)
            except TaskApiError as error:
                self._renewed = False  # there was no fresh link to be refused
                self._api_failed(error)
            return
        over = link.expires_at is not None and link.expires_at <= datetime.now(timezone.utc)
        aged = code in _EXPIRED_CODES or (over and (status in (401, 403, 410) or code in _VAGUE_CODES))
        kind, why = (LinkExpiredError, "as expired") if aged else (LinkRefusedError, f"with HTTP {status}")
        raise kind(f"the file host refused the link {why}, and a fresh link as well", target=shown, code=code)

    def _api_failed(self, error: TaskApiError) -> None:
        if not error.retryable:
            raise error
        self._failed(f"no fresh link: {error.message}", error.retry_after)

    def _failed(self, why: str, retry_after: float | None = None) -> None:
        """Count a failure and wait, or give up."""
        self.close()
        if self._cancelled.is_set():
            raise Cancelled
        self._failures += 1
        if self._failures > self._retry.failures:
            of = "" if self.size is None else f" of {self.size}"
            raise TransferError(
                f"gave up at byte {self.position}{of} after {self._failures} failures in a row without a new byte; "
                f"the last: {why}"
            )
        self.retries += 1
        wait = max(full_jitter(self._failures, base=self._retry.base, cap=self._retry.cap), retry_after or 0.0)
        if self._cancelled.wait(wait):
            raise Cancelled


def _no_end(response: Response) -> IntegrityError:
    why = "neither the service nor the file host says how long the file is, so a cut cannot be seen"
    return IntegrityError(why, target=response.shown)


def _error_code(body: bytes) -> str | None:
    """Return the code in an object store's error, XML or JSON."""
    if match := _ERROR_CODE.search(body):
        return match.group(1).decode()
    try:
        code = json.loads(body).get("code")
    except (ValueError, AttributeError, RecursionError):
        return None
    return code[:64] if isinstance(code, str) else None
