"""Hook for the Earth-observation analysis platform."""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_taskdl.apis.eo_analysis import EoAnalysisApi
from airflow_provider_taskdl.hooks.token import TokenHook


class EoAnalysisHook(TokenHook):
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
