"""The market's orders keep the contract of all APIs."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow_provider_taskdl.hooks.eo_market import EoMarketHook
from airflow_provider_taskdl.testing.contract import Answers, ApiContract

PATH = "/market/order/downloadLinks"
LINKS = [f"{{files}}/{name}?orderNo=4711&id={name}&sign=s" for name in ("a.tif", "b.tif")]


def says(code: int, data: Any = None, message: str = "OK") -> Answers:
    """Return what the service answers at its one path."""
    return {PATH: {"code": code, "message": message, "data": data}}


class TestEoMarket(ApiContract):
    hook_class = EoMarketHook
    connection: ClassVar[Any] = {"password": "a-secret-key"}
    names = ("a.tif", "b.tif")
    ready = says(200, {"status": 2, "downloadUrls": LINKS})
    waiting = (says(200), says(200, {"status": 1}), says(200, {"status": 2, "downloadUrls": []}))
    failed = (says(200, {"status": 6, "downloadUrls": []}),)
    not_found = says(400, message="Order not found")
    refused = says(401, message="Unauthorized")
    accepted = not_found
