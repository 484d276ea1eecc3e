"""Thousands of waiting tasks in one process, beside Airflow's own trigger; ``--help`` tells the options."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import lists
from benchmarks.about import machine
from benchmarks.servers import Missing, make_certificate

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "waiting.json"
TEMPLATE, DOCUMENT = HERE / "waiting.md.in", HERE.parent / "docs" / "waiting.md"
NAMES = {"ours": "DownloadLinkTrigger", "airflow": "Airflow's HttpSensorTrigger"}
_PACKAGES = ("apache-airflow", "apache-airflow-providers-http", "httpx", "aiohttp")
_HEAD = ("", "waiting", "taken up", "CPU, % of a core", "loop lag p50 / p99 / max, ms", "while they came: max, ms",
         "peak MiB (over imports)", "requests/s", "new connections/s", "errors")  # fmt: skip


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--counts", default="1000,5000,10000", help="how many wait (1000,5000,10000)")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between two looks of each (30)")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds that are measured (60)")
    parser.add_argument("--runs", type=int, default=1, help="runs of each row (1)")
    parser.add_argument("--only", choices=sorted(NAMES), help="one of the two")
    parser.add_argument("--quick", action="store_true", help="200 for seconds, nothing written: whether it all works")
    parser.add_argument("--report", action="store_true", help="only write the document, from the results at hand")
    options = parser.parse_args()
    if options.report:
        write(json.loads(RESULTS.read_text()))
        return
    if options.quick:
        options.counts, options.interval, options.seconds, options.runs = "200", 2.0, 3.0, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    try:
        rows = _measure(options)
    except Missing as error:
        sys.exit(f"{error}; on Debian and Ubuntu: apt install openssl")
    if not options.quick:
        about = {"when": f"{datetime.now(timezone.utc):%Y-%m-%d}", **machine(*_PACKAGES)}
        results = {**about, "interval": options.interval, "seconds": options.seconds, "rows": rows}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)
    print(f"\n{table_of(rows)}")
    sys.exit(
        "our own triggers failed"
        if any(run["errors"] for row in rows if row["kind"] == "ours" for run in row["runs"])
        else 0
    )


def _measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    kinds = [options.only] if options.only else list(NAMES)
    counts = [int(count) for count in options.counts.split(",")]
    rows: list[dict[str, Any]] = [
        {"kind": kind, "count": count, "spread": options.interval, "runs": []} for count in counts for kind in kinds
    ]
    if "ours" in kinds:  # which spread themselves
        rows.append({"kind": "ours", "count": max(counts), "spread": 0.0, "runs": []})
    with tempfile.TemporaryDirectory(prefix="taskdl-bench-") as name:
        folder = Path(name)
        certificate, key = make_certificate(folder)
        for _ in range(options.runs):
            for row in rows:
                with _host(certificate, key) as port:
                    given = {name: row[name] for name in ("kind", "count", "spread")}
                    given |= {"interval": options.interval, "seconds": options.seconds}
                    row["runs"].append(_run({**given, "port": port, "certificate": str(certificate)}, folder))
                print(json.dumps({**row, "runs": row["runs"][-1]}), flush=True)
    return rows


def _run(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    parameters, report = folder / "parameters.json", folder / "report.json"
    parameters.write_text(json.dumps(given))
    address = f"https://127.0.0.1:{given['port']}"
    own = {"conn_type": "eo_analysis", "host": address, "password": "token", "extra": {"verify": given["certificate"]}}
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "home"),
        "AIRFLOW_CONN_BENCH_API": json.dumps(own),
        "AIRFLOW_CONN_BENCH_HTTP": json.dumps({"conn_type": "http", "host": address}),
        "SSL_CERT_FILE": given["certificate"],
        "NO_PROXY": "127.0.0.1",
    }
    with (folder / "log.txt").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.waiters", str(parameters), str(report)],
            env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
            timeout=given["seconds"] + 10 * given["interval"] + 300,
        )  # fmt: skip
    if done.returncode:
        sys.exit((folder / "log.txt").read_text(errors="replace")[-2000:])
    figures: dict[str, Any] = json.loads(report.read_text())
    return {**figures, "connections_per_second": figures.pop("connections") / given["seconds"]}


@contextmanager
def _host(certificate: Path, key: Path) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.waiting_host", "0", str(certificate), str(key)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()
        process.stdout.close()


def write(results: dict[str, Any]) -> None:
    """Write the document.

    :param results: What was measured.
    """
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    runs = len(results["rows"][0]["runs"])
    about = (
        f"{results['cores']} cores ({results['processor']}), {results['memory_gib']} GiB of memory, {results['when']}; "
        f"medians of {runs} run{'s' * (runs > 1)} of {results['seconds']:g} s; {versions}"
    )
    text = TEMPLATE.read_text()
    for mark, value in {
        "table": table_of(results["rows"]),
        "machine": about,
        "interval": f"{results['interval']:g}",
        **lists.marks(),
    }.items():
        text = text.replace(f"{{{{{mark}}}}}", value)
    DOCUMENT.write_text(text)


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the results as a table in Markdown."""
    lines = [_line(_HEAD), _line(["---", *["---:"] * (len(_HEAD) - 1)])]
    for row in rows:
        runs = row["runs"]

        def middle(*path: str, runs: list[Any] = runs) -> float:
            return median([_at(run, path) for run in runs])

        lags = " / ".join(f"{1000 * middle('lag', name):.3g}" for name in ("p50", "p99", "max"))
        peak = middle("peak")
        lines.append(_line([
            NAMES[row["kind"]], f"{row['count']:,}", f"over {row['spread']:g} s" if row["spread"] else "at once",
            f"{100 * middle('cpu'):.1f}", lags, f"{1000 * middle('lag_before'):.0f}",
            f"{peak:.0f} ({peak - middle('base'):.0f})", f"{middle('requests_per_second'):.0f}",
            f"{middle('connections_per_second'):.1f}", f"{sum(run['errors'] for run in runs)}",
        ]))  # fmt: skip
    return "\n".join(lines)


def _at(run: Any, path: tuple[str, ...]) -> float:
    for name in path:
        run = run[name]
    return float(run)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
