"""The download-task routes of Baidu Log Service, strict about the signature."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import Any

from airflow_provider_taskdl.auth.bce import sign
from airflow_provider_taskdl.listing import parse_time
from airflow_provider_taskdl.testing.content import as_content
from airflow_provider_taskdl.testing.exchange import Reply, Request, bce_error, bce_reply
from airflow_provider_taskdl.testing.links import make_link
from airflow_provider_taskdl.testing.state import Emulator
from airflow_provider_taskdl.testing.tasks import Task

# Signed when the signature lists no fields, as the specification has it; and every x-bce-* field.
_DEFAULT_SIGNED = frozenset({"host", "content-length", "content-type", "content-md5"})


def answer(emulator: Emulator, request: Request) -> Reply:
    """Return BLS's answer to a request.

    :param emulator: The world.
    :param request: The request; its kind says which call it is.
    """
    refusal = judge_signature(emulator, request)
    if refusal is not None:
        return refusal
    if request.kind in ("bls.create", "bls.list"):
        try:
            fields = json.loads(request.body or b"{}")
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            return bce_error(400, "the body is not a JSON object", "MalformedJSON")
        fields = {name: value for name, value in fields.items() if value is not None}
        return _create(emulator, fields) if request.kind == "bls.create" else _list(emulator, fields)
    task = emulator.find("bls", request.params["uuid"])
    if task is None:
        return _not_found()
    if request.kind == "bls.delete":
        emulator.remove(task)
        # The service says "success" here and "OK" everywhere else.
        return bce_reply({"success": True, "code": "success", "message": ""})
    if request.kind == "bls.status":
        return _ok({"task": _description(emulator, task)})
    return _link(emulator, task, request)


def judge_signature(emulator: Emulator, request: Request) -> Reply | None:
    """Recompute a request's signature from the request as it came in.

    :param emulator: Has the keys.
    :param request: The request.
    :returns: The refusal, or ``None`` for a good signature.
    """
    given = request.headers.get("authorization")
    if given is None:
        return bce_error(401, "Check unauthorized: no authorization")
    try:
        version, key_id, time_text, life_text, listed, _ = given.split("/")
        timestamp = datetime.strptime(time_text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        life = int(life_text)
        if version != "bce-auth-v1" or life < -1:
            raise ValueError
    except ValueError:
        return bce_error(400, "the Authorization header is no bce-auth-v1 signature", "InvalidHTTPAuthHeader")
    names = [name for name in listed.split(";") if name]
    signed = names or [n for n in request.headers if n in _DEFAULT_SIGNED or n.startswith("x-bce-")]
    missing = sorted({*names, "host"} - set(request.headers)) or ([] if "host" in signed else ["host"])
    if missing:
        message = f"Fail to authn user: Missing headers required by signing: {', '.join(missing)}"
        return bce_error(400, message, "IamSignatureInvalid")
    expected = sign(
        key_id,
        emulator.secret_access_key,
        method=request.method,
        path=request.path,
        query=request.query,
        headers={name: request.headers[name] for name in signed},
        signed_headers=names or None,
        timestamp=timestamp,
        expires_in=life,
    )
    if key_id != emulator.access_key_id or given != expected:
        return bce_error(401, "Check unauthorized: invalid ak/sk")
    if life >= 0 and timestamp.timestamp() + life < time.time():
        return bce_error(400, f"Request has expired. Timestamp date is {time_text}", "RequestExpired")
    # Required with temporary credentials, not to be sent otherwise.
    token = request.headers.get("x-bce-security-token") if "x-bce-security-token" in signed else None
    if token != emulator.security_token:
        return bce_error(401, "Check unauthorized: invalid security token")
    return None


def unknown_path(emulator: Emulator, request: Request) -> Reply:
    """Return the gateway's answer to a path that no call has."""
    return bce_error(404, "the requested URI does not exist", "InvalidURI")


def _ok(result: Any) -> Reply:
    return bce_reply({"success": True, "code": "OK", "message": "", "result": result})


