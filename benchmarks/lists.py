"""A thousand waits for exports of one connection, with the service's list of tasks and without; ``--help``.

The service is this package's emulator, over a socket of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Status, Task
from benchmarks.about import machine

RESULTS = Path(__file__).resolve().parent / "results" / "lists.json"
_HEAD = ("", "requests", "of them lists", "while they wait, each, in an interval", "news after, intervals: p50 / max",
         "errors")  # fmt: skip
_NAMES = {True: "with lists", False: "the list refused"}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lists", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many wait (1000)")
    parser.add_argument("--interval", type=float, default=20.0, help="seconds between two looks of each (20)")
    parser.add_argument("--intervals", type=int, default=20, help="intervals that are measured (20)")
    parser.add_argument("--quick", action="store_true", help="100 for seconds, nothing written: whether it all works")
    options = parser.parse_args()
    if options.quick:
        options.count, options.interval, options.intervals = 100, 2.0, 6
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="taskdl-bench-"))
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    logging.disable(logging.CRITICAL)
    import airflow_provider_taskdl.triggers.download_link  # noqa: F401 - takes seconds, before the clock runs

    rows = [_run(options.count, options.interval, options.intervals, with_lists) for with_lists in (True, False)]
    facts = {name: getattr(options, name) for name in ("count", "interval", "intervals")}
    results = {"when": f"{datetime.now(timezone.utc):%Y-%m-%d}", **machine("apache-airflow", "httpx"), **facts}
    results["rows"] = rows
    if not options.quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(table_of(results))


def _run(count: int, interval: float, intervals: int, with_lists: bool) -> dict[str, Any]:
    emulator, chance = Emulator(), random.Random(1)
    if not with_lists:
        emulator.fault("bls.list", Status(403))
    tasks = [emulator.bls_task(b"1", ready_after=86400.0) for _ in range(count)]
    # A fifth ends within the time, each at a moment of its own; the others go on.
    ending = {task.id: chance.uniform(1.0, intervals - 1.5) * interval for task in tasks[::5]}
    for task in tasks[::5]:
        task.ready_after = ending[task.id]
    with EmulatorServer(emulator) as server:
        os.environ.update(server.environment())
        news, errors = asyncio.run(_wait_for(tasks, interval, intervals * interval))
    late = sorted((when - (task.created + task.ready_after)) / interval for task, when in news)
    return {
        "with_lists": with_lists,
        "requests": emulator.count("bls.*"),
        "lists": emulator.count("bls.list"),
        "ended": len(ending),
        "told": len(news),
        "late": {"p50": median(late), "max": late[-1]},
        "errors": errors,
    }


async def _wait_for(tasks: list[Task], interval: float, seconds: float) -> tuple[list[tuple[Task, float]], int]:
    from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger

    news: list[tuple[Task, float]] = []

    async def wait(task: Task) -> None:
        trigger = DownloadLinkTrigger(
            conn_id="baidu_bls_default", remote_task_id=task.id, deadline=time.time() + 86400, poll_interval=interval,
            first_wait=interval,
        )  # fmt: skip
        async for event in trigger.run():
            assert event.payload["status"] == "ready", event.payload
            news.append((task, time.time()))

    waits = [asyncio.create_task(wait(task)) for task in tasks]
    await asyncio.sleep(seconds)
    for each in waits:
        each.cancel()
    ends = await asyncio.gather(*waits, return_exceptions=True)
    return news, sum(isinstance(end, Exception) for end in ends)


def table_of(results: dict[str, Any]) -> str:
    """Return the results as a table in Markdown.

    :param results: What was measured.
    """
    lines = [_line(_HEAD), _line(["---", *["---:"] * (len(_HEAD) - 1)])]
    looks = results["count"] * results["intervals"]
    lines += [
        _line([
            _NAMES[row["with_lists"]], f"{row['requests']:,}", f"{row['lists']:,}",
            f"{(row['requests'] - 2 * row['told']) / looks:.3f}",
            f"{row['late']['p50']:.2f} / {row['late']['max']:.2f}", f"{row['errors'] + row['ended'] - row['told']}",
        ])
        for row in results["rows"]
    ]  # fmt: skip
    return "\n".join(lines)


def marks() -> dict[str, str]:
    """Return what the document says of the results at hand: mark to text."""
    results = json.loads(RESULTS.read_text())
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    about = f"{results['cores']} cores ({results['processor']}), {results['when']}; {versions}"
    return {
        "lists": table_of(results),
        "lists_machine": about,
        "lists_count": f"{results['count']:,}",
        "lists_interval": f"{results['interval']:g}",
        "lists_intervals": f"{results['intervals']}",
        "lists_minutes": f"{2 * results['interval'] * results['intervals'] / 60:.0f}",
    }


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
