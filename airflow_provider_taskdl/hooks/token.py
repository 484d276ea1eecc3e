"""Hooks whose connection holds an address and a token."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from airflow.providers.common.compat.sdk import Connection
from pydantic import Field

from airflow_provider_taskdl.auth.token import TokenAuth
from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.access import Access
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.settings import ConnectionExtras, base_url, require_field_text

# Types, so that they hold as well where only the default is another.
FieldName = Annotated[str, Field(pattern=re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
FieldPrefix = Annotated[str, Field(pattern=re.compile(r"^[A-Za-z0-9_.~+/-]*$"))]


class TokenExtras(ConnectionExtras):
    """The extras of a connection with a token.

    :param header_name: The header field that carries the token.
    :param header_prefix: What stands before the token; empty for a raw token.
    """

    may_be_empty: ClassVar[frozenset[str]] = frozenset({"header_prefix"})

    header_name: FieldName = "Authorization"
    header_prefix: FieldPrefix = "Bearer"


class TokenHook(TaskApiHook):
    """Base of the hooks for services with a token: Host is the base URL with its path prefix, Password the token.

    :param conn_id: The Airflow connection.
    """

    extras_model: ClassVar[type[ConnectionExtras]] = TokenExtras

    def make_access(self, connection: Connection, extras: TokenExtras) -> Access:
        """Return address and token from the connection.

        :raises ConnectionConfigError: Host or token is missing.
        """
        token = (connection.password or "").strip()
        if not token:
            raise ConnectionConfigError("Password (the API token) is empty")
        require_field_text("Password (the API token)", token)
        return Access(
            base_url=base_url(connection.host, connection.port),
            auth=TokenAuth(token, extras.header_name, extras.header_prefix.strip()),
            secrets=(token,),
            extras=extras,
        )
