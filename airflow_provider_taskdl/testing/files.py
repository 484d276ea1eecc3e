"""The file host: object storage behind signed links."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

from airflow_provider_taskdl.testing.exchange import Reply, Request, bce_error
from airflow_provider_taskdl.testing.links import judge_link
from airflow_provider_taskdl.testing.state import Emulator
from airflow_provider_taskdl.testing.tasks import TaskFile

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES = {"json": "application/json", "csv": "text/csv", "tif": "image/tiff", "pdf": "application/pdf"}


def answer(emulator: Emulator, request: Request) -> Reply:
    """Return the host's answer to a request for a file.

    :param emulator: The world.
    :param request: The request.
    """
    leaked = credentials_in(emulator, request)
    if leaked:
        # A real one refuses two ways to say who asks; here it also shows that a credential left its service.
        return bce_error(400, f"a signed link permits no other credentials: {', '.join(leaked)}", "InvalidArgument")
    verdict = judge_link(emulator, request)
    if verdict == "forged":
        return bce_error(403, "the signature does not match the request", "SignatureDoesNotMatch")
    if verdict == "expired":
        return bce_error(emulator.expired_status, "URL had an expiry and has expired", "RequestExpired")
    found = emulator.objects.get(request.file.path) if request.file else None
    if found is None or emulator.state_of(found[0]) != "success":
        return bce_error(404, "The resource you requested does not exist", "NoSuchKey")
    task, file = found
    if request.headers.get("if-match", file.etag) not in (file.etag, "*"):
        return bce_error(412, "the file has changed")
    reply = _serve(request, file, range_of_nothing=400 if task.service == "bls" else 416)
    if task.service == "market":  # here alone stands the file's name
        reply.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
    return reply


def credentials_in(emulator: Emulator, request: Request) -> tuple[str, ...]:
    """Return the header fields of a request that belong to an API or to another site."""
    banned = {
        "authorization", "cookie", "x-bce-date", "x-bce-security-token", "x-api-key", emulator.header_name.lower(),
    }  # fmt: skip
    return tuple(sorted(banned & set(request.headers)))


def _serve(request: Request, file: TaskFile, range_of_nothing: int) -> Reply:
    size = file.content.size
    reply = Reply(content=file.content, headers=_headers(file))
    asked = _RANGE.fullmatch(request.headers.get("range", "").strip())
    # Several ranges, or another unit, give the whole file, as object stores do.
    if asked is None or asked[1] == asked[2] == "" or not _still_the_same(request, file):
        if file.checksums:
            reply.headers["Content-MD5"] = file.content.md5
        return reply
    if asked[1]:
        reply.start = int(asked[1])
        reply.end = min(int(asked[2]) + 1 if asked[2] else size, size)
        if asked[2] and int(asked[2]) < reply.start:
            reply.start, reply.end = 0, size
            return reply
    else:
        reply.start, reply.end = max(size - int(asked[2]), 0), size
    if reply.start >= reply.end:
        refusal = bce_error(range_of_nothing if size == 0 else 416, "the range is not in the file", "InvalidRange")
        refusal.headers["Content-Range"] = f"bytes */{size}"
        return refusal
    reply.status = 206
    reply.headers["Content-Range"] = f"bytes {reply.start}-{reply.end - 1}/{size}"
    return reply


def _headers(file: TaskFile) -> dict[str, str]:
    headers = {
        "Content-Type": _TYPES.get(file.name.rpartition(".")[2].lower(), "application/octet-stream"),
        "ETag": file.etag,
        "Last-Modified": formatdate(file.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Server": "BceBos",
    }
    if file.checksums:
        headers["x-bce-content-crc32"] = str(file.content.crc32)
    return headers


def _still_the_same(request: Request, file: TaskFile) -> bool:
    validator = request.headers.get("if-range")
    if validator is None:
        return True
    if validator.startswith('"'):
        return validator == file.etag
    try:
        return parsedate_to_datetime(validator).timestamp() == int(file.modified)
    except ValueError:
        return False  # a weak tag among others, which If-Range must not match
