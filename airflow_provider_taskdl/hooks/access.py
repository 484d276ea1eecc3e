"""How to reach and convince a service: what a connection comes down to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.settings import ConnectionExtras, ssl_context
from airflow_provider_taskdl.redaction import NeverPickled

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

C = TypeVar("C", httpx.Client, httpx.AsyncClient)


@dataclass(frozen=True)
class Access(NeverPickled):
    """How to reach and convince a service: what a connection comes down to.

    :param base_url: Scheme, host, port and path prefix, without a trailing slash.
    :param auth: What signs requests to the API.
    :param secrets: Texts that must not show in any message.
    :param extras: The connection's extras.
    """

    base_url: str
    auth: httpx.Auth
    secrets: tuple[str, ...] = field(repr=False)
    extras: ConnectionExtras

    @property
    def host(self) -> str:
        """The API's host name."""
        return urlsplit(self.base_url).hostname or ""

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """The TLS settings of the connection, as they were when they were first needed."""
        return ssl_context(self.extras.verify)

    @property
    def proxy(self) -> str | None:
        """The proxy's URL, with its credentials."""
        return None if self.extras.proxy is None else self.extras.proxy.get_secret_value()


def facts_of(connection: Connection) -> tuple[object, ...]:
    """Return what an Airflow connection says: the same if nothing of it has changed.

    :param connection: The connection.
    """
    c = connection
    return c.conn_type, c.host, c.port, c.login, c.password, c.schema, c.extra


def make_client(kind: type[C], **settings: Any) -> C:
    """Return a client.

    :param kind: Its class.
    :param settings: What that takes.
    :raises ConnectionConfigError: The environment names a proxy that is none.
    """
    try:
        return kind(**settings)
    except (httpx.InvalidURL, ValueError, ImportError):  # the last for SOCKS
        pass
    # Outside the handler: what it caught quotes the URL. The connection's own proxy was looked at before.
    raise ConnectionConfigError(
        "a proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) is no URL of an HTTP proxy"
    )
