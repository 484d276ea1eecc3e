"""What a watcher of all tasks remembers: of which ones it has nothing more to tell. No I/O.

A list of tasks grows for ever, what is remembered must not. So there is a time, the ``floor``: tasks created before it
are settled, but for those that were still at work when it passed them (``open``); of later ones, those that are settled
are known by their ids. Times are the service's own, in seconds of the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.listing import ListedTask

VERSION = 1
# How far the floor stays behind the newest task: a service may list a task later than one that was created after it.
SLACK_SECONDS = 600.0
# Settled tasks that are known by their ids, at most; with more of them than this within the slack, that is shorter.
MOST_SETTLED = 500
# Tasks older than the floor that are waited for, at most; the oldest ones are given up.
MOST_OPEN = 1000
# A time that lies further ahead of this machine's clock is no reason to take all that comes before it for settled.
_AHEAD_SECONDS = 86400.0


@dataclass(frozen=True)
class Announced:
    """What is settled: announced, failed, or created before the watch began.

    :param floor: Of tasks created before it, only those in ``open`` are not settled.
    :param newest: Creation of the newest task that was seen.
    :param settled: Settled tasks that were created at or after the floor: id to creation.
    :param open: Tasks created before the floor that are not settled, in the order in which it passed them.
    """

    floor: float
    newest: float
    settled: Mapping[str, float] = field(default_factory=dict)
    open: tuple[str, ...] = ()

    @classmethod
    def begin(cls, listed: Collection[ListedTask], since: float | None, now: float) -> Announced:
        """Return what to begin with.

        :param listed: The newest tasks, of ``SLACK_SECONDS`` at least.
        :param since: Tasks created at or after this time are to be told of; by default those that are not listed yet.
        :param now: The time.
        """
        if since is not None:
            return cls(since, since)
        newest = _newest(listed, now)
        begun = cls(newest - SLACK_SECONDS, newest)
        return begun.after(listed, {task.remote_task_id for task in listed}, now)[0]

    def unsettled(self, listed: Iterable[ListedTask]) -> list[str]:
        """Return the ids of the tasks that there may be something to tell of, oldest first.

        :param listed: All tasks since the floor, newest first.
        """
        later = [
            task.remote_task_id
            for task in listed
            if created(task) >= self.floor and task.remote_task_id not in self.settled
        ]
        return [*self.open, *reversed([task_id for task_id in later if task_id not in self.open])]

    def after(
        self,
        listed: Collection[ListedTask],
        settled: Collection[str],
        now: float,
        waited_for: Collection[str] = (),
        left: Collection[str] = (),
    ) -> tuple[Announced, tuple[str, ...]]:
        """Return what holds after a look, and the ids of tasks that are given up.

        The floor follows the newest task of the look before this one, so that every task is passed by two walks
        through the list at least: one that is deleted meanwhile moves others from page to page.

        :param listed: All tasks since the floor.
        :param settled: The ids of those that are settled now.
        :param now: The time.
        :param waited_for: The ids of those that are not.
        :param left: The ids of those that were not looked at; the floor does not pass them.
        """
        times = {task.remote_task_id: created(task) for task in listed}
        known = {**self.settled, **{task_id: times[task_id] for task_id in settled if task_id in times}}
        floor = max(self.floor, self.newest - SLACK_SECONDS)
        if len(known) > MOST_SETTLED:
            floor = max(floor, min(sorted(known.values())[-MOST_SETTLED], self.newest))
        floor = max(self.floor, min([floor, *(times[task_id] for task_id in left if task_id in times)]))
        passed = [task_id for task_id in waited_for if self.floor <= times.get(task_id, -math.inf) < floor]
        still_open = [*(task_id for task_id in self.open if task_id not in settled), *passed]
        then = Announced(
            floor,
            max(self.newest, _newest(listed, now)),
            {task_id: time for task_id, time in known.items() if time >= floor},
            tuple(still_open[-MOST_OPEN:]),
        )
        return then, tuple(still_open[:-MOST_OPEN])

    def knowing(self, settled: Mapping[str, float]) -> Announced:
        """Return it with more tasks that are settled.

        :param settled: Their ids and creation.
        """
        later = {task_id: time for task_id, time in settled.items() if time >= self.floor}
        still_open = tuple(task_id for task_id in self.open if task_id not in settled)
        return replace(self, settled={**self.settled, **later}, open=still_open)

    def dump(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "version": VERSION,
            "floor": self.floor,
            "newest": self.newest,
            "settled": dict(self.settled),
            "open": list(self.open),
        }

    @classmethod
    def read(cls, value: object) -> Announced:
        """Return what :meth:`dump` gave.

        :param value: What was stored, by whomever.
        :raises TaskDownloadError: It is something else.
        """
        match value:
            case {"version": 1, "floor": floor, "newest": newest, "settled": dict(settled), "open": list(still_open)}:
                times, ids = [floor, newest, *settled.values()], [*settled, *still_open]
                if all(map(_is_time, times)) and all(isinstance(task_id, str) for task_id in ids):
                    return cls(float(floor), float(newest), settled, tuple(still_open))
        version = value.get("version") if isinstance(value, Mapping) else None
        # Nothing else is quoted: it may be any text.
        which = f"version {version}" if type(version) is int and 0 < version < 1000 else "no version"
        raise TaskDownloadError(
            f"what was announced until now cannot be read ({which}); nothing is announced until it is repaired or "
            "deleted"
        )


def created(task: ListedTask) -> float:
    """Return when a task was created; a list that does not say so was refused before."""
    return task.created.timestamp() if task.created else -math.inf


def _newest(listed: Iterable[ListedTask], now: float) -> float:
    return max((time for time in map(created, listed) if time <= now + _AHEAD_SECONDS), default=0.0)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
