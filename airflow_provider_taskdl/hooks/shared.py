"""One hook, and so one set of connections, for all who wait on an event loop for the same connection.

Ten thousand waiting triggers with a hook each would make as many TLS connections, and look theirs up as often. The
connection is read again now and then, since a wait may outlast the credentials it began with.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from airflow_provider_taskdl.apis.readiness import Decision, LinkWatch
from airflow_provider_taskdl.exceptions import AuthenticationError, ServiceUnavailableError, TaskDownloadError
from airflow_provider_taskdl.hooks.access import facts_of
from airflow_provider_taskdl.hooks.base import TaskApiHook, atask_hook
from airflow_provider_taskdl.hooks.roll_call import RollCall
from airflow_provider_taskdl.hooks.settings import ssl_context

log = logging.getLogger(__name__)

# How old what is known of a connection may be.
REREAD_SECONDS = 60.0
# It is looked up no sooner than so many seconds after it was looked up before.
_MOMENT_SECONDS = 2.0
# Seconds between the first tries to read it: a secrets backend may be away for a moment, and Airflow then says that
# there is no such connection.
_FIRST_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)


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
        self._tls: ssl.SSLContext | None = None
        self._problem: TaskDownloadError | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._calls: Counter[TaskApiHook] = Counter()

    @asynccontextmanager
    async def hook(self) -> AsyncIterator[TaskApiHook]:
        """Give the hook for one look; after a change of the connection it is another one.

        :raises ConnectionConfigError: The connection cannot be used.
        :raises ServiceUnavailableError: It cannot be read, and could not for minutes.
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

    async def look(self, watch: LinkWatch) -> Decision:
        """Look at a task once; where the credentials are refused, once more if the connection has others by now.

        :param watch: What decides.
        :raises TaskDownloadError: As for :meth:`LinkWatch.look` and :meth:`hook`.
        """
        async with self.hook() as hook:
            try:
                return await hook.arun_steps(watch.look())
            except AuthenticationError:
                if not await self._is_old(hook):
                    raise
        async with self.hook() as hook:
            return await hook.arun_steps(watch.look())

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
                    await self._read_first()
        elif self._age > REREAD_SECONDS and not self._reading.locked():
            async with self._reading:  # by one; all others go on with what there is
                await self._read_again()
        return cast(TaskApiHook, self._hook)

    async def _is_old(self, hook: TaskApiHook) -> bool:
        refused_at = time.monotonic()
        async with self._reading:
            if self._hook is hook and self._read_at <= refused_at:  # and not by one who came before in this queue
                await asyncio.sleep(max(0.0, _MOMENT_SECONDS - self._age))
                await self._read_again()
        return self._hook is not hook

    @property
    def _age(self) -> float:
        return time.monotonic() - self._read_at

    async def _read_first(self) -> None:
        if self._problem is not None and self._age < _MOMENT_SECONDS:
            raise copy.copy(self._problem)
        problem: TaskDownloadError
        for pause in (0.0, *_FIRST_PAUSES):
            await asyncio.sleep(pause)
            try:
                return await self._read()
            except TaskDownloadError as error:
                problem = error
                break
            except Exception as error:  # noqa: BLE001 - what secrets backends raise; their texts may hold anything
                problem = ServiceUnavailableError(
                    f"connection {self.conn_id!r} cannot be read ({type(error).__name__}); is it defined, and does "
                    "the secrets backend answer?"
                )
                log.warning("%s", problem)
        self._problem, self._read_at = problem, time.monotonic()
        raise copy.copy(problem)

    async def _read_again(self) -> None:
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001 - whatever it is, the hook at hand may still do
            self._read_at = time.monotonic()
            log.warning("Connection %s could not be read again: %s", self.conn_id, type(error).__name__)

    async def _read(self) -> None:
        began = time.monotonic()
        hook, old = await atask_hook(self.conn_id), self._hook
        is_same = old is not None and facts_of(hook.connection) == facts_of(old.connection)
        verify = (old if old is not None and is_same else hook).access.extras.verify
        tls = await asyncio.to_thread(ssl_context, verify)  # tens of milliseconds, and files are read
        if not is_same or tls is not self._tls:
            self._tls = await asyncio.to_thread(lambda: hook.access.tls)
            self._hook = hook
            if old is not None and not self._calls[old]:
                await old.aclose()
        self._read_at = began


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
