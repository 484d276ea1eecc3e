"""The command line itself: help, mistakes, and errors that nobody foresaw."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import NoReturn

import pytest

import airflow_provider_taskdl
from airflow_provider_taskdl.cli import commands
from tests.airflow_versions import since
from tests.canary import CANARY, assert_canary_free
from tests.cli.conftest import Command, start

COMMANDS = ("check", "state", "list", "get", "emulator")


def test_the_help_names_every_command_and_exit_code(command: Command) -> None:
    said = command("--help")
    assert said.code == 0
    assert all(f"\n    {name} " in said.out for name in COMMANDS)
    assert all(f"\n  {code} " in said.out for code in (0, 1, 2, 3, 130))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(command: Command, name: str) -> None:
    said = command(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"usage: python -m airflow_provider_taskdl {name} ")


@pytest.mark.parametrize("words", [[], ["fetch"], ["get", "a", "b"], ["list", "a", "b", "--json"]])
def test_a_command_line_that_is_wrong(command: Command, words: list[str]) -> None:
    said = command(*words)
    assert said.code == 2
    assert said.err.startswith("usage: python -m airflow_provider_taskdl ")


def test_the_version(command: Command) -> None:
    assert command("--version").out == f"{airflow_provider_taskdl.__version__}\n"


def test_help_does_not_load_airflow() -> None:
    program = "import sys, airflow_provider_taskdl.cli.main; print('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout == b"False\n"


def test_an_error_that_nobody_foresaw_shows_no_traceback_and_no_link(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(conn_id: str) -> NoReturn:
        raise RuntimeError(f"see https://h.example/f?sign={CANARY}")

    monkeypatch.setattr(commands, "task_hook", broken)
    said = command("list", "any", "1")
    assert said.code == 3
    assert said.err == "Unexpected RuntimeError: see https://h.example/f?***\n"
    assert_canary_free(said)


def test_an_emulator_that_cannot_listen_says_so(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = command("emulator", "--port", str(taken.getsockname()[1]))
    assert said.code == 3
    assert said.err.startswith("The emulator cannot serve: ")
    assert "in use" in said.err


def test_an_emulator_whose_packages_are_missing_says_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "airflow_provider_taskdl.testing.__main__", raising=False)
    monkeypatch.setitem(sys.modules, "airflow_provider_taskdl.testing.server", None)
    said = command("emulator", "--port", "0")
    assert said.code == 3
    assert "pip install 'airflow-provider-taskdl[testing]'" in said.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_emulator_is_ended_by_a_signal_and_that_is_its_end(number: signal.Signals) -> None:
    process = start("emulator", "--port", "0")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Serving the services at ")
    process.send_signal(number)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@since(3, 0, "it warns of itself on standard error")
def test_a_reader_that_has_enough_is_no_error() -> None:
    process = start("check", "nobodys")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
