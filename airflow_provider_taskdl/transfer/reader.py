"""A file or a part of it from its host, in order, mending on the way what a network breaks.

Retry and resume are one mechanism: whatever goes wrong, the next request asks for the bytes from where the last one
stopped, under the condition that the file is still the same (RFC 9110 §13.1.5, §14).
"""

from __future__ import annotations

import json
import re
import threading
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
from airflow_provider_taskdl.listing import Link
from airflow_provider_taskdl.transfer.client import LinkClient, Response
from airflow_provider_taskdl.transfer.connection import ConnectionBroken
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.source import Source, no_end
from airflow_provider_taskdl.transfer.stop import Cancelled

_WEATHER = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9._-]{1,64})</Code>")
# What hosts call a link that is over; the others say so of any refusal, and only the time tells.
_EXPIRED_CODES = frozenset({"RequestExpired", "ExpiredToken"})
_VAGUE_CODES = frozenset({"AccessDenied", "AuthenticationFailed"})


class RangeReader:
    """Reads a file, or the part of it from ``start`` to ``end``, in order.

    :param source: The file, and what is known of it.
    :param links: Gives its current link.
    :param client: Fetches links.
    :param retry: How patient to be.
    :param cancelled: Set when this is to stop.
    :param start: The first byte that is wanted.
    :param end: The byte after the last one that is wanted; without one the whole rest is asked for. A host that knows
        no ranges sends the whole file all the same, and then there is no end.
    :ivar source: The file, and what is known of it.
    :ivar position: The next byte.
    :ivar retries: Failures mended so far.
    """

    def __init__(
        self,
        source: Source,
        links: LinkSource,
        client: LinkClient,
        retry: RetryPolicy,
        cancelled: threading.Event,
        start: int = 0,
        end: int | None = None,
    ) -> None:
        self.source, self._links, self._client = source, links, client
        self._retry, self._cancelled = retry, cancelled
        self.position, self.end, self._wanted_end = start, end, end
        self.retries = 0
        self._response: Response | None = None
        self._until: int | None = None  # the byte after the last one that this answer is to give
        self._to_skip = 0
        self._failures = self._refusals = 0
        self._renewed = False
        self._scratch = memoryview(bytearray(0))

    def open(self) -> None:
        """Ask for the bytes, so that the file's size and validator are known.

        :raises TransferError: As for :meth:`readinto`.
        """
        while self._response is None:
            self._connect()

    def readinto(self, view: memoryview) -> int:
        """Fill the front of ``view`` with the next bytes and return how many; 0 when there are no more.

        :raises LinkExpiredError: The link and a fresh one were refused as expired.
        :raises LinkRefusedError: They were refused for another reason.
        :raises UnsafeLinkError: The link points where none may point.
        :raises SourceChangedError: The file is not the one that was begun; to be read again from its start.
        :raises IntegrityError: Its length is not the announced one.
        :raises TransferError: The connection broke too often in a row, or a renewal of the link failed for good.
        :raises Cancelled: The transfer is to stop.
        """
        while True:
            if self.end is not None and self.position >= self.end:
                return self._finish()
            self.open()
            response = self._response
            if response is None:
                continue
            if self._until is not None and self.position >= self._until:
                if self.position == self.source.size:
                    return self._finish()
                self._failed(f"the host's answer ended at byte {self.position}")
                continue
            wanted = view if self._until is None else view[: self._until - self.position]
            try:
                count = response.readinto(self._skip_view() if self._to_skip else wanted)
            except ConnectionBroken as error:
                if self.position == self.source.size and not self._to_skip:
                    return self._finish()  # only the mark of the answer's end is missing
                self._failed(str(error))
                continue
            if self._cancelled.is_set():
                raise Cancelled
            if count and self._to_skip:
                self._to_skip -= count
            elif count:
                size = self.source.size
                if size is not None and self.position + count > size:
                    raise IntegrityError(f"the file host sends more than the {size} bytes that were announced")
                self.position += count
                self._failures, self._refusals, self._renewed = 0, 0, False
                return count
            elif self.position == self.source.size or (self.source.size is None and not self._to_skip):
                return self._finish()
            else:
                self._failed(f"the host's answer ended at byte {self.position}")

    def close(self) -> None:
        """Let go of the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _finish(self) -> int:
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
            link = self._links.current(self.source.file.name)
        except TaskApiError as error:
            self._api_failed(error)
            return
        try:
            response = self._client.get(link.reveal(), self._fields())
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

    def _fields(self) -> dict[str, str]:
        if not self.position and self.end is None:
            return {}  # a file of no bytes has no range
        fields = {"Range": f"bytes={self.position}-{'' if self.end is None else self.end - 1}"}
        # One without quotes is no entity tag, by which the whole file would come (RFC 9110 §13.1.5).
        if (tag := self.source.strong_etag) is not None and tag.startswith('"'):
            fields["If-Range"] = tag
        return fields

    def _judge(self, response: Response, link: Link) -> None:
        status = response.status
        ranged = bool(self.position) or self.end is not None
        if status == 200 or (status == 204 and self.source.file.size == 0):
            self._take_whole(response)
        elif status == 206 and ranged:
            self._take_range(response)
        elif status in (400, 416) and ranged and not self.source.is_known:
            self._without_range()  # as for a file of no bytes; a refusal of the link itself comes again
        elif status == 416 and ranged:
            raise SourceChangedError(f"the file host has no byte {self.position} any more")
        elif status in _WEATHER:
            self._failed(f"the host answered HTTP {status}", parse_retry_after(response.headers.get("Retry-After")))
        elif 400 <= status < 500:
            self._refused(response, link)
        else:
            raise TransferError(f"the file host answered HTTP {status}, which is no file", target=response.shown)

    def _without_range(self) -> None:
        self.close()
        self.end = None

    def _take_whole(self, response: Response) -> None:
        """Take an answer that starts at the file's first byte."""
        source = self.source
        source.check_encoding(response, response.length)
        if source.is_known:  # a range was asked for and the whole file came
            source.check_same(response, response.length, self.position)
            source.learn_size(response, response.length)
            self._to_skip = self.position
        else:
            source.learn(response, response.length, whole=True)
            self.end = None
        self._until = self.end

    def _take_range(self, response: Response) -> None:
        source = self.source
        match = _CONTENT_RANGE.fullmatch((response.headers.get("Content-Range") or "").strip())
        if (
            not match
            or int(match[1]) != self.position
            or int(match[2]) < self.position
            or (self.end is not None and int(match[2]) >= self.end)
            or response.length not in (None, int(match[2]) + 1 - int(match[1]))
        ):
            self._failed(f"the host answered the range from byte {self.position} with another one")
            return
        total, self._until = None if match[3] == "*" else int(match[3]), int(match[2]) + 1
        # Of a length that is not told nothing says that it is the encoded form's, as it is where that is the file.
        source.check_encoding(response, None if response.length is None else total)
        if source.is_known:
            source.check_same(response, total, self.position)
        elif total is None:
            self._without_range()  # nothing says where the file ends
            return
        else:
            source.learn(response, total, whole=int(match[2]) + 1 == total)
        if source.size is None and total is None:
            raise no_end(response)  # nothing says that this range is the last
        source.size = total if source.size is None else source.size
        if self.end is not None and source.size is not None:
            self.end = min(self.end, source.size)

    def _refused(self, response: Response, link: Link) -> None:
        code = _error_code(response.read_some(4096))
        status, shown = response.status, response.shown
        self.close()
        self._refusals += 1
        if not self._renewed and self._refusals <= self._retry.failures:
            # Once per stretch: a refusal can have other reasons than age, and must not become a loop.
            self._renewed = True
            try:
                self._links.renew(self.source.file.name, link)
            except TaskApiError as error:
                self._renewed = False  # there was no fresh link to be refused
                self._api_failed(error)
            if not self.source.is_known:
                self.end = self._wanted_end  # it was the link that was refused, and not the range
            return
        over = link.expires_at is not None and link.expires_at <= datetime.now(timezone.utc)
        aged = code in _EXPIRED_CODES or (over and (status in (401, 403, 410) or code in _VAGUE_CODES))
        kind, why = (LinkExpiredError, "as expired") if aged else (LinkRefusedError, f"with HTTP {status}")
        raise kind(f"the file host refused the link {why}, and a fresh link as well", target=shown, code=code)

    def _api_failed(self, error: TaskApiError) -> None:
        if not error.retryable:
            raise error
        self._pause(error.retry_after or 0.0)  # how often the service may fail is for all files together to say

    def _failed(self, why: str, retry_after: float | None = None) -> None:
        """Count a failure and wait, or give up."""
        self.close()
        if self._cancelled.is_set():
            raise Cancelled
        self._failures += 1
        if self._failures > self._retry.failures:
            of = "" if self.source.size is None else f" of {self.source.size}"
            raise TransferError(
                f"gave up at byte {self.position}{of} after {self._failures} failures in a row without a new byte; "
                f"the last: {why}"
            )
        asked = min(retry_after or 0.0, self._retry.patience)
        self._pause(max(full_jitter(self._failures, base=self._retry.base, cap=self._retry.cap), asked))

    def _pause(self, seconds: float) -> None:
        self.close()
        self.retries += 1
        if self._cancelled.wait(seconds):
            raise Cancelled


def _error_code(body: bytes) -> str | None:
    """Return the code in an object store's error, XML or JSON."""
    if match := _ERROR_CODE.search(body):
        return match.group(1).decode()
    try:
        code = json.loads(body).get("code")
    except (ValueError, AttributeError, RecursionError):
        return None
    return code[:64] if isinstance(code, str) else None
