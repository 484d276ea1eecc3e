"""A process that only waits, as a triggerer does: ``python -m benchmarks.waiters PARAMETERS REPORT``.

All triggers run on one event loop. A ticker beside them, which wants to run every 10 ms, tells how late the loop is.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import resource
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger

_TICK = 0.01
Maker = Callable[[int, float], BaseTrigger]


def ours(number: int, interval: float) -> BaseTrigger:
    """Return this package's trigger, as a sensor defers with it after its first look."""
    from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger

    return DownloadLinkTrigger(
        conn_id="bench_api", remote_task_id=str(number), deadline=time.time() + 86400, poll_interval=interval,
        first_wait=interval,
    )  # fmt: skip


def airflows(number: int, interval: float) -> BaseTrigger:
    """Return the trigger of the HTTP provider's sensor; a 404 is its "not yet"."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return HttpSensorTrigger(f"absent?id={number}", http_conn_id="bench_http", method="GET", poke_interval=interval)


class _Run:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.make: Maker = {"ours": ours, "airflow": airflows}[given["kind"]]
        self.ended: list[str] = []
        self.lags: list[float] = []

    async def measure(self) -> dict[str, Any]:
        """Start the triggers, let them settle for an interval, then measure."""
        given = self.given
        warm = asyncio.create_task(self._wait(0))
        await asyncio.sleep(1.0)
        base = _peak()
        ticker = asyncio.create_task(self._tick())
        tasks, began = [warm], time.perf_counter()
        for number in range(1, given["count"]):
            tasks.append(asyncio.create_task(self._wait(number)))
            # Spread over an interval, or as fast as a triggerer takes them up: so many in each turn of its loop.
            due = began + number * given["spread"] / given["count"]
            if number % 50 == 0 or due > time.perf_counter():
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
        starting, self.lags = self.lags, []
        await asyncio.sleep(given["interval"] * 1.2)
        settling, self.lags = self.lags, []
        before, cpu, start = await asyncio.to_thread(self._counts), _cpu(), time.perf_counter()
        await asyncio.sleep(given["seconds"])
        seconds, cpu, lags = time.perf_counter() - start, _cpu() - cpu, sorted(self.lags)
        after = await asyncio.to_thread(self._counts)
        ticker.cancel()
        for task in tasks:
            task.cancel()
        left = await asyncio.gather(*tasks, return_exceptions=True)
        errors = sum(not isinstance(each, asyncio.CancelledError) for each in left)
        return {
            "cpu": cpu / seconds,
            "lag": {"p50": _share(lags, 0.5), "p99": _share(lags, 0.99), "max": lags[-1]},
            "lag_before": max([*starting, *settling]),
            "peak": _peak(),
            "base": base,
            "requests_per_second": (after["requests"] - before["requests"]) / seconds,
            "connections": after["connections"] - before["connections"],
            "errors": errors,
            "said": sorted({text[:200] for text in self.ended})[:3],
        }

    async def _wait(self, number: int) -> None:
        try:
            async for event in self.make(number, self.given["interval"]).run():
                self.ended.append(repr(event))
        except Exception as error:
            self.ended.append(repr(error))
            raise

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_TICK)
            self.lags.append(time.perf_counter() - before - _TICK)

    def _counts(self) -> dict[str, int]:
        context = ssl.create_default_context(cafile=self.given["certificate"])
        connection = http.client.HTTPSConnection("127.0.0.1", self.given["port"], context=context, timeout=60)
        try:
            connection.request("GET", "/counts")
            found: dict[str, int] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()


def main(parameters: str, report: str) -> None:
    """Wait, and write what it cost."""
    logging.disable(logging.CRITICAL)  # neither pays for what it logs
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    run = _Run(json.loads(Path(parameters).read_text()))
    Path(report).write_text(json.dumps(asyncio.run(run.measure())))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _share(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


if __name__ == "__main__":
    main(*sys.argv[1:])
