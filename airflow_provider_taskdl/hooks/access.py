"""How to reach and convince a service: what a connection comes down to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from airflow_provider_taskdl.hooks.settings import ConnectionExtras, ssl_context
from airflow_provider_taskdl.redaction import NeverPickled


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

    @property
    def tls(self) -> ssl.SSLContext:
        """The TLS settings of the connection."""
        return ssl_context(self.extras.verify)

    @property
    def proxy(self) -> str | None:
        """The proxy's URL, with its credentials."""
        return None if self.extras.proxy is None else self.extras.proxy.get_secret_value()
