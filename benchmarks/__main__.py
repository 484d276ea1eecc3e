"""Measures, and writes the results and the document made of them; ``--help`` tells the options."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import report
from benchmarks.about import machine
from benchmarks.scenarios import measure, scenarios
from benchmarks.servers import MIB, Missing, Servers, find

RESULTS = Path(__file__).resolve().parent / "results"
_PROGRAMS = {"nginx": "-v", "curl": "--version", "aria2c": "--version", "rclone": "version"}
_PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "apache-airflow-providers-http", "boto3", "s3fs")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help="scenarios, such as 1,3")
    parser.add_argument("--runs", type=int, help="counted runs of each figure (5; 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small files, nothing written: whether it all works")
    parser.add_argument("--report", action="store_true", help="only write the document, from the results at hand")
    options = parser.parse_args()
    if options.report:
        report.write(RESULTS)
        return
    numbers = [int(number) for number in (options.only or "1,2,3,4,5").split(",")]
    if not set(numbers) <= {1, 2, 3, 4, 5}:
        parser.error("the scenarios are 1 to 5")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    try:
        failed = _measure(numbers, options.runs or (2 if options.quick else 5), quick=options.quick)
    except Missing as error:
        sys.exit(f"{error}; on Debian and Ubuntu: apt install nginx-light aria2 curl openssl")
    except KeyboardInterrupt:
        sys.exit(130)
    if not options.quick:
        report.write(RESULTS)
    sys.exit("our own rows failed" if failed else 0)


def _measure(numbers: list[int], runs: int, *, quick: bool) -> bool:
    failed = False
    with Servers((256 if quick else 3 * 1024) * MIB) as servers:
        about = {"when": f"{datetime.now(timezone.utc):%Y-%m-%d}", "runs": runs, **_machine(servers)}
        for number, tables in scenarios(servers, numbers, quick=quick):
            for table in tables:
                print(f"{table.key}. {table.title}", flush=True)
                # Memory, and a speed that the host keeps, are the same each time, and take long.
                measure(table, servers, rounds=runs if table.kind == "speed" else min(runs, 3))
                print(f"\n{report.table_of(table.as_json())}\n", flush=True)
                failed |= any(row.problem for row in table.rows if row.name.startswith("ours"))
            if not quick:
                RESULTS.mkdir(exist_ok=True)
                kept = {**about, "tables": [table.as_json() for table in tables]}
                (RESULTS / f"{number}.json").write_text(json.dumps(kept, indent=1) + "\n")
    return failed


def _machine(servers: Servers) -> dict[str, object]:
    about = machine(*_PACKAGES)
    programs = {}
    for program, option in _PROGRAMS.items():
        try:
            said = subprocess.run([find(program), option], capture_output=True, text=True, check=False)
        except Missing:
            continue
        number = re.search(r"\d+(\.\d+)+", said.stdout or said.stderr)
        programs[program] = number[0] if number else "?"
    about["versions"] = {**about["versions"], **programs}
    about["disk"] = "tmpfs" if servers.in_memory else "the disk of the temporary folder"
    return about


if __name__ == "__main__":
    main()
