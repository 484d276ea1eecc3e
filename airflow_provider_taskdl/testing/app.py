"""The emulator as an ASGI application."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from airflow_provider_taskdl.testing import bls, eo, files, market
from airflow_provider_taskdl.testing.delivery import deliver
from airflow_provider_taskdl.testing.exchange import Reply, Request, bce_error
from airflow_provider_taskdl.testing.faults import InsteadFault, ReplyFault, RequestFault
from airflow_provider_taskdl.testing.state import Emulator, Seen
from airflow_provider_taskdl.testing.tasks import MARKET_PATH

log = logging.getLogger(__name__)

Answer = Callable[[Emulator, Request], Reply]


def make_app(emulator: Emulator) -> Starlette:
    """Return the ASGI application that serves a world.

    :param emulator: The world.
    """
    base, analysis = "/v2/logstore/download", f"{emulator.eo_prefix}/analysis/task"
    routes = [
        _route(emulator, f"{base}/link/{{uuid}}", "bls.link", "GET", bls.answer),
        _route(emulator, f"{analysis}/get/Download/url", "eo.link", "GET", eo.answer),
        _route(emulator, f"{emulator.eo_prefix}/market/order/downloadLinks", "market.link", "POST", market.answer),
    ]
    if emulator.status_endpoint:
        routes += [
            _route(emulator, f"{base}/list", "bls.list", "POST", bls.answer),
            _route(emulator, base, "bls.create", "POST", bls.answer),
            _route(emulator, f"{base}/{{uuid}}", "bls.status", "GET", bls.answer),
            _route(emulator, f"{base}/{{uuid}}", "bls.delete", "DELETE", bls.answer),
            _route(emulator, f"{analysis}/query/detailV2", "eo.status", "GET", eo.answer),
            _route(emulator, f"{analysis}/create", "eo.create", "POST", eo.answer),
            _route(emulator, f"{analysis}/page/query", "eo.list", "POST", eo.answer),
        ]
    routes += [
        _route(emulator, "/v2/{rest:path}", "unknown", None, bls.unknown_path),
        _route(emulator, f"{emulator.eo_prefix}/analysis/{{rest:path}}", "unknown", None, eo.unknown_path),
        _route(emulator, "/{path:path}", "file", None, files.answer),
    ]
    return Starlette(routes=routes)


def _route(emulator: Emulator, path: str, kind: str, method: str | None, answer: Answer) -> Route:
    route = Route(path, _Endpoint(emulator, kind, answer))
    # Set afterwards: HEAD would come with GET, and is for the services to refuse.
    route.methods = {method} if method else None
    return route


class _Endpoint:
    """One route: read the request, let faults and service answer, send the reply, and keep the record."""

    def __init__(self, emulator: Emulator, kind: str, answer: Answer) -> None:
        self._emulator = emulator
        self._kind = kind
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = self._request(scope, await HttpRequest(scope, receive).body())
        except ClientDisconnect:
            return
        leaked = files.credentials_in(self._emulator, request) if self._kind == "file" else ()
        seen = Seen(self._kind, request.names, request.method, dict(request.headers), time.time(), leaked=leaked)
        self._emulator.requests.append(seen)
        try:
            reply = self._reply(request)
        except Exception:
            log.exception("The emulator failed at %s %s", request.method, request.path)
            reply = bce_error(500, "the emulator failed; see its log")
        await deliver(reply, seen, scope, receive, send)

    def _reply(self, request: Request) -> Reply:
        rules = tuple(self._emulator.rules)
        for rule in rules:
            if isinstance(rule.fault, RequestFault) and rule.takes(request):
                rule.fault.change(request)
        for rule in rules:
            if isinstance(rule.fault, InsteadFault) and rule.takes(request):
                reply = rule.fault.reply(request)
                break
        else:
            reply = self._answer(self._emulator, request)
        for rule in rules:
            if isinstance(rule.fault, ReplyFault) and rule.takes(request, reply):
                rule.fault.change(request, reply)
        return reply

    def _request(self, scope: Scope, body: bytes) -> Request:
        query = scope["query_string"].decode("latin-1")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        params = {**dict(parse_qsl(query)), **scope["path_params"]}
        if self._kind == "market.link":
            params |= market.fields_of(body)
        # All files of the market have one path; their number is in the query.
        path = f"{MARKET_PATH}/{params.get('id')}" if scope["path"] == MARKET_PATH else scope["path"]
        _, file = self._emulator.objects.get(path, (None, None))
        if self._kind == "file":
            names: tuple[str, ...] = (file.name if file else path.rpartition("/")[2], path)
        else:
            names = (params.get("uuid") or params.get("taskId") or params.get("id") or params.get("orderNo") or "",)
        return Request(
            kind=self._kind,
            names=names,
            method=scope["method"],
            scheme=scope["scheme"],
            path=scope["raw_path"].decode("latin-1"),
            query=query,
            headers=headers,
            params=params,
            body=body,
            file=file,
        )
