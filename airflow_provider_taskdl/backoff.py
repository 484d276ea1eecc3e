"""How long to wait before asking again: jitter, and what a service asked for."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 3600.0
# Longer than this the pause between looks does not grow, unless their interval itself is longer.
_LONGEST_PAUSE = 300.0


def full_jitter(failures: int, *, base: float, cap: float) -> float:
    """Return seconds to wait after ``failures`` failures in a row: uniform in 0 … min(cap, base x 2^(n-1))."""
    return random.uniform(0.0, _bound(failures, base, cap))


def equal_jitter(failures: int, *, base: float, cap: float) -> float:
    """As :func:`full_jitter`, but half of it for certain: for one wait by which many stand or fall."""
    bound = _bound(failures, base, cap)
    return random.uniform(bound / 2, bound)


def longest_pause(interval: float) -> float:
    """Return up to how many seconds the pause between two looks grows that are ``interval`` seconds apart."""
    return max(interval, _LONGEST_PAUSE)


def growing_pause(failures: int, interval: float) -> float:
    """Return seconds until the next look after ``failures`` failed ones in a row: uniform in interval … its ceiling."""
    return random.uniform(interval, min(interval * 2.0 ** min(failures, 32), longest_pause(interval)))


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110 §10.2.3), or ``None`` if it says nothing.

    Both forms are understood, seconds and a date. Anything absurd is bounded to 0 … one hour: a service must not be
    able to park a task for ever.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        seconds = (when - (now or datetime.now(timezone.utc))).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _bound(failures: int, base: float, cap: float) -> float:
    return min(cap, base * 2.0 ** min(max(failures, 1) - 1, 32))
