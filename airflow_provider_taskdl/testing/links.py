"""The signed links of the file host: made for each answer, checked on each request."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timezone
from typing import Literal
from urllib.parse import parse_qsl, quote

from airflow_provider_taskdl.auth.bce import sign
from airflow_provider_taskdl.testing.exchange import Request
from airflow_provider_taskdl.testing.state import Emulator
from airflow_provider_taskdl.testing.tasks import Task, TaskFile

Verdict = Literal["valid", "expired", "forged"]

_LINK_KEY_ID = "e3dd1082f1004b58ac81ddd9c7d706e4"


def make_link(emulator: Emulator, task: Task, file: TaskFile, origin: str) -> tuple[str, datetime]:
    """Return a fresh link to a file and when it ends.

    :param emulator: The world it belongs to.
    :param task: The file's task; its service decides what the link looks like.
    :param file: The file.
    :param origin: ``scheme://host[:port]`` of the file host.
    """
    path, start, seconds = quote(file.path), int(emulator.now()), emulator.link_seconds
    if task.service == "bls":
        query = "responseContentDisposition=attachment"
        host = origin.partition("://")[2]
        value = _bce(emulator.link_generation, "GET", path, query, host, start, seconds)
        query += f"&authorization={quote(value, safe='')}"
    elif task.service == "market":
        path, _, number = file.path.rpartition("/")
        rest = f"orderNo={quote(task.id, safe='')}&id={number}"
        query = f"{rest}&sign={_token(emulator.link_generation, 'GET', path, rest, start + seconds)}"
    else:
        rest = f"taskId={quote(task.id, safe='')}&fileName={quote(file.name, safe='')}"
        query = f"token={_token(emulator.link_generation, 'GET', path, rest, start + seconds)}&{rest}"
    return f"{origin}{path}?{query}", datetime.fromtimestamp(start + seconds, timezone.utc)


def judge_link(emulator: Emulator, request: Request) -> Verdict:
    """Tell whether a request's own query permits it."""
    try:
        rest, _, token = request.query.rpartition("&sign=")
        if not rest and request.query.startswith("token="):
            token, _, rest = request.query.removeprefix("token=").partition("&")
        if rest:
            ends = int(token.partition(".")[0])
            known = [_token(n, request.method, request.path, rest, ends) for n in range(emulator.link_generation + 1)]
        else:
            token = dict(parse_qsl(request.query))["authorization"]
            _, _, signed, life, *_ = token.split("/")
            start = int(datetime.strptime(signed, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp())
            ends, host = start + int(life), request.headers.get("host", "")
            known = [
                _bce(n, request.method, request.path, request.query, host, start, int(life))
                for n in range(emulator.link_generation + 1)
            ]
    except (KeyError, ValueError):
        return "forged"
    if token not in known:
        return "forged"
    return "valid" if token == known[-1] and emulator.now() < ends else "expired"


def _bce(generation: int, method: str, path: str, query: str, host: str, start: int, seconds: int) -> str:
    return sign(
        _LINK_KEY_ID,
        f"link key {generation}",
        method=method,
        path=path,
        query=query,
        headers={"host": host},
        signed_headers=["host"],
        timestamp=datetime.fromtimestamp(start, timezone.utc),
        expires_in=seconds,
    )


def _token(generation: int, method: str, path: str, rest: str, ends: int) -> str:
    # Over the text as sent: a client that writes the link anew, however alike, breaks it.
    text = f"{method} {path}?{rest} {ends}"
    return f"{ends}.{hmac.new(f'link key {generation}'.encode(), text.encode(), hashlib.sha256).hexdigest()}"
