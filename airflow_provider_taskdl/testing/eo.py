"""The analysis-task routes of the Earth-observation platform."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from airflow_provider_taskdl.testing.exchange import Reply, Request, eo_error, json_reply
from airflow_provider_taskdl.testing.links import make_link
from airflow_provider_taskdl.testing.state import Emulator
from airflow_provider_taskdl.testing.tasks import Task

# The documentation names no number for a task that waits or whose files are gone.
_STATES = {"waiting": 2, "running": 2, "success": 3, "failed": 4, "expired": "EXPIRED"}


def answer(emulator: Emulator, request: Request) -> Reply:
    """Return the platform's answer to a request.

    :param emulator: The world.
    :param request: The request; its kind says which call it is.
    """
    if request.headers.get(emulator.header_name.lower()) != f"{emulator.header_prefix} {emulator.token}".strip():
        return _refusal(emulator, 401, "Unauthorized")
    if request.kind in ("eo.create", "eo.list"):
        try:
            fields = json.loads(request.body or b"{}")
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            return _refusal(emulator, 400, "the body is not a JSON object")
        return _create(emulator, fields) if request.kind == "eo.create" else _list(emulator, fields)
    parameter = "taskId" if request.kind == "eo.link" else "id"
    task_id = request.params.get(parameter, "")
    if not task_id:
        return _refusal(emulator, 400, f"{parameter} is required")
    task = emulator.find("eo", task_id)
    if task is None:
        return _refusal(emulator, 404, "Task not found")
    return _links(emulator, task, request) if request.kind == "eo.link" else _ok(_detail(emulator, task))


def unknown_path(emulator: Emulator, request: Request) -> Reply:
    """Return the web server's answer to a path that no call has; not the platform's envelope."""
    document = {"timestamp": int(emulator.now() * 1000), "status": 404, "error": "Not Found", "path": request.path}
    return json_reply(document, 404)


def _refusal(emulator: Emulator, code: int, message: str) -> Reply:
    return eo_error(code, message, code if emulator.mirror_codes else 200)


def _ok(data: Any) -> Reply:
    return json_reply({"code": 200, "message": "success", "data": data})


def _create(emulator: Emulator, fields: dict[str, Any]) -> Reply:
    for name in ("metaDataId", "taskName", "algorithms"):
        if not fields.get(name):
            return _refusal(emulator, 400, f"{name} is required")
    if not isinstance(fields["metaDataId"], int) or not isinstance(fields["taskName"], str):
        return _refusal(emulator, 400, "metaDataId is a number, taskName a text")
    algorithms = fields["algorithms"]
    if not isinstance(algorithms, list) or not all(isinstance(a, dict) and a.get("algorithm") for a in algorithms):
        return _refusal(emulator, 400, "Invalid algorithm code")
    task = emulator.eo_task(emulator.make_results(fields), ready_after=emulator.ready_after, starts=emulator.starts)
    task.request.update(fields)
    return _ok({"taskId": int(task.id)})


def _list(emulator: Emulator, fields: dict[str, Any]) -> Reply:
    page, size = fields.get("page", 1), fields.get("size", 10)
    if not (isinstance(page, int) and isinstance(size, int) and page > 0 and size > 0):
        return _refusal(emulator, 400, "page and size are positive numbers")
    tasks = [
        task
        for (service, _), task in tuple(emulator.tasks.items())
        if service == "eo" and fields.get("taskName", "") in _name(task)
    ]
    tasks.sort(key=lambda task: task.created, reverse=True)
    return _ok({"total": len(tasks), "list": [_line(emulator, t) for t in tasks[(page - 1) * size : page * size]]})


def _line(emulator: Emulator, task: Task) -> dict[str, Any]:
    state = emulator.state_of(task)
    return {
        "id": int(task.id) if task.id.isdigit() else task.id,
        "taskName": _name(task),
        "algorithmCode": ",".join(each["algorithm"] for each in task.request.get("algorithms", ())),
        # A word here, a number in the description: the two pages disagree.
        "taskStatus": {"success": "COMPLETED"}.get(state, state.upper()),
        "progress": 100 if state == "success" else 0,
        "createTime": datetime.fromtimestamp(task.created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _name(task: Task) -> str:
    return str(task.request.get("taskName", f"analysis {task.id}"))


def _links(emulator: Emulator, task: Task, request: Request) -> Reply:
    there = emulator.state_of(task) == "success"
    if not there and task.unready == "null":
        return _ok(None)
    if not there and task.unready == "not-found":
        return _refusal(emulator, 404, "Task not found")
    urls: list[dict[str, Any]] = []
    for file in task.files if there or task.unready == "link" else ():
        link, ends = make_link(emulator, task, file, emulator.link_origin or request.origin)
        urls.append(
            {
                "fileName": file.name,
                "downloadUrl": link,
                "fileSize": file.declared_size,
                "expiresAt": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    sizes = [url["fileSize"] for url in urls]
    return _ok({"taskId": task.id, "downloadUrls": urls, "totalSize": None if None in sizes else sum(sizes)})


def _detail(emulator: Emulator, task: Task) -> dict[str, Any]:
    state = emulator.state_of(task)
    status = _STATES[state]
    item = {"id": 1, "algorithmName": task.reason or "NDVI", "taskId": f"{task.id}-1", "status": status}
    age = max(0.0, emulator.now() - task.created)
    return {
        "id": int(task.id) if task.id.isdigit() else task.id,
        "taskName": _name(task),
        "taskStatus": status,
        "ctime": int(task.created * 1000),
        "mtime": int((task.created + min(age, task.ready_after)) * 1000),
        "duration": int(min(age, task.ready_after) * 1000),
        "metaDataId": task.request.get("metaDataId", 1),
        "taskItems": [item],
    }
