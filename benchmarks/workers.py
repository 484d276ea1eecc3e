"""One remote task spread over one Celery worker and over two, where the file host caps each connection.

Run as ``python -m benchmarks.workers [--quick]``. Writes ``benchmarks/results/workers.json`` and ``docs/workers.md``;
the exit status tells whether two gave the same as one, and nearly twice as fast. Needs what ``make services`` installs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from airflow_provider_taskdl.testing import Drip, Emulator, EmulatorServer, Synthetic, Task
from benchmarks.about import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "workers.json"
TEMPLATE, DOCUMENT = HERE / "workers.md.in", ROOT / "docs" / "workers.md"
DAG, SHARDS, CONNECTIONS = "spread_over_4", 4, 4  # as the DAG has them, for each shard
MIB = 1024 * 1024
LEAST = 1.8
_PACKAGES = ("apache-airflow", "apache-airflow-providers-celery", "celery", "redis")
_PATIENCE = 600.0


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--files", type=int, default=32, help="how many files the task has (32)")
    parser.add_argument("--mib", type=int, default=4, help="the length of each (4)")
    parser.add_argument("--rate", type=float, default=0.25, help="MiB/s of each connection (0.25)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each number of workers (3)")
    parser.add_argument("--quick", action="store_true", help="small, nothing written: whether it all works")
    parser.add_argument("--report", action="store_true", help="only write the document, from the results at hand")
    options = parser.parse_args()
    if options.report:
        write(json.loads(RESULTS.read_text()))
        return
    if options.quick:
        options.files, options.mib, options.runs = 8, 1, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    results = {
        "when": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        **machine(*_PACKAGES),
        **{name: getattr(options, name) for name in ("files", "mib", "rate")},
        "load": round(os.getloadavg()[0], 1),  # of others: each start of a task competes with it
        "rows": _measure(options),
    }
    if not options.quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)
    print(f"\n{table_of(results)}")
    sys.exit(f"two workers gave less than {LEAST} times one" if ratio(results) < LEAST and not options.quick else 0)


def _measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    sys.path.insert(0, str(ROOT / "scripts"))  # what starts Airflow's parts
    from tests.cluster.many import cluster

    emulator = Emulator(link_seconds=3600)
    emulator.fault("file", Drip(int(options.rate * MIB)))
    contents: dict[str, Any] = {f"{n:03}.bin": Synthetic(options.mib * MIB, n) for n in range(options.files)}
    warm_up: dict[str, Any] = {f"{n}.bin": b"abc" for n in range(SHARDS)}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="taskdl-bench-") as name, EmulatorServer(emulator) as server:
        folder, dags = Path(name), ROOT / "tests" / "cluster" / "dags"
        (folder / "home").mkdir()
        connections = server.airflow_connections()
        with cluster(folder / "home", dags, connections, {}, workers=2, concurrency=1) as running:
            for count in (1, 2):
                running.start_workers(f"worker-{count}")
                for number in range(options.runs + 1):
                    task = emulator.eo_task(contents if number else warm_up)
                    target = folder / f"{count}-{number}"
                    run = running.deployment.run(DAG, remote_task_id=task.id, destination=str(target))
                    if run.ends(_PATIENCE) != "success":
                        sys.exit(f"the run failed; its logs are in {running.deployment.airflow.home}")
                    _check(task, target)
                    if number:
                        rows.append({"workers": count, **_span(run.tasks("download"))})
                        print(json.dumps(rows[-1]), flush=True)
                    shutil.rmtree(target)
    return rows


def _check(task: Task, target: Path) -> None:
    """See that every file is there, and the manifest of the whole with it."""
    manifest = json.loads((target / "_taskdl" / f"{task.id}.json").read_bytes())
    found = [(entry["name"], entry["size"]) for entry in manifest["files"]]
    assert found == [(file.name, file.content.size) for file in task.files]
    for file in task.files:
        assert (target / file.name).read_bytes() == b"".join(file.content.blocks())


def _span(tasks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the seconds from the first start to the last end, as Airflow recorded them, and who did what."""
    tasks = list(tasks)
    assert len(tasks) == SHARDS
    starts, ends = ([datetime.fromisoformat(task[key]) for task in tasks] for key in ("start_date", "end_date"))
    hosts = [task["hostname"] for task in tasks]
    each = median((end - start).total_seconds() for start, end in zip(starts, ends, strict=True))
    return {
        "seconds": round((max(ends) - min(starts)).total_seconds(), 3),
        "each": round(each, 3),
        "shards": {host: hosts.count(host) for host in sorted(set(hosts))},
    }


def ratio(results: dict[str, Any]) -> float:
    """Return how many times the rate of one worker two have."""
    return _seconds(results, 1) / _seconds(results, 2)


def _seconds(results: dict[str, Any], workers: int) -> float:
    return median(float(row["seconds"]) for row in results["rows"] if row["workers"] == workers)


def table_of(results: dict[str, Any]) -> str:
    """Return the results as a table in Markdown."""
    lines = ["| workers | seconds | MiB/s | times one | the cap alone, seconds |", "|---:|---:|---:|---:|---:|"]
    amount = results["files"] * results["mib"]
    for workers in (1, 2):
        seconds = _seconds(results, workers)
        least = amount / (results["rate"] * CONNECTIONS * workers)
        times = _seconds(results, 1) / seconds
        lines.append(f"| {workers} | {seconds:.1f} | {amount / seconds:.2f} | {times:.2f} | {least:.1f} |")
    return "\n".join(lines)


def write(results: dict[str, Any]) -> None:
    """Write the document.

    :param results: What was measured.
    """
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    runs = sum(row["workers"] == 1 for row in results["rows"])
    about = (
        f"{results['cores']} cores ({results['processor']}), {results['memory_gib']} GiB of memory, {results['when']}; "
        f"load average of other work before it began: {results['load']}; medians of {runs} runs; {versions}"
    )
    text = TEMPLATE.read_text()
    for mark, value in {
        "table": table_of(results),
        "machine": about,
        "files": f"{results['files']} files of {results['mib']} MiB",
        "rate": f"{results['rate']:g} MiB/s",
        "shards": f"{SHARDS}",
        "connections": f"{CONNECTIONS}",
        "ratio": f"{ratio(results):.2f}",
    }.items():
        text = text.replace(f"{{{{{mark}}}}}", value)
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