def _not_found() -> Reply:
    return bce_error(404, "Download task not found", "DownloadTaskNotFound")


def _link(emulator: Emulator, task: Task, request: Request) -> Reply:
    there = emulator.state_of(task) == "success"
    if not there and task.unready == "null":
        return _ok(None)
    if not there and task.unready == "not-found":
        return _not_found()
    link, file = "", task.files[0]
    if there or task.unready == "link":
        link, _ = make_link(emulator, task, file, emulator.link_origin or request.origin)
    return _ok({"fileDir": task.request["fileDir"], "fileName": file.name, "link": link})


def _create(emulator: Emulator, fields: dict[str, Any]) -> Reply:
    for name in ("logStoreName", "queryStartTime", "queryEndTime"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            return bce_error(400, f"{name} is required")
    try:
        start, end = parse_time(fields["queryStartTime"]), parse_time(fields["queryEndTime"])
    except ValueError:
        return bce_error(400, "queryStartTime and queryEndTime must be ISO 8601 times")
    if end < start:
        return bce_error(400, "queryEndTime is before queryStartTime")
    if fields.get("format", "json") not in ("json", "csv") or fields.get("order", "desc") not in ("desc", "asc"):
        return bce_error(400, "format is json or csv, order is desc or asc")
    limit = fields.get("limit", 1_000_000)
    if not isinstance(limit, int) or not 0 < limit <= 1_000_000:
        return bce_error(400, "limit is a number from 1 to 1000000")
    log = as_content(emulator.make_log(fields))
    rows = sum(block.count(b"\n") for block in log.blocks())
    task = emulator.bls_task(
        log,
        request={"order": "desc", "query": "match *", **fields, "limit": limit, "writtenRows": rows},
        file_dir=fields.get("fileDir", ""),
        ready_after=emulator.ready_after,
        starts=emulator.starts,
    )
    return _ok({"uuid": task.id})


def _list(emulator: Emulator, fields: dict[str, Any]) -> Reply:
    order_by, order = fields.get("orderBy", "createdTime"), fields.get("order", "desc")
    page_no, page_size = fields.get("pageNo", 1), fields.get("pageSize", 10)
    if order_by not in ("createdTime", "updatedTime", "name") or order not in ("desc", "asc"):
        return bce_error(400, "orderBy or order is not known")
    if not (isinstance(page_no, int) and isinstance(page_size, int) and page_no > 0 and page_size > 0):
        return bce_error(400, "pageNo and pageSize are positive numbers")
    tasks = [
        task
        for (service, _), task in tuple(emulator.tasks.items())
        if service == "bls"
        and fields.get("project", "default") == task.request["project"]
        and fields.get("logStoreName", "") in task.request["logStoreName"]
    ]
    tasks.sort(key=lambda t: t.request.get("name", "") if order_by == "name" else t.created, reverse=order == "desc")
    page = tasks[(page_no - 1) * page_size : page_no * page_size]
    return _ok(
        {
            "order": order, "orderBy": order_by, "pageNo": page_no, "pageSize": page_size, "total": len(tasks),
            "tasks": [_description(emulator, task) for task in page],
        }
    )  # fmt: skip


def _description(emulator: Emulator, task: Task) -> dict[str, Any]:
    state = emulator.state_of(task)
    began = task.started if task.started is not None else task.created
    failed = state == "failed"
    return {
        **task.request,
        "uuid": task.id,
        "state": state.upper(),
        "failedCode": "QueryFailed" if failed else "",
        "failedMessage": (task.reason or "the query failed") if failed else "",
        "writtenRows": 0 if state != "success" else task.request.get("writtenRows", 0),
        "fileName": task.files[0].name,
        "createdTime": _text(task.created),
        "updatedTime": _text(began),
        "execStartTime": _text(began + task.queued_for) if state != "waiting" else "",
        "execEndTime": _text(began + task.ready_after) if state not in ("waiting", "running") else "",
    }


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
