"""The stores that the tests of the sinks run on: a real S3 server, and the file system in memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.s3 import S3Server


class Bucket:
    """A directory of a store, with a look behind the sink's back.

    :param fs: The file system.
    :param root: The directory.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root

    def names(self) -> set[str]:
        """Everything that is there, also what nobody should see, relative to the root."""
        self.fs.invalidate_cache()
        found = self.fs.find(self.root) if self.fs.exists(self.root) else []
        return {path.strip("/").removeprefix(self.root.strip("/") + "/") for path in found}

    def content(self, name: str) -> bytes:
        content: bytes = self.fs.cat_file(f"{self.root}/{name}")
        return content

    def put(self, name: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.root}/{name}", data)

    def uploads(self) -> list[str]:
        """The multipart uploads that were begun and neither completed nor given up."""
        if "s3" not in self.fs.protocol:
            return []
        try:
            listed = self.fs.call_s3("list_multipart_uploads", Bucket=self.root.partition("/")[0])
        except FileNotFoundError:  # this server's word for "none yet"
            return []
        return [upload["Key"] for upload in listed.get("Uploads", [])]


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[Bucket]:
    """A prefix in a new bucket of the S3 server."""
    fs = fsspec.filesystem("s3", skip_instance_cache=True, **s3_server.options)
    yield Bucket(fs, f"{s3_server.bucket()}/pre fix")
    fs.close_session(fs.loop, fs.s3)


@pytest.fixture
def memory() -> Bucket:
    """A directory of the file system in memory, which has no deferred commit."""
    return Bucket(fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}")


@pytest.fixture
def files(tmp_path: Path) -> Bucket:
    """A directory of a disk as fsspec sees it, which has a deferred commit of another kind."""
    return Bucket(fsspec.filesystem("file", auto_mkdir=True), str(tmp_path))


@pytest.fixture(params=["memory", "files", pytest.param("s3", marks=pytest.mark.s3)])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each of them."""
    bucket: Bucket = request.getfixturevalue(request.param)
    return bucket
