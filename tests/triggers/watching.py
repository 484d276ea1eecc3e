"""Airflow's triggerer as watchers meet it, on a virtual clock: its real shared streams, a database, and its sudden end.

What the two processes of a triggerer do is what Airflow 3.3 does: each second the runner hands over what triggers told,
the supervisor writes it down, and the runner hears of that a second later.
"""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_taskdl.hooks import shared
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.testing import Emulator
from airflow_provider_taskdl.testing.app import make_app
from airflow_provider_taskdl.triggers.task_ready import TaskReadyTrigger
from tests.virtual_time import VirtualLoop, go_by

SYNC_SECONDS = 1.0
# The emulator's time when the virtual clock begins: any time of a service.
BEGAN = 1_700_000_000.0


@dataclass
class Database:
    """Airflow's database: it outlives triggerers.

    :param events: The payloads of the asset's events, with the virtual time at which they were written.
    :param state: The asset's state.
    :param is_away: Whether nothing can be read or written.
    """

    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    is_away: bool = False

    @property
    def announced(self) -> Counter[str]:
        """How often each task was announced."""
        return Counter(payload["remote_task_id"] for _, payload in self.events)


class Store:
    """The asset's state as a trigger gets at it.

    :param triggerer: Whose; when it is dead nothing is written any more.
    """

    def __init__(self, triggerer: Triggerer) -> None:
        self._triggerer = triggerer

    async def aget(self, key: str) -> Any:
        await self._travel()
        return copy.deepcopy(self._triggerer.database.state.get(key))

    async def aset(self, key: str, value: Any) -> None:
        await self._travel()
        self._triggerer.database.state[key] = copy.deepcopy(value)

    async def _travel(self) -> None:
        await asyncio.sleep(0.01)
        if self._triggerer.is_dead:
            await asyncio.Event().wait()
        if self._triggerer.database.is_away:
            raise RuntimeError("the database is away")


class Triggerer:
    """A triggerer with its triggers.

    :param loop: Where it runs.
    :param database: What it writes to.
    :param phase: Seconds until its two processes talk for the first time.
    """

    def __init__(self, loop: VirtualLoop, database: Database, phase: float = 0.0) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        self._loop, self.database, self._phase = loop, database, phase
        self.is_dead = False
        self._streams = SharedStreamManager(_now=loop.time)
        self._told: list[tuple[dict[str, Any], int | None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: list[BaseException] = []

    def start(self, triggers: Sequence[TaskReadyTrigger]) -> Triggerer:
        self._tasks = [asyncio.create_task(self._talk())]
        for number, trigger in enumerate(triggers, 1):
            trigger.asset_state_store = Store(self)  # type: ignore[assignment]
            self._tasks.append(asyncio.create_task(self._run(number, trigger)))
        return self

    async def kill(self) -> None:
        """End it at once: what was not written down by now never will be."""
        self.is_dead = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._streams.stop_all()

    async def _run(self, number: int, trigger: TaskReadyTrigger) -> None:
        key = trigger.shared_stream_key()
        stream = self._streams.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self._streams.bind_pending_event(trigger_id=number, key=key)
                self._told.append((event.payload, seq))
        except Exception as error:
            self.failed.append(error)
            raise
        finally:
            await self._streams.unsubscribe(number, key)
            await trigger.cleanup()

    async def _talk(self) -> None:
        await asyncio.sleep(self._phase)
        written: list[int] = []
        while True:
            told, self._told = self._told, []
            self._streams.confirm_persisted(written)
            written = []
            await asyncio.sleep(0.02)
            for payload, seq in told:
                self.database.events.append((self._loop.time(), payload))
                written += [] if seq is None else [seq]
            await asyncio.sleep(SYNC_SECONDS)


class World:
    """The emulated services behind connections ``bls`` and ``eo``, without a network.

    :param loop: Whose time they have.
    """

    def __init__(self, loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop, self.database = loop, Database()
        began = loop.time()
        self.emulator = Emulator(clock=lambda: BEGAN + loop.time() - began)
        self.connections = {
            "bls": Connection(
                conn_id="bls",
                conn_type="baidu_bls",
                host="http://127.0.0.1",
                login=self.emulator.access_key_id,
                password=self.emulator.secret_access_key,
            ),
            "eo": Connection(
                conn_id="eo", conn_type="eo_analysis", host="http://127.0.0.1", password=self.emulator.token
            ),
        }
        self.hooks_made = 0
        app = httpx.ASGITransport(make_app(self.emulator))

        async def hook(conn_id: str) -> TaskApiHook:
            self.hooks_made += 1
            made = (BlsHook if self.connections[conn_id].conn_type == "baidu_bls" else EoAnalysisHook)(conn_id)
            made.connection = self.connections[conn_id]
            monkeypatch.setattr(made, "_client_settings", lambda: {"transport": app, "auth": made.access.auth})
            return made

        modules = ("hooks.shared", "triggers.rounds", "triggers.watches")
        go_by(loop, monkeypatch, *modules, now=self.emulator.now)
        monkeypatch.setattr(shared, "atask_hook", hook)

    def triggerer(self, *triggers: TaskReadyTrigger, phase: float = 0.0) -> Triggerer:
        """Start a triggerer with these."""
        return Triggerer(self.loop, self.database, phase).start(triggers)

    async def until(self, moment: float) -> None:
        """Sleep until a time of the virtual clock."""
        await asyncio.sleep(max(0.0, moment - self.loop.time()))
