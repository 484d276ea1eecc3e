"""Servers of tests: on this machine, from when they answer, and gone in the end, whatever they do."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PATIENCE = 120.0
_STOP_SECONDS = 20.0


def free_port() -> int:
    """Return a port that nobody listens on; to be asked for just before it is used."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def listens(port: int) -> None:
    """Raise an ``OSError`` unless somebody listens there."""
    socket.create_connection(("127.0.0.1", port), 1).close()


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    connect: Callable[[], None],
    *,
    end: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[None]:
    """Run a server, from when it answers.

    :param command: What starts it.
    :param log: Where what it says goes; it runs in that directory.
    :param connect: Asks it, and raises what it likes while there is no answer.
    :param end: The signal that ends it.
    :param options: As for ``subprocess.Popen``.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **options,
        )

    def answers() -> bool:
        try:
            connect()
        except Exception:  # noqa: BLE001 - each client has its own words for "not yet"
            return False
        return True

    try:
        deadline = time.monotonic() + _PATIENCE
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not answer: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
