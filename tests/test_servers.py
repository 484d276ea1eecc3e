"""What the tests' servers rest on: one that does not start is told, and one that will not stop is ended."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from tests import servers
from tests.servers import free_port, listens, running

STUBBORN = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    time.sleep(60)
"""


def test_what_a_server_said_that_did_not_start_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with (
        pytest.raises(pytest.fail.Exception, match="no such option"),
        running(command, tmp_path / "log", partial(listens, free_port())),
    ):
        raise AssertionError("it did start")


def test_a_server_that_will_not_stop_is_gone_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_STOP_SECONDS", 0.2)
    port = free_port()
    with running([sys.executable, "-c", STUBBORN, str(port)], tmp_path / "log", partial(listens, port)):
        listens(port)
    with pytest.raises(OSError, match="refused"):
        listens(port)
