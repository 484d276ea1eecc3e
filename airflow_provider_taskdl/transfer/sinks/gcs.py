"""Google Cloud Storage: parts in any order and several at once, joined in one step, resumable.

Parts are small objects in ``_taskdl/parts/``, which the store joins by itself (`compose`). Their names tell to which
version of the file they belong, so that a later process on any machine can go on. A resumable session, the store's
other way, takes its bytes in order only, and the address by which it is gone on with is a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.async_store import Body, version_of
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored, find_in
from airflow_provider_taskdl.transfer.sinks.gcs_parts import Parts
from airflow_provider_taskdl.transfer.sinks.gcs_requests import GcsRequests, stored_as
from airflow_provider_taskdl.transfer.sinks.gcs_sink import GcsSink
from airflow_provider_taskdl.transfer.stop import never_stop


class GcsStore:
    """A prefix in a bucket.

    :param fs: The file system of the store's connection (gcsfs), whose client and credentials are used.
    :param bucket: The bucket.
    :param prefix: What the objects' names begin with, with or without a slash at its end.
    """

    def __init__(self, fs: Any, bucket: str, prefix: str) -> None:
        self.requests = GcsRequests(fs, bucket, prefix)
        self._parts = Parts(self.requests)

    def prepare(self, needed: int) -> None:
        """See that the bucket answers, and what earlier processes have left."""
        self._parts.look()

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""

        def head(name: str) -> Stored | None:
            item = self.requests.head(name)
            return None if item is None else stored_as(item)

        return find_in(names, self.requests.listed, head)

    def open(self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None) -> GcsSink:
        """Begin a file, or go on with one."""
        longest = max(part_size, longest or 0)
        group, others = self._parts.resume(name, version_of(origin), part_size, longest)
        return GcsSink(self.requests, self._parts, name, origin, group=group, others=others, replace=replace)

    def sha256(
        self, name: str, announced: Mapping[str, str] | None = None, go_on: Callable[[], None] = never_stop
    ) -> str:
        """Return the digest of an object's bytes."""
        item = self.requests.head(name)
        if item is None:
            raise DestinationError("the object is not there any more", target=self.requests.target(name))
        read = partial(self.requests.read, name, generation=item["generation"])
        return self.requests.digest(name, int(item.get("size", 0)), read, announced, go_on)

    def settle(self, names: Iterable[str]) -> None:
        """Remove what is left of parts that were joined or given up."""
        self._parts.settle()

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        return self.requests.read_small(name)

    def small_names(self, start: str) -> Iterable[str]:
        """Return the names of small objects that begin so."""
        return self.requests.sizes(start)

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        self.requests.upload(name, Body(data))

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        self.requests.remove([name])
