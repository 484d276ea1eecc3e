"""The base of the hooks: one connection, one API, a sync and an async client."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urlencode
from weakref import finalize

import httpx
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowException, BaseHook, Connection

from airflow_provider_taskdl.apis.base import Answer, Call, TaskApi
from airflow_provider_taskdl.apis.readiness import Steps
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    RateLimitedError,
    TaskApiError,
    TaskDownloadError,
)
from airflow_provider_taskdl.hooks.access import Access, facts_of, make_client
from airflow_provider_taskdl.hooks.async_clients import IDLE_SECONDS, AsyncClients, of_living_loops
from airflow_provider_taskdl.hooks.classic_form import ClassicForm
from airflow_provider_taskdl.hooks.exchange import ACCEPTED, Exchange
from airflow_provider_taskdl.hooks.failures import without_answer
from airflow_provider_taskdl.hooks.metrics import count_request
from airflow_provider_taskdl.hooks.pace import Pace, pace_of
from airflow_provider_taskdl.hooks.settings import ConnectionExtras, is_loopback, read_extras
from airflow_provider_taskdl.listing import FileListing, TaskState
from airflow_provider_taskdl.redaction import NeverPickled

T = TypeVar("T")


class TaskApiHook(NeverPickled, ClassicForm, BaseHook):
    """Base of the hooks for services whose tasks end in files with links.

    A subclass names its connection type, its API and how a connection becomes :class:`Access`; sensor, trigger and
    operator work with it unchanged.

    :param conn_id: The Airflow connection.
    :ivar unknown_extras: Names in the connection's extra that mean nothing, once ``access`` was asked for.
    :ivar remarks: What a task's log warns of in the connection, likewise.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str]
    conn_type: ClassVar[str]
    hook_name: ClassVar[str]
    api: ClassVar[TaskApi]
    extras_model: ClassVar[type[ConnectionExtras]] = ConnectionExtras

    def __init__(self, conn_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id or self.default_conn_name
        self.unknown_extras: list[str] = []
        self.remarks: list[str] = []
        self._exchange = Exchange()
        self._clients_of: dict[asyncio.AbstractEventLoop, AsyncClients] = {}

    @abstractmethod
    def make_access(self, connection: Connection, extras: Any) -> Access:
        """Return how to reach the service.

        :param connection: The Airflow connection.
        :param extras: Its extras, as this hook's ``extras_model``.
        :raises ConnectionConfigError: Something is missing or cannot be used.
        """

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection, fetched once."""
        return _masked(self.get_connection(self.conn_id))

    @cached_property
    def access(self) -> Access:
        """How to reach the service.

        :raises ConnectionConfigError: The connection cannot be used.
        """
        problem: ConnectionConfigError
        try:
            extras, self.unknown_extras = read_extras(self.connection.extra, self.extras_model)
            access = self.make_access(self.connection, extras)
            self.remarks = list(self._remarks_on(access))
            for remark in self.remarks:
                self.log.warning("Connection %s: %s", self.conn_id, remark)
            return access
        except ConnectionConfigError as error:
            problem = error
        raise ConnectionConfigError(f"{self._place}{problem.message}")

    def list_files(self, remote_task_id: str) -> FileListing:
        """Return the task's files with fresh links; an empty listing while there are none.

        :param remote_task_id: The task's id at the service.
        :raises TaskNotFoundError: The service does not know the task.
        :raises AuthenticationError: It refused the credentials.
        :raises ServiceUnavailableError: It did not answer, or asked to come back.
        :raises RateLimitedError: It asked for fewer requests.
        :raises MalformedResponseError: The answer is not one of this API.
        :raises TaskApiError: It refused the request.
        """
        return self.run(self.api.list_files(remote_task_id))

    async def alist_files(self, remote_task_id: str) -> FileListing:
        """Async twin of :meth:`list_files`; end with :meth:`aclose`, on the same event loop."""
        return await self.arun(self.api.list_files(remote_task_id))

    def get_state(self, remote_task_id: str) -> TaskState:
        """Return the task's state: ``waiting | running | success | failed | expired | unknown``.

        :param remote_task_id: The task's id at the service.
        :raises TaskApiError: As for :meth:`list_files`.
        """
        call = self.api.get_status(remote_task_id)
        return TaskState.UNKNOWN if call is None else self.run(call).state

    async def aget_state(self, remote_task_id: str) -> TaskState:
        """Async twin of :meth:`get_state`."""
        call = self.api.get_status(remote_task_id)
        return TaskState.UNKNOWN if call is None else (await self.arun(call)).state

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the service accepts the credentials, without changing anything there.

        :returns: Whether it works, and a sentence for the connection form; never a secret.
        """
        try:
            _ = self.access
        except ConnectionConfigError as error:
            # Airflow's button tests under a made-up id, which says nothing to whoever presses it.
            return False, str(error).removeprefix(self._place)
        return (False, self._unknown_text()) if self.unknown_extras else self.try_credentials()

    def try_credentials(self) -> tuple[bool, str]:
        """Ask the service for something harmless and tell whether it took the credentials.

        :returns: Whether it did, and a sentence for people; never a secret.
        """
        try:
            self.run(self.api.probe())
        except AuthenticationError as error:
            return False, f"The service can be reached; it refused the credentials. {error}"
        except TaskDownloadError as error:
            return False, str(error).removeprefix(self._place)
        return True, f"{self.api.service} at {self.access.host} accepts the credentials."

    def run(self, call: Call[T]) -> T:
        """Send one call and return what its answer means.

        Where the credentials are refused, the connection is read again, and the call sent once more if it has changed.

        :raises TaskApiError: As the call says; also for what happens on the way.
        """
        try:
            return self._run(call)
        except AuthenticationError as caught:
            error = caught
        if not self._has_changed():
            raise error
        return self._run(call)

    def _run(self, call: Call[T]) -> T:
        error: TaskDownloadError | httpx.HTTPError
        try:
            self._pace.turn()
            value = self._read(call, self._exchange.send(self._client, self._request(call)))
            count_request(self.conn_id)
            return value
        except (TaskDownloadError, httpx.HTTPError) as caught:
            error = caught
        raise self._made_safe(error, call)

    async def arun(self, call: Call[T], in_turn: Callable[[], object] = lambda: None) -> T:
        """Async twin of :meth:`run`, which reads nothing again; ``in_turn`` is called before the request goes out."""
        error: TaskDownloadError | httpx.HTTPError
        try:
            answer = await self._async_clients.send(self._request(call), partial(self._pace.aturn, in_turn))
            value = self._read(call, answer)
            count_request(self.conn_id)
            return value
        except (TaskDownloadError, httpx.HTTPError) as caught:
            error = caught
        raise self._made_safe(error, call)

    def run_steps(self, steps: Steps[T]) -> T:
        """Run calls that depend on each other and return their outcome."""
        try:
            call = next(steps)
            while True:
                try:
                    value = self.run(call)
                except TaskApiError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(value)
        except StopIteration as stop:
            outcome: T = stop.value
        return outcome

    async def arun_steps(self, steps: Steps[T]) -> T:
        """Async twin of :meth:`run_steps`."""
        try:
            call = next(steps)
            while True:
                try:
                    value = await self.arun(call)
                except TaskApiError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(value)
        except StopIteration as stop:
            outcome: T = stop.value
        return outcome

    def close(self) -> None:
        """Close the sync client, if there is one."""
        if vars(self).pop("_client", None):
            self._end_client()

    async def aclose(self) -> None:
        """Close the async clients of this event loop, if there are any."""
        if clients := self._clients_of.pop(asyncio.get_running_loop(), None):
            await clients.aclose()

    @cached_property
    def _pace(self) -> Pace:
        return pace_of(self.conn_id, self.access.base_url, self.access.extras.requests_per_second)

    @cached_property
    def _client(self) -> httpx.Client:
        client = make_client(httpx.Client, **self._client_settings())
        # Nobody closes the hook of `SomeHook("conn").list_files(…)`: its connections end with it.
        self._end_client = finalize(self, client.close)
        return client

    @property
    def _async_clients(self) -> AsyncClients:
        loop = asyncio.get_running_loop()  # to which their connections belong
        if loop not in self._clients_of:
            self._clients_of = of_living_loops(self._clients_of)
            settings = {**self._client_settings(), "limits": httpx.Limits(keepalive_expiry=IDLE_SECONDS)}
            self._clients_of[loop] = AsyncClients(partial(make_client, httpx.AsyncClient, **settings))
        return self._clients_of[loop]

    def _client_settings(self) -> dict[str, Any]:
        access = self.access
        return {
            "auth": access.auth, "verify": access.tls, "proxy": access.proxy, "timeout": access.extras.timeout,
            "follow_redirects": False, "headers": {"User-Agent": "airflow-provider-taskdl", **ACCEPTED},
        }  # fmt: skip

    def _request(self, call: Call[Any]) -> dict[str, Any]:
        query = f"?{urlencode(call.query, quote_via=quote)}" if call.query else ""
        return {"method": call.method, "url": _url(f"{self.access.base_url}{call.path}{query}"), "json": call.body}

    def _read(self, call: Call[T], answer: Answer) -> T:
        try:
            value = call.read(answer)
        except TaskDownloadError as error:
            if not call.is_hint or isinstance(error, RateLimitedError):
                self._pace.heard(error)
            raise
        self._pace.heard(None)
        return value

    def _has_changed(self) -> bool:
        """Tell whether the connection is another one by now, and go by that: a task may outlast its credentials."""
        try:
            connection = _masked(self.get_connection(self.conn_id))
        except Exception:  # noqa: BLE001 - whatever it is, there is something else to tell of
            return False
        # Async clients would send the old credentials to the new address; who uses them makes a new hook.
        if of_living_loops(self._clients_of) or facts_of(connection) == facts_of(self.connection):
            return False
        self.log.info("Connection %s was changed meanwhile; going on with what it says now", self.conn_id)
        self.close()
        for name in ("access", "_pace"):
            vars(self).pop(name, None)
        self.connection = connection
        return True

    def _made_safe(self, error: TaskDownloadError | httpx.HTTPError, call: Call[Any]) -> TaskDownloadError:
        if isinstance(error, httpx.HTTPError):
            error = without_answer(error, self.api.service, self.access)
        error.remote_task_id = error.remote_task_id or call.remote_task_id
        error.target = error.target or f"{call.method} {self.access.base_url}{call.path}"
        error.hide(self.access.secrets)
        error.__context__ = None
        count_request(self.conn_id, error)
        return error

    @property
    def _place(self) -> str:
        return f"connection {self.conn_id!r}: "

    def _remarks_on(self, access: Access) -> Iterator[str]:
        if access.base_url.startswith("http://") and not is_loopback(access.host):
            yield "it talks to its service without encryption (http://)"
        if self.unknown_extras:
            yield self._unknown_text()

    def _unknown_text(self) -> str:
        known = ", ".join(sorted(self.extras_model.model_fields))
        return f"unknown in the connection's extra: {', '.join(self.unknown_extras)} (known: {known})"


def task_hook(conn_id: str) -> TaskApiHook:
    """Return the hook for a connection, whichever API it is for.

    :raises ConnectionConfigError: The connection's type has no hook of this kind.
    """
    return _hook_for(_masked(BaseHook.get_connection(conn_id)))


async def atask_hook(conn_id: str) -> TaskApiHook:
    """Async twin of :func:`task_hook`; keeps the event loop free."""
    connection = await get_async_connection(conn_id)
    return await asyncio.to_thread(_hook_for, connection)


def _masked(connection: Connection) -> Connection:
    # Decoding the extras is what tells Airflow's logs of the secrets in them; the password they know of themselves.
    if connection.extra:
        connection.extra_dejson  # noqa: B018
    return connection


def _hook_for(connection: Connection) -> TaskApiHook:
    try:
        hook = connection.get_hook()  # type: ignore[no-untyped-call]
    except (AirflowException, ImportError) as error:
        hook = error
    if not isinstance(hook, TaskApiHook):
        raise ConnectionConfigError(
            f"connection {connection.conn_id!r} is of type {connection.conn_type!r}, which lists no task files; "
            "use one of baidu_bls, eo_analysis, eo_market or a type whose hook is a TaskApiHook"
        )
    hook.connection = connection
    return hook


# Taking a URL apart is a tenth of what a look costs, and who waits asks for the same one again and again.
_url = lru_cache(maxsize=16384)(httpx.URL)
