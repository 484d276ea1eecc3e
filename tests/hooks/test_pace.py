from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    PausedError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskDownloadError,
)
from airflow_provider_taskdl.hooks.pace import MAX_SLEEP, Pace, forget_paces, pace_of
from tests.virtual_time import VirtualLoop, run_virtually

TOO_MANY = RateLimitedError("busy")


class Line:
    """Callers of one pace on a loop with a virtual clock; notes when each had its turn."""

    def __init__(self, loop: VirtualLoop, rate: float | None) -> None:
        self.loop, self.began = loop, loop.time()
        self.pace = Pace(rate, loop.time)
        self.went: list[tuple[object, float]] = []

    @property
    def now(self) -> float:
        return self.loop.time() - self.began

    @property
    def times(self) -> list[float]:
        return [moment for _, moment in self.went]

    async def _one(self, name: object) -> None:
        await self.pace.aturn()
        self.went.append((name, self.now))

    async def join(self, names: Iterable[object]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._one(name)) for name in names]
        await asyncio.sleep(0)  # they stand in line
        return tasks


def test_without_a_rate_nobody_waits() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, None)
        await asyncio.gather(*await line.join(range(100)))
        assert line.went == [(number, 0.0) for number in range(100)]

    run_virtually(main)


@pytest.mark.parametrize("rate", [0.5, 1.0, 8.0, 1000.0])
def test_turns_come_in_order_and_at_the_rate(rate: float) -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, rate)
        await asyncio.gather(*await line.join(range(50)))
        assert [name for name, _ in line.went] == list(range(50))
        assert line.times == pytest.approx([number / rate for number in range(50)])

    run_virtually(main)


def test_idle_time_is_not_saved_up() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, 1.0)
        await asyncio.sleep(1000)
        await asyncio.gather(*await line.join(range(4)))
        assert line.times[-1] - line.times[0] >= 3 - 0.03

    run_virtually(main)


def test_a_rate_that_changes_holds_from_the_next_turn_on() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, 1.0)
        tasks = await line.join(range(4))
        await asyncio.sleep(1.5)
        line.pace.rate = 10.0
        await asyncio.gather(*tasks)
        assert line.times == pytest.approx([0.0, 1.0, 2.0, 2.1])

    run_virtually(main)


@pytest.mark.parametrize("who", [[0], [1, 2, 3], [5], list(range(19))])
def test_whoever_gives_up_takes_no_turn_with_it(who: list[int]) -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, 1.0)
        (first,) = await line.join(["first"])
        await first
        tasks = await line.join(range(20))
        for number in who:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [name for name, _ in line.went[1:]] == [number for number in range(20) if number not in who]
        assert line.times == pytest.approx([float(number) for number in range(21 - len(who))])

    run_virtually(main)


@pytest.mark.parametrize("error", [TOO_MANY, ServiceUnavailableError("down")])
@pytest.mark.parametrize("rate", [None, 2.0])
def test_who_is_told_to_come_later_speaks_for_everybody(error: TaskDownloadError, rate: float | None) -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, rate)
        early = await line.join(range(3)) if rate else []
        line.pace.heard(type(error)("x", retry_after=MAX_SLEEP))
        late = await line.join(range(len(early), 6))
        await asyncio.gather(*early, *late)
        assert [name for name, _ in line.went] == list(range(6))
        held = [moment for moment in line.times if moment > 0]
        assert len(held) >= 5
        assert held == pytest.approx([MAX_SLEEP + (number / rate if rate else 0) for number in range(len(held))])

    run_virtually(main)


def test_a_pause_is_lengthened_and_never_cut() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, None)
        for seconds in (5.0, 2.0, 8.0, 0.0):
            line.pace.heard(ServiceUnavailableError("x", retry_after=seconds))
        await asyncio.gather(*await line.join("a"))
        assert line.times == [8.0]

    run_virtually(main)


@pytest.mark.parametrize("error", [None, AuthenticationError("no"), ServiceUnavailableError("down")])
def test_other_answers_slow_nobody(error: TaskDownloadError | None) -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, None)
        line.pace.heard(error)
        await asyncio.gather(*await line.join("a"))
        assert line.times == [0.0]

    run_virtually(main)


def test_refusals_without_a_time_pause_for_longer_and_longer_until_an_answer() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, None)
        pauses = []

        async def refused() -> None:
            line.pace.heard(TOO_MANY)
            line.pace.heard(TOO_MANY)  # was under way as well, and counts as the same
            before = line.now
            while True:
                try:
                    await line.pace.aturn()
                    break
                except RateLimitedError as error:
                    await asyncio.sleep(error.retry_after or 0)
            pauses.append(line.now - before)

        for _ in range(8):
            await refused()
        line.pace.heard(None)
        await refused()
        assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 1])

    run_virtually(main)


def test_a_long_pause_is_told_of_and_not_slept_through() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, 1.0)
        tasks = await line.join(range(5))
        line.pace.heard(RateLimitedError("busy", retry_after=600.0))
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert ends[0] is None  # it had its turn
        for end in ends[1:]:
            assert isinstance(end, PausedError)
            assert end.retryable
            assert end.retry_after == pytest.approx(600.0 - line.now)
        assert line.now <= 1.0
        await asyncio.sleep(595)
        await asyncio.gather(*await line.join("z"))
        assert line.times[-1] == pytest.approx(600.0)

    run_virtually(main)


