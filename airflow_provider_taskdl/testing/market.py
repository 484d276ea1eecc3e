"""The order call of the Earth-observation market."""

from __future__ import annotations

import json

from airflow_provider_taskdl.testing.exchange import Reply, Request, eo_error, json_reply
from airflow_provider_taskdl.testing.links import make_link
from airflow_provider_taskdl.testing.state import Emulator

_STATES = {"waiting": 1, "running": 5, "success": 3, "failed": 6}


def answer(emulator: Emulator, request: Request) -> Reply:
    """Return the market's answer to a request.

    :param emulator: The world.
    :param request: The request.
    """
    if request.headers.get("x-api-key") != emulator.token:
        return _refusal(emulator, 401, "Unauthorized")
    order_no = request.params.get("orderNo")
    if not order_no:
        return _refusal(emulator, 400, "orderNo is required")
    order = emulator.find("market", order_no)
    state = emulator.state_of(order) if order else "failed"
    if order is None or (state != "success" and order.unready == "not-found"):
        return _refusal(emulator, 400, "Order not found")  # not 404, as the sibling services say
    if state != "success" and order.unready == "null":
        return json_reply({"code": 200, "message": "OK", "data": None})
    there = order.files if state == "success" or order.unready == "link" else []
    origin = emulator.link_origin or request.origin
    links = [make_link(emulator, order, file, origin)[0] for file in there]
    # Nothing says of an order that it expired: it has no links any more.
    data = {"status": _STATES.get(state, 3), "downloadUrls": links}
    return json_reply({"code": 200, "message": "OK", "data": data})


def fields_of(body: bytes) -> dict[str, str]:
    """Return the fields of a request that are texts."""
    try:
        fields = json.loads(body or b"{}")
    except ValueError:
        fields = None
    return {k: v for k, v in fields.items() if isinstance(v, str)} if isinstance(fields, dict) else {}


def _refusal(emulator: Emulator, code: int, message: str) -> Reply:
    return eo_error(code, message, code if emulator.mirror_codes else 200)
