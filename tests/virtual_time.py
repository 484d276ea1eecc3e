"""An event loop whose clock jumps: hours of waiting in an instant, and every moment exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from airflow_provider_taskdl.hooks.pace import forget_paces

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, the clock goes on to the next timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run it at once: a thread's time is not the virtual one."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as an executor does
            done.set_exception(error)
        return done


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout:
            self._loop.now += timeout
        return ready


def run_virtually(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run ``main(loop)`` to its end; afterwards nothing may be left running."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(asyncio.wait_for(main(loop), 10**9))
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        assert not left, f"still running: {left}"
        return result
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def go_by(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch, *modules: str, now: Callable[[], float]) -> None:
    """Let the package go by a loop's clock.

    :param loop: The loop.
    :param monkeypatch: Undoes it.
    :param modules: Those of the package's modules that look at the clock.
    :param now: The time of day.
    """
    clock = SimpleNamespace(time=now, monotonic=loop.time)
    for module in modules:
        monkeypatch.setattr(f"airflow_provider_taskdl.{module}.time", clock)
    monkeypatch.setattr("airflow_provider_taskdl.hooks.pace.Pace.__init__.__defaults__", (None, loop.time))
    forget_paces()  # those of another loop's clock
