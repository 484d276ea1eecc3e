"""S3 and what speaks its language: parts in any order and several at once, published in one step, resumable.

A file's upload shows nothing until it is completed. Its record, a small object beside the files, lets a later process
on any machine go on with it. Digests: a small file's sha256 is in its metadata; a longer one's cannot be, because an
upload's metadata are fixed before its bytes are known. The manifest has both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.sinks.base import MAX_SMALL, Origin, Stored, find_in
from airflow_provider_taskdl.transfer.sinks.s3_requests import MISSING, S3Requests, Tries, stored_as
from airflow_provider_taskdl.transfer.sinks.s3_sink import S3Sink
from airflow_provider_taskdl.transfer.sinks.s3_uploads import MAX_PARTS, Uploads
from airflow_provider_taskdl.transfer.stop import Cancelled, never_stop

_MIB = 1024 * 1024


class S3Store:
    """A prefix in a bucket.

    :param client: The boto3 client of the store's connection: its credentials, endpoint and options hold.
    :param bucket: The bucket.
    :param prefix: What the keys begin with, with or without a slash at its end.
    :param min_part_size: Bytes of the smallest part that the store takes.
    :param tries: How often bulk bytes are sent again.
    """

    def __init__(
        self, client: Any, bucket: str, prefix: str, *, min_part_size: int = 5 * _MIB, tries: Tries | None = None
    ) -> None:
        prefix = prefix.strip("/")
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        self.min_part_size = min_part_size
        self.requests = S3Requests(client, bucket, tries=tries)
        self.uploads = Uploads(self.requests, bucket, self.prefix)

    def prepare(self, needed: int) -> None:
        """See that the bucket answers, and what earlier processes have left."""
        self.uploads.look()

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""
        return find_in(names, self._list, lambda name: self.requests.head(self.prefix + name))

    def open(self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None) -> S3Sink:
        """Begin a file, or go on with one."""
        length = max(part_size, self.min_part_size, -(-(origin.size or 0) // MAX_PARTS))
        upload = self.uploads.resume(name, origin, max(length, longest or 0))
        return S3Sink(self.requests, self.uploads, name, origin, part_size=length, replace=replace, upload=upload)

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of an object's bytes."""
        digests, position, failures = Digests(announced or {}), 0, 0
        begun: dict[str, str] = {}
        while True:
            if position:
                begun["Range"] = f"bytes={position}-"
            answer = self.requests.call("get_object", Key=self.prefix + name, **begun)
            length = position + int(answer["ContentLength"])
            begun["IfMatch"] = answer["ETag"]
            try:
                for chunk in answer["Body"].iter_chunks(_MIB):
                    go_on()
                    digests.update(memoryview(chunk))
                    position, failures = position + len(chunk), 0
            except Cancelled:
                answer["Body"].close()
                raise
            except Exception as error:  # noqa: BLE001 - the client's errors cannot be named without importing it
                failures += 1
                problem = f"the object cannot be read: {type(error).__name__}"
            else:
                digests.verify()
                return digests.sha256
            if failures > 3 or position >= length:
                raise DestinationError(problem, target=self.requests.target(self.prefix + name))
            self.requests.pause(failures)

    def settle(self, names: Iterable[str]) -> None:
        """Forget the uploads of files that a checkpoint speaks of."""
        for name in names:
            self.uploads.settle(name)

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        try:
            answer = self.requests.call("get_object", Key=self.prefix + name)
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        if int(answer["ContentLength"]) > MAX_SMALL:
            answer["Body"].close()
            return None
        return self.requests.read(answer, self.prefix + name)

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small objects that begin so."""
        pages = self.requests.pages("list_objects_v2", Prefix=self.prefix + start)
        return [entry["Key"].removeprefix(self.prefix) for page in pages for entry in page.get("Contents", ())]

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        self.requests.put("put_object", memoryview(data), Key=self.prefix + name)

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        self.requests.call("delete_object", Key=self.prefix + name)

    def _list(self, names: set[str]) -> dict[str, Stored]:
        return {
            name: stored_as(int(entry["Size"]), entry.get("ETag"))
            for page in self.requests.pages("list_objects_v2", Prefix=self.prefix, Delimiter="/")
            for entry in page.get("Contents", ())
            if (name := entry["Key"].removeprefix(self.prefix)) in names
        }
