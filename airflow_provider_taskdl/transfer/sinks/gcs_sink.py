"""One file on its way into a bucket of Google's: in one request, or in parts that the store joins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.async_store import MARK, AsyncSink, Body
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored
from airflow_provider_taskdl.transfer.sinks.gcs_parts import Group, Parts
from airflow_provider_taskdl.transfer.sinks.gcs_requests import GcsRequests, stored_as

# As many objects as the store joins at once.
_JOINED = 32


class GcsSink(AsyncSink):
    """A file on its way into a bucket.

    :param requests: The destination.
    :param parts: The parts that lie there.
    :param name: The file's name there.
    :param origin: Its version at the host.
    :param group: Its own parts, those too that an earlier process has left.
    :param others: What else earlier processes have left of the file, and no longer is of use.
    :param replace: Whether an object of that name may be replaced.
    """

    def __init__(
        self,
        requests: GcsRequests,
        parts: Parts,
        name: str,
        origin: Origin,
        *,
        group: Group,
        others: Sequence[Group],
        replace: bool,
    ) -> None:
        super().__init__(requests, name, origin, part_size=group.part_size, in_parts=bool(group.sizes))
        self._requests, self._parts, self._name, self._replace = requests, parts, name, replace
        self._group, self._others = group, others
        self._held = {number for number, size in group.sizes.items() if size == self._length(number)}

    def commit(self) -> Stored:
        """Publish the file, then remove its parts and what else nobody goes on with."""
        stored = super().commit()
        with suppress(DestinationError):  # what is its own is tried once more
            if self._in_parts:
                self._discard()
            for other in self._others:
                self._parts.clear_abandoned(other)
        return stored

    def _discard(self) -> None:
        gone, self._group = self._group, Group(self._group.folder, self._group.version, self.part_size)
        gone.sizes.clear()  # it is remembered, and this process may begin the file once more
        self._parts.clear(gone.place)

    def _send_part(self, number: int, data: memoryview) -> None:
        body = Body(data)
        try:
            sent = self._requests.upload(self._group.name_of(number), body, begun=self._may_be_cancelled)
        finally:
            body.take_back()
        if int(sent.get("size", 0)) != len(data):
            raise DestinationError(
                f"the store has {sent.get('size', 0)} bytes of a part of {len(data)}", target=self._target
            )
        self._group.sizes[number] = len(data)

    def _put(self, data: bytearray) -> Stored:
        head, tail, kind = around(data, self._requests.path_of(self._name), self._metadata(len(data)))
        condition = {} if self._replace else {"ifGenerationMatch": "0"}
        with memoryview(data) as view:
            body = Body(head, view, tail)
            try:
                return self._published(len(data), lambda: self._requests.upload(
                    self._name, body, begun=self._may_be_cancelled,
                    content_type=kind, uploadType="multipart", **condition,
                ))  # fmt: skip
            finally:
                body.take_back()

    def _complete(self) -> Stored:
        self._check(size := sum(self._group.sizes.values()))
        parts, level = [self._group.name_of(number) for number in sorted(self._group.sizes)], 0
        while len(parts) > _JOINED:
            level += 1
            joined = [f"{self._group.place}joined-{level}-{at:06d}" for at in range(0, len(parts), _JOINED)]
            for number, name in enumerate(joined):
                some = parts[number * _JOINED : (number + 1) * _JOINED]
                self._requests.join(some, name, {}, replace=True, begun=self._may_be_cancelled)
            parts = joined
        return self._published(size, lambda: self._requests.join(
            parts, self._name, self._metadata(size), replace=self._replace, begun=self._may_be_cancelled
        ))  # fmt: skip

    def _published(self, size: int, work: Callable[[], Any]) -> Stored:
        """Send the request that gives the object its name, and see what the store has then."""
        try:
            item, refused = work(), None
        except DestinationError as error:
            if self._replace or error.code != "412":
                raise
            # Its own mark tells it from another's: by a request whose answer was lost, it may be there for all that.
            item, refused = self._requests.head(self._name), error
        if refused is not None and (item is None or item.get("metadata", {}).get(MARK) != self._mark):
            raise DestinationExistsError("there is something of this name already", target=self._target)
        if int(item.get("size", 0)) != size:
            raise DestinationError(
                f"{size} bytes were written, the store has {item.get('size', 0)}", target=self._target
            )
        return stored_as(item)


def around(data: bytearray, name: str, metadata: Mapping[str, str]) -> tuple[bytes, bytes, str]:
    """Return what goes before and after an object's bytes to tell its name and what it bears, and the type (RFC 2387).

    :param data: The bytes.
    :param name: The object's whole name.
    :param metadata: What it bears.
    """
    mark = hashlib.sha256(data).hexdigest()  # which the data do not hold
    line, facts = b"--%b" % mark.encode(), json.dumps({"name": name, "metadata": dict(metadata)}).encode()
    head = [line, b"Content-Type: application/json; charset=UTF-8", b"", facts,
            line, b"Content-Type: application/octet-stream", b"", b""]  # fmt: skip
    return b"\r\n".join(head), b"\r\n%b--" % line, f"multipart/related; boundary={mark}"
