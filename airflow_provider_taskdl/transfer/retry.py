"""How patient a transfer is, alone and where many ask for the same."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass

from airflow_provider_taskdl.backoff import equal_jitter
from airflow_provider_taskdl.exceptions import TaskDownloadError, TransferError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a transfer is.

    :param failures: Failures in a row, without one new byte, that are mended.
    :param base: Seconds; the first wait is up to this long and each further one up to twice the one before.
    :param cap: Seconds that one wait lasts at most, unless a host's ``Retry-After`` asks for more.
    :param patience: Seconds that it may ask for at most; who wants more is asked again by the next try of the task.
    """

    failures: int = 6
    base: float = 0.5
    cap: float = 30.0
    patience: float = 300.0

    @property
    def outage(self) -> float:
        """Seconds for which a service may be away before a transfer gives it up."""
        return 4 * self.cap


class SharedFailures:
    """The failures in a row of a question that many threads have: each failure is told to all of them.

    It waits for nobody: what it tells says by ``retry_after`` when the question may be asked again. Its user holds a
    lock.

    :param retry: How patient to be; with one question after another, however many threads have it.
    """

    def __init__(self, retry: RetryPolicy) -> None:
        self._retry = retry
        self._not_before = self._since = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget the failures: there was an answer."""
        self._count = 0
        self._is_over = False
        self._last: TaskDownloadError | None = None

    def check(self) -> None:
        """Return if the question may be asked now.

        :raises TaskDownloadError: Not yet, or never: the last failure.
        :raises TransferError: It has failed too often in a row; one is let through each ``cap`` seconds all the same.
        """
        rest = self._not_before - time.monotonic()
        if self._last is not None and (rest > 0 or not self._last.retryable):
            raise self._told(self._last, rest)

    def add(self, error: TaskDownloadError) -> TaskDownloadError:
        """Take note of a failure, and return what to raise."""
        retry, now = self._retry, time.monotonic()
        if not self._count:
            self._since = now
        self._count += 1
        # Not the number alone: what is refused at once is refused seven times while a service starts again.
        self._is_over = self._count > retry.failures and now - self._since >= retry.outage
        pause = retry.cap if self._is_over else equal_jitter(self._count, base=retry.base, cap=retry.cap)
        pause = max(pause, min(error.retry_after or 0.0, retry.patience))
        self._not_before = now + pause
        self._last = copy(error)  # without its traceback, which would keep what the thread holds
        return self._told(self._last, pause)

    def _told(self, error: TaskDownloadError, rest: float) -> TaskDownloadError:
        """Return the failure for one of those who asked, who adds to it what it is about."""
        if not error.retryable:
            return copy(error)
        if self._is_over:
            return TransferError(
                f"gave up asking the service for fresh links after {self._count} failures in a row; "
                f"the last: {error.message}",
                target=error.target, code=error.code, request_id=error.request_id,
            )  # fmt: skip
        told = copy(error)
        told.retry_after = rest
        return told
