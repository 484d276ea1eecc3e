"""gcp-storage-emulator for many at once, and with the condition that it does not know: ``ifGenerationMatch=0``.

What Google's documentation says of it: an object is made only if there is none of its name, or the answer is 412.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from gcp_storage_emulator.handlers import objects

Handler = Callable[..., None]
_LOCK = threading.Lock()


def conditional(handler: Handler) -> Handler:
    """Return a handler of requests that make an object, with the condition."""

    def handle(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        with _LOCK:
            if request.query.get("ifGenerationMatch") == ["0"]:
                bucket = request.params["bucket_name"]
                name = request.params.get("object_id") or request.data["meta"]["name"]
                if _is_there(storage, bucket, name):
                    response.status = HTTPStatus.PRECONDITION_FAILED
                    return
            handler(request, response, storage, *args, **kwargs)

    return handle


def _is_there(storage: Any, bucket: str, name: str) -> bool:
    try:
        storage.get_file_obj(bucket, name)
    except Exception:  # noqa: BLE001 - it has an error of its own for that
        return False
    return True


class Patient(ThreadingHTTPServer):
    """Answers many at once; the emulator's own one lets all wait for each."""

    daemon_threads = True
    request_queue_size = 512


if __name__ == "__main__":
    objects.insert, objects.compose = conditional(objects.insert), conditional(objects.compose)
    # Now, for it takes the handlers when it is imported.
    from gcp_storage_emulator import server

    server.server.HTTPServer = Patient
    logging.basicConfig(level=logging.WARNING)
    server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True).run()
