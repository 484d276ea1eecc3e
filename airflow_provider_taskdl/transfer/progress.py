"""How far a transfer is, in lines for a task's log."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from airflow_provider_taskdl.transfer.manifest import Entry

_SECONDS_BETWEEN_LINES = 10.0
_STEP = 0.1


class Progress:
    """Counts bytes and files from many threads.

    :param files: Files to fetch.
    :param total: Bytes to fetch, or ``None`` while not all sizes are known.
    """

    def __init__(self, files: int, total: int | None) -> None:
        self._files, self._total = files, total
        self._lock = threading.Lock()
        self._bytes = self._done = 0
        self._started = self._last_line = time.monotonic()
        self._last_step = 0

    def add(self, count: int) -> None:
        """Count bytes; a negative number takes back those of a file that is read again."""
        with self._lock:
            self._bytes += count

    def file_done(self) -> None:
        """Count a file."""
        with self._lock:
            self._done += 1

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def share(self) -> float | None:
        """How much has come, 0 to 1, or ``None`` while the total is not known."""
        return min(self._bytes / self._total, 1.0) if self._total else None

    def due_line(self) -> str | None:
        """Return a line if it is time for one: every 10 seconds and every 10 %."""
        now = time.monotonic()
        step = int((self.share or 0.0) / _STEP)
        if now - self._last_line < (1.0 if step > self._last_step else _SECONDS_BETWEEN_LINES):
            return None
        self._last_line, self._last_step = now, step
        return self.line()

    def line(self) -> str:
        """Return one line: files, bytes, per cent, speed and the time that is left."""
        speed = self._bytes / max(self.seconds, 0.001)
        parts = [f"{self._done} of {self._files} files", human_bytes(self._bytes)]
        if self._total and (share := self.share) is not None:
            parts[-1] += f" of {human_bytes(self._total)} ({share:.0%})"
        parts.append(f"{speed / 1e6:.1f} MB/s")
        if self._total and self._bytes and speed:
            parts.append(f"{max(self._total - self._bytes, 0) / speed:.0f} s left")
        return ", ".join(parts)


def closing_table(entries: Sequence[Entry], failures: Sequence[tuple[str, str]], limit: int = 50) -> str:
    """Return the table that ends a transfer's log.

    :param entries: The files that are there.
    :param failures: Name and reason of those that are not.
    :param limit: Rows at most of each kind.
    """
    rows: list[tuple[str, str, str, str]] = [
        (e.outcome, human_bytes(e.size), e.sha256[:12], e.name) for e in entries[:limit]
    ]
    rows += [("failed", "-", "-", f"{name}: {reason}") for name, reason in failures[:limit]]
    head = ("outcome", "size", "sha256", "file")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(3)]
    lines = [
        f"{outcome:<{widths[0]}}  {size:>{widths[1]}}  {sha:<{widths[2]}}  {name}"
        for outcome, size, sha, name in (head, *rows)
    ]
    hidden = max(len(entries) - limit, 0) + max(len(failures) - limit, 0)
    return "\n".join([*lines, f"... and {hidden} more"] if hidden else lines)


def human_bytes(count: float) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
