"""Hook for the Earth-observation analysis platform."""

from __future__ import annotations

import re
from typing import ClassVar

from airflow.providers.common.compat.sdk import Connection
from pydantic import Field

from airflow_provider_taskdl.apis.eo_analysis import EoAnalysisApi
from airflow_provider_taskdl.auth.token import TokenAuth
from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.access import Access
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.settings import ConnectionExtras, base_url, require_field_text


class EoAnalysisExtras(ConnectionExtras):
    """The extras of an ``eo_analysis`` connection.

    :param header_name: The header field that carries the token.
    :param header_prefix: What stands before the token; empty for a raw token.
    """

    may_be_empty: ClassVar[frozenset[str]] = frozenset({"header_prefix"})

    header_name: str = Field("Authorization", pattern=re.compile(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))
    header_prefix: str = Field("Bearer", pattern=re.compile(r"^[A-Za-z0-9_.~+/-]*$"))


class EoAnalysisHook(TaskApiHook):
    """Calls the analysis tasks of the Earth-observation platform.

    Connection type ``eo_analysis``: Host is the base URL with its path prefix, Password the API token.

    Every call raises what :meth:`TaskApiHook.list_files` raises. Source:
    eo-doc.origen.ae/api/openapi/data-analysis/get-download-url.html.

    :param conn_id: The Airflow connection.
    """

    default_conn_name: ClassVar[str] = "eo_analysis_default"
    conn_type: ClassVar[str] = "eo_analysis"
    hook_name: ClassVar[str] = "EO analysis platform"
    api: ClassVar[EoAnalysisApi] = EoAnalysisApi()
    extras_model: ClassVar[type[ConnectionExtras]] = EoAnalysisExtras

    def make_access(self, connection: Connection, extras: EoAnalysisExtras) -> Access:
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
