"""The command line, in this process and in one of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import airflow_provider_taskdl
from airflow_provider_taskdl.cli.main import main
from tests.airflow_versions import AIRFLOW
from tests.canary import assert_canary_free, recorded_links
from tests.transfer.conftest import certificate, no_proxy_from_outside

__all__ = ["certificate", "no_proxy_from_outside"]

PARENT = str(Path(airflow_provider_taskdl.__path__[0]).parent)
_AIRFLOWS_LOG = re.compile(r"^\[?\d{4}-\d\d-\d\dT.*\n", re.MULTILINE)
PASSWORD = "CANARY-passw0rd-4711"


class Said(NamedTuple):
    """What a command gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command in this process; no link and no password may show in what it says."""
    for name in ("_AIRFLOW_PROCESS_CONTEXT", "AIRFLOW__LOGGING__LOGGING_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with recorded_links() as links:

        def run(*words: str) -> Said:
            try:
                code = main(words)
            except SystemExit as end:  # argparse
                code = int(end.code or 0)
            said = Said(code, *capsys.readouterr())
            assert_canary_free(said, secrets=[*links, PASSWORD, "emulated-secret-key", "emulated-token"])
            if AIRFLOW < (3, 2):  # it was imported by the tests, and so logs as for them
                said = said._replace(err=_AIRFLOWS_LOG.sub("", said.err))
            assert "Traceback" not in said.err
            return said

        yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a connection, with a password that must not show."""

    def make(**fields: Any) -> str:
        made = {"conn_type": "eo_analysis", "password": PASSWORD, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_MADE", json.dumps(made))
        return "made"

    return make


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with this one's connections."""
    return subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_taskdl", *words],
        env=os.environ | {"PYTHONPATH": PARENT},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