def test_only_the_first_in_line_has_a_timer() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, 100.0)
        looks = 0
        ask = line.pace._seconds_to_turn

        def count(who: object) -> float:
            nonlocal looks
            looks += 1
            return ask(who)

        line.pace._seconds_to_turn = count  # type: ignore[method-assign]
        await asyncio.gather(*await line.join(range(1000)))
        assert looks <= 3 * 1000

    run_virtually(main)


@given(
    rate=st.none() | st.floats(0.1, 100),
    steps=st.lists(
        st.tuples(st.sampled_from(["join", "leave", "pause"]), st.floats(0, 3), st.integers(0, 20)), max_size=30
    ),
)
def test_no_turn_comes_too_soon_or_in_a_pause_or_out_of_order(
    rate: float | None, steps: list[tuple[str, float, int]]
) -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, rate)
        tasks: list[asyncio.Task[None]] = []
        pauses: list[tuple[float, float]] = []
        for what, wait, number in steps:
            if what == "join":
                tasks += await line.join(range(len(tasks), len(tasks) + number))
            elif what == "leave" and tasks:
                tasks[number % len(tasks)].cancel()
            elif what == "pause":
                line.pace.heard(RateLimitedError("busy", retry_after=number / 4))
                pauses.append((line.now, line.now + number / 4))
            await asyncio.sleep(wait)
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
        assert len(line.went) == sum(end is None for end in ends)
        names = [name for name, _ in line.went]
        assert names == sorted(names)  # type: ignore[type-var]
        assert not [1 for moment in line.times for start, end in pauses if start < moment < end - 1e-6]
        if rate:
            for number, moment in enumerate(line.times):
                for other, later in list(enumerate(line.times))[number + 1 :]:
                    assert (other - number) / rate <= later - moment + 0.02 + 1e-6

    run_virtually(main)


def _in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_and_loops_share_the_turns() -> None:
    pace, went = Pace(200.0), []

    def wait() -> None:
        for _ in range(5):
            pace.turn()
            went.append(time.monotonic())

    async def await_() -> None:
        async def one() -> None:
            await pace.aturn()
            went.append(time.monotonic())

        await asyncio.gather(*[one() for _ in range(10)])

    began = time.monotonic()
    threads = threading.Thread(target=lambda: asyncio.run(await_()))
    threads.start()
    _in_threads(6, wait)
    threads.join(30)
    assert len(went) == 40
    assert max(went) - began >= 39 / 200 - 0.02


def test_a_thread_is_told_of_a_long_pause() -> None:
    pace = Pace()
    pace.heard(RateLimitedError("busy", retry_after=99))
    with pytest.raises(PausedError, match="99 s are left"):
        pace.turn()


@pytest.mark.parametrize("comes", ["before", "after"])
def test_a_loop_that_was_closed_around_its_waiters_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, comes: str) -> None:
    monkeypatch.setattr("airflow_provider_taskdl.hooks.pace._LOOK_UP", 0.05 if comes == "before" else 60.0)
    now = [0.0]
    pace = Pace(20.0, lambda: now[0])
    pace.turn()
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(pace.aturn()) for _ in range(3)]
        await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(begin())  # and are kept, so that nothing ends them
    other = threading.Thread(target=pace.turn, daemon=True)
    if comes == "before":
        other.start()
        while len(pace._queue) < 4:
            time.sleep(0.001)
    loop.close()
    now[0] = 1.0
    if comes == "after":
        other.start()
    other.join(20)
    is_held_up = other.is_alive()
    for task in tasks:
        task.get_coro().close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert not is_held_up


def test_a_process_has_one_pace_for_a_connection() -> None:
    pace = pace_of("a", "https://h", 1.0)
    assert pace_of("a", "https://h", 2.0) is pace
    assert pace.rate == 2.0
    assert pace_of("b", "https://h", 1.0) is not pace
    assert pace_of("a", "https://other", 1.0) is not pace
    forget_paces()
    assert pace_of("a", "https://h", 1.0) is not pace


def test_paces_do_not_pile_up() -> None:
    first = pace_of("0", "https://h", None)
    for number in range(1, 300):
        pace_of(str(number), "https://h", None)
    assert pace_of("299", "https://h", None) is pace_of("299", "https://h", None)
    assert pace_of("0", "https://h", None) is not first


def test_a_pace_that_is_asked_for_is_kept() -> None:
    pace = pace_of("kept", "https://h", None)
    for number in range(600):
        pace_of(str(number), "https://h", None)
        assert pace_of("kept", "https://h", None) is pace


def test_nobody_is_held_back_for_longer_than_an_hour() -> None:
    async def main(loop: VirtualLoop) -> None:
        line = Line(loop, None)
        line.pace.heard(ServiceUnavailableError("x", retry_after=1e9))
        await asyncio.sleep(3600)
        await asyncio.gather(*await line.join("a"))
        assert line.times == [3600.0]

    run_virtually(main)
