"""Hook for the orders of the Earth-observation market."""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_taskdl.apis.eo_market import EoMarketApi
from airflow_provider_taskdl.hooks.settings import ConnectionExtras
from airflow_provider_taskdl.hooks.token import FieldName, FieldPrefix, TokenExtras, TokenHook


class EoMarketExtras(TokenExtras):
    """The extras of an ``eo_market`` connection, whose key stands alone in a field of its own."""

    header_name: FieldName = "X-API-Key"
    header_prefix: FieldPrefix = ""


class EoMarketHook(TokenHook):
    """Calls the orders of the Earth-observation market.

    Connection type ``eo_market``: Host is the base URL with its path prefix, Password the API key.

    Every call raises what :meth:`TaskApiHook.list_files` raises. Source:
    eo-doc.origen.ae/api/market-service/order/download-link.html.

    :param conn_id: The Airflow connection.
    """

    default_conn_name: ClassVar[str] = "eo_market_default"
    conn_type: ClassVar[str] = "eo_market"
    hook_name: ClassVar[str] = "EO market orders"
    api: ClassVar[EoMarketApi] = EoMarketApi()
    extras_model: ClassVar[type[ConnectionExtras]] = EoMarketExtras
