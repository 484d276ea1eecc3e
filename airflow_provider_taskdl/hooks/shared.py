"""One hook, and so one set of connections, for all who wait on an event loop for the same connection.

Ten thousand waiting triggers with a hook each would make as many TLS connections, and look theirs up as often. The
connection is read again now and then, since a wait may outlast the credentials it began with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from airflow_provider_taskdl.hooks.base import TaskApiHook, atask_hook
from airflow_provider_taskdl.hooks.roll_call import RollCall

log = logging.getLogger(__name__)

# How old what is known of a connection may be.
REREAD_SECONDS = 60.0


class SharedHook:
    """A connection's current hook on one event loop, for as long as somebody uses it; made by :func:`shared_hook`.

    :param conn_id: The Airflow connection.
    :ivar roll_call: The lists of tasks that all who wait for this connection share.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.users = 0
        self.roll_call = RollCall(self.hook)
        self._hook: TaskApiHook | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._calls: Counter[TaskApiHook] = Counter()

    @asynccontextmanager
    async def hook(self) -> AsyncIterator[TaskApiHook]:
        """Give the hook for one look; after a change of the connection it is another one.

        :raises ConnectionConfigError: The connection cannot be used.
        """
        hook = await self._current()
        self._calls[hook] += 1
        try:
            yield hook
        finally:
            self._calls[hook] -= 1
            if not self._calls[hook]:
                del self._calls[hook]
                if hook is not self._hook:
                    await hook.aclose()

    async def aclose(self) -> None:
        """Close the clients; what is still under way fails."""
        try:
            await self.roll_call.aclose()
        finally:
            hooks = {*self._calls, *([self._hook] if self._hook else [])}
            self._hook = None
            for hook in hooks:
                await hook.aclose()

    async def _current(self) -> TaskApiHook:
        if self._hook is None:
            async with self._reading:
                if self._hook is None:
                    await self._reread()
        elif time.monotonic() - self._read_at > REREAD_SECONDS and not self._reading.locked():
            async with self._reading:  # by one; all others go on with what there is
                try:
                    await self._reread()
                except Exception as error:  # noqa: BLE001 - whatever it is, the hook at hand may still do
                    self._read_at = time.monotonic()
                    log.warning("Connection %s could not be read again: %s", self.conn_id, type(error).__name__)
        return cast(TaskApiHook, self._hook)

    async def _reread(self) -> None:
        hook = await atask_hook(self.conn_id)
        old = self._hook
        if old is None or _settings(hook) != _settings(old):
            await asyncio.to_thread(lambda: hook.access.tls)  # tens of milliseconds, and files are read
            self._hook = hook
            if old is not None and not self._calls[old]:
                await old.aclose()
        self._read_at = time.monotonic()


def _settings(hook: TaskApiHook) -> tuple[object, ...]:
    known = hook.connection
    return type(hook), known.host, known.port, known.login, known.password, known.schema, known.extra


_shared: dict[asyncio.AbstractEventLoop, dict[str, SharedHook]] = {}


@asynccontextmanager
async def shared_hook(conn_id: str) -> AsyncIterator[SharedHook]:
    """Share the hook of a connection with all others on this event loop; the last one closes it.

    :param conn_id: The Airflow connection.
    """
    for loop in list(_shared):
        if loop.is_closed():  # with tasks that it never let end
            _shared.pop(loop, None)
    here = _shared.setdefault(asyncio.get_running_loop(), {})
    shared = here.setdefault(conn_id, SharedHook(conn_id))
    shared.users += 1
    try:
        yield shared
    finally:
        shared.users -= 1
        if not shared.users:
            del here[conn_id]
            await shared.aclose()
