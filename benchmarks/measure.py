"""Run one program and say what it cost: seconds, CPU seconds, peak memory.

Linux hands a process's peak memory on to what it starts in its place. So a program is started by a tiny interpreter,
this very file run as a script, and not by the benchmark itself, which is larger than curl.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_SECONDS = 900.0
_NO_PROXY = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")


class Failed(Exception):
    """A program failed, or what it left is not what was asked for."""


@dataclass(frozen=True)
class Command:
    """A program to measure.

    :ivar argv: Its command line.
    :ivar env: Its environment, besides this process's.
    :ivar report: Where it leaves figures of its own, if it does: a Python program tells how long its work took without
        the interpreter's start and the imports, which a worker pays once and not per file.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    report: Path | None = None


@dataclass(frozen=True)
class Figures:
    """What a run cost.

    :ivar seconds: Wall time of the work.
    :ivar cpu: User and system time of the work, over all its processes.
    :ivar rss: Peak memory in MiB, of the largest process.
    :ivar base: Peak memory in MiB before the work, all code imported, if the program told.
    :ivar startup: Seconds from the program's start to the work's, if the program told.
    :ivar hosts: User and system time of the file host and the store meanwhile, if somebody looked.
    """

    seconds: float
    cpu: float
    rss: float
    base: float | None = None
    startup: float | None = None
    hosts: float | None = None


def run(command: Command, scratch: Path) -> Figures:
    """Run a program to its end.

    :param command: The program.
    :param scratch: A folder for the files of the measurement.
    :raises Failed: It ended with an error or took too long.
    """
    answer, errors = scratch / "measured.json", scratch / "errors.txt"
    answer.unlink(missing_ok=True)
    launcher = [sys.executable, "-I", "-S", __file__, str(answer), *command.argv]
    with errors.open("wb") as output:
        # A session of its own: whatever it starts ends with it.
        process = subprocess.Popen(
            launcher, env={**os.environ, **_NO_PROXY, **command.env}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"took more than {LIMIT_SECONDS:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    told: dict[str, float] = json.loads(answer.read_text()) if answer.exists() else {"status": -1}
    if told["status"] != 0:
        said = errors.read_text(errors="replace").strip().splitlines()
        raise Failed(f"exit status {told['status']:.0f}: {said[-1][:300] if said else 'said nothing'}")
    if command.report is None:
        return Figures(told["seconds"], told["cpu"], told["rss"])
    own = json.loads(command.report.read_text())
    startup = told["seconds"] - own["seconds"]
    return Figures(own["seconds"], own["cpu"], told["rss"], own.get("base"), startup)


def _launch(answer: str, argv: list[str]) -> None:
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            os.write(2, f"{argv[0]}: {error}\n".encode())
        os._exit(127)
    _, status, usage = os.wait4(pid, 0)
    figures = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss / 1024,
    }
    with open(answer, "w") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    _launch(sys.argv[1], sys.argv[2:])
