"""The analysis-task routes of the Earth-observation platform."""

from __future__ import annotations

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
        "taskName": f"analysis {task.id}",
        "taskStatus": status,
        "ctime": int(task.created * 1000),
        "mtime": int((task.created + min(age, task.ready_after)) * 1000),
        "duration": int(min(age, task.ready_after) * 1000),
        "metaDataId": 1,
        "taskItems": [item],
    }
