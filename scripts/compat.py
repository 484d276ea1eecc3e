"""Run the tests on every Airflow and Python that the package supports.

::

    python scripts/compat.py                  every row of the table
    python scripts/compat.py 2.11 3.3/3.13    these rows: an Airflow, or an Airflow on a Python
    python scripts/compat.py --quick          only the tests that meet Airflow, and the example DAGs; if no row is
                                              named, on the oldest Airflow with the Python that runs this
    python scripts/compat.py --jobs 2         so many rows side by side, each told of when it ends

Each row has a virtual environment of its own in ``.venv-compat``, which stays for the next time. An old Airflow does
not work with packages that came long after it, so it gets those of its day.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from environments import ROOT, find_python, make


@dataclass(frozen=True)
class Row:
    """An Airflow on a Python.

    :param airflow: Its version.
    :param python: Major and minor version.
    :param day: Packages are no newer.
    :param newer: For packages that have to be: their day.
    :param more: Packages besides.
    """

    airflow: str
    python: str
    day: str
    newer: tuple[tuple[str, str], ...] = ()
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is chosen by."""
        return f"{self.airflow.rpartition('.')[0]}/{self.python}"

    @property
    def packages(self) -> list[str]:
        """What is installed: arguments of ``uv pip install``."""
        newer = [f"--exclude-newer-package={package}={day}" for package, day in self.newer]
        wanted = [f"apache-airflow=={self.airflow}", *self.more, "-e", ".[s3,testing]", "--group", "compat"]
        return ["--exclude-newer", self.day, *newer, *wanted]


# What we need of it came later.
COMPAT = ("apache-airflow-providers-common-compat", "2026-04-01")
# The vendor mended the signer that ours is compared with.
SIGNER = ("bce-python-sdk", "2026-04-01")
ROWS = (
    Row("2.11.2", "3.10", "2026-04-01"),
    # Without FAB's provider, no connection of any provider has a form in this one.
    Row("3.0.6", "3.12", "2025-09-15", (COMPAT, SIGNER), more=("apache-airflow-providers-fab",)),
    Row("3.1.8", "3.13", "2026-04-01"),
    Row("3.2.2", "3.11", "2026-06-15"),
    Row("3.3.2", "3.10", "2026-11-20"),
    Row("3.3.2", "3.12", "2026-11-20"),
    Row("3.3.2", "3.13", "2026-11-20"),
)

# What meets Airflow. The rest of the package is the same code under the newest.
QUICK = (
    "tests/auth", "tests/hooks", "tests/operators", "tests/sensors", "tests/triggers/test_download_link.py",
    "tests/triggers/test_events.py", "tests/triggers/test_start.py", "tests/triggers/test_start_in_a_worker.py",
    "tests/triggers/test_announced.py", "tests/triggers/test_task_ready.py",
    "tests/test_connection_forms.py", "tests/test_get_provider_info.py", "tests/test_imports.py",
    "tests/test_example_dags.py",
)  # fmt: skip
ALL = (
    *QUICK, "tests/apis", "tests/cli", "tests/integration/test_dags.py", "tests/testing", "tests/transfer",
    "tests/test_backoff.py", "tests/test_exceptions.py", "tests/test_listing.py", "tests/test_public_objects.py",
    "tests/test_redaction.py", "tests/test_wire_log.py", "tests/triggers/test_connection_of_a_wait.py",
    "tests/triggers/test_many_waiters.py", "tests/triggers/test_shared_lists.py", "tests/triggers/test_trouble.py",
)  # fmt: skip
# What the rows do without: Azure's store, as Google's, is tried with the newest Airflow.
WITHOUT = ("airflow.providers.microsoft.azure",)
# The packages of an old Airflow warn of each other. What this package is warned of is an error still.
WARNINGS = "default\nerror:::airflow_provider_taskdl.*"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code.

    :param arguments: The command line; by default this process's own.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="AIRFLOW[/PYTHON]", help=", ".join(row.name for row in ROWS))
    parser.add_argument("--quick", action="store_true", help="in short")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at once (default %(default)s)")
    options = parser.parse_args(arguments)
    rows = [oldest()] if options.quick and not options.rows else chosen(options.rows)
    if not rows:
        parser.error(f"no such row; there are {', '.join(row.name for row in ROWS)}")
    tests = QUICK if options.quick else ALL
    with ThreadPoolExecutor(options.jobs) as pool:
        ends = dict(zip(rows, pool.map(lambda row: run(row, tests, whole=options.jobs > 1), rows), strict=True))
    print("\nAirflow  Python")
    for row, (works, said) in ends.items():
        print(f"{row.airflow:8} {row.python:7} {'-' if works is None else 'yes' if works else 'no':3}  {said}")
    ran = [works for works, _ in ends.values() if works is not None]
    return 0 if ran and all(ran) else 1


def oldest() -> Row:
    """Return the row of the oldest Airflow, on this Python if it knows it."""
    return replace(ROWS[0], python="{}.{}".format(*sys.version_info)) if sys.version_info < (3, 13) else ROWS[0]


def chosen(names: Sequence[str]) -> list[Row]:
    """Return the rows of these names, all for none."""
    return [row for row in ROWS if not names or row.name in names or row.name.partition("/")[0] in names]


def run(row: Row, tests: Sequence[str], *, whole: bool = False) -> tuple[bool | None, str]:
    """Run tests in the environment of a row, and return whether all is well (``None``: not run) and what was said last.

    :param row: The row.
    :param tests: Files and directories of tests.
    :param whole: Print nothing before all is said, since others are talking too.
    """
    python = find_python(row.python)
    if python is None:
        # On a laptop few have them all.
        return (
            False if os.environ.get("CI") == "true" else None,
            f"NOT RUN: there is no Python {row.python} on this machine",
        )
    title = f"\nAirflow {row.airflow}, Python {row.python}"
    print(f"{title}: begins" if whole else title, flush=True)
    began, said, text = time.monotonic(), "", title
    try:
        inner = make(ROOT / ".venv-compat" / row.name.replace("/", "-py"), python, row.packages)
    except subprocess.CalledProcessError:
        return False, "the environment could not be made"
    installed = time.monotonic()
    command = [str(inner), "-m", "pytest", "-q", "-rfEs", "-o", f"filterwarnings={WARNINGS}", "-p", "no:cacheprovider",
               "-m", "not slow or airflow", *tests]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHON", "PYTEST_"))}
    env["TASKDL_WITHOUT"] = ",".join(WITHOUT)
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if whole:
                text += f"\n{line.rstrip()}"
            else:
                print(line, end="", flush=True)
            said = line.strip(" =\n") or said
    if whole:
        print(text, flush=True)
    return process.returncode == 0, f"{said}; installed in {installed - began:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
