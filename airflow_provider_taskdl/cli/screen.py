"""What a person sees while a command runs: a bar on a terminal, lines anywhere else."""

from __future__ import annotations

import logging
import shutil
import sys
from types import TracebackType
from typing import TextIO

from airflow_provider_taskdl.transfer.progress import Progress

_LOG = logging.getLogger("airflow_provider_taskdl")
_CLEAR = "\r\x1b[K"
_SHORTEST_BAR = 10


class Screen(logging.Handler):
    """Shows what the transfer logs, and on a terminal how far it is; on standard error, as results go elsewhere."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.stream: TextIO = sys.stderr
        self._bar = ""

    def __enter__(self) -> Screen:
        self._before = _LOG.level, _LOG.propagate
        _LOG.addHandler(self)
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.paint("")
        _LOG.removeHandler(self)
        _LOG.level, _LOG.propagate = self._before

    def emit(self, record: logging.LogRecord) -> None:
        """Show a log record's text."""
        self.say(record.getMessage())

    def say(self, text: str) -> None:
        """Show a text on lines of its own, above the bar if there is one."""
        bar, text = self._bar, text.strip("\n")
        self.paint("")
        self.stream.write(f"{text}\n")
        self.paint(bar)
        self.stream.flush()

    def paint(self, bar: str) -> None:
        """Put ``bar`` in the place of the one that is shown."""
        if bar != self._bar:
            self.stream.write(f"{_CLEAR}{bar}")
            self.stream.flush()
            self._bar = bar

    def progress(self, files: int, total: int | None) -> Progress:
        """Return what counts a transfer's bytes and shows them.

        :param files: Files to fetch.
        :param total: Bytes to fetch, or ``None`` while not all sizes are known.
        """
        return _Bar(self, files, total) if self.stream.isatty() else Progress(files, total)


class _Bar(Progress):
    """Paints instead of giving lines for a log."""

    def __init__(self, screen: Screen, files: int, total: int | None) -> None:
        super().__init__(files, total)
        self._screen = screen

    def due_line(self) -> None:
        """Paint; asked for several times a second."""
        text, share = self.line(), self.share
        room = shutil.get_terminal_size().columns - len(text) - 5
        if share is not None and room >= _SHORTEST_BAR:
            text = f"[{'#' * int(share * room):<{room}}] {text}"
        self._screen.paint(text[: shutil.get_terminal_size().columns - 1])
