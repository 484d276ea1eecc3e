"""The command line: what may be asked for, and what an exit code says."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from types import FrameType
from typing import NoReturn

from airflow_provider_taskdl import __version__
from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.redaction import printable, redact_text

PROG = "python -m airflow_provider_taskdl"
LATER, NEVER = 1, 3

_EPILOG = """\
Connections are found as Airflow finds them: in a secrets backend, in AIRFLOW_CONN_<ID>, in Airflow's database.

exit codes:
  0    done; for `state`: the task succeeded
  1    not done, later it may be: network, service, files not there yet; for `check`: something is wrong
  2    the command line is wrong
  3    not done, and the same command will not do better: connection, credentials,
       task, a name at the destination that is taken
  130  stopped by Ctrl-C (143: terminated); not `emulator`, which is meant to end so: 0
"""


class Stopped(BaseException):
    """A signal asked this program to end.

    :param number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    :param arguments: The command line; by default this process's own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["emulator"]:
        return _emulate(words[1:])
    options = parser().parse_args(words)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    # As for Airflow's own commands: connections come from its database, too, and its log does not mix with our words.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):  # a name may hold what the terminal's encoding does not know
        out.reconfigure(errors="backslashreplace")
    try:
        with redirect_stdout(sys.stderr):  # what Airflow says nevertheless, it says to the one it finds when imported
            code = _command(options.command)(options, out.write)
        out.flush()
        return code
    except TaskDownloadError as error:
        _say(f"{type(error).__name__}: {error}")
        return LATER if error.retryable else NEVER
    except Stopped as stop:
        again = f"; the same command goes on from there:\n  {PROG} {shlex.join(words)}"
        _say(f"Stopped. What had arrived is kept{again}" if options.command == "get" else "Stopped.")
        return 128 + stop.number
    except BrokenPipeError:  # `| head` has enough
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return LATER
    except Exception as error:  # noqa: BLE001 - a traceback would help nobody who reads a terminal, and may hold anything
        _say(f"Unexpected {type(error).__name__}: {printable(redact_text(str(error)))}")
        return NEVER


def _emulate(words: list[str]) -> int:
    try:
        from airflow_provider_taskdl.testing.__main__ import main as serve

        return serve(words, prog=f"{PROG} emulator")
    except ImportError as error:
        _say(f"The emulator needs more packages, pip install 'airflow-provider-taskdl[testing]': {error}")
        return NEVER


def _command(name: str) -> Callable[[argparse.Namespace, Callable[[str], object]], int]:
    # Imported now: with Airflow that takes seconds, which `--help` and a mistyped command need not.
    from airflow_provider_taskdl.cli import check, commands

    return {"check": check.check, "state": commands.state, "list": commands.list_, "get": commands.get}[name]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM):  # a second one would interrupt the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line; the emulator's own options are not in it."""
    made = argparse.ArgumentParser(
        prog=PROG,
        description="Try connections and remote tasks from a terminal, with what the sensor and the operator use.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, says: str, *positional: tuple[str, str], more: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=says, description=f"{says[0].upper()}{says[1:]}. {more}".strip())
        for argument, text in positional:
            command.add_argument(argument.lower(), metavar=argument, help=text)
        return command

    conn = ("CONN_ID", "id of an Airflow connection, such as baidu_bls_default")
    task = ("TASK", "the task's id at the service")
    add("check", "say what is wrong with a connection", conn,
        more="Looks at settings, host, TLS and credentials, and changes nothing at the service.")  # fmt: skip
    add("state", "print a task's state", conn, task,
        more="One word: waiting, running, success, failed, expired or unknown. The exit code is 0 for success, 3 for "
             "failed and expired, 1 for the others.")  # fmt: skip
    add("list", "list a task's files: name, size, and how long the link lives", conn, task,
        more="The links themselves are not shown: whoever has one can read the file.")  # fmt: skip
    get = add(
        "get", "download a task's files", conn, task,
        ("DEST", "directory: a local path, or a URL such as s3://conn_id@bucket/prefix"),
        more="As DownloadToObjectStorageOperator does it: verified, each file in one step, resumed by the same "
             "command. Prints the files' paths.",
    )  # fmt: skip
    get.add_argument(
        "--pattern",
        action="append",
        metavar="GLOB",
        help="only these names; may be repeated; the manifest then lists only these",
    )
    get.add_argument(
        "--overwrite", choices=["verified", "always", "never"], default="verified",
        help="what to do with files that are there already (default %(default)s: keep what is proved to be the same)",
    )  # fmt: skip
    get.add_argument("--concurrency", type=int, default=8, metavar="N", help="connections (default %(default)s)")
    commands.add_parser(
        "emulator", add_help=False, help="serve the services on this machine, with example tasks (has its own --help)"
    )
    return made
