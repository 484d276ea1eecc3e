"""One file on its way into a bucket: in one request, or as an upload whose parts come in any order."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored
from airflow_provider_taskdl.transfer.sinks.s3_requests import stored_as
from airflow_provider_taskdl.transfer.sinks.s3_uploads import Upload
from airflow_provider_taskdl.transfer.stop import Stop

if TYPE_CHECKING:
    from airflow_provider_taskdl.transfer.sinks.s3 import S3Store

_MIB = 1024 * 1024
# Up to this a file waits in memory for its commit; a longer one goes to the store as it comes.
_ONE_REQUEST = 8 * _MIB
# A file of unknown length may turn out to be very long: after so many parts they double in length.
_DOUBLE_AFTER = 2000
_WAIT_FOR_PARTS = 5.0


class S3Sink:
    """A file on its way into a bucket.

    :param store: The destination.
    :param name: The file's name there.
    :param origin: Its version at the host.
    :param part_size: Bytes of a part, unless ``upload`` has others.
    :param replace: Whether an object of that name may be replaced.
    :param upload: What an earlier process has left of it.
    """

    ordered = False
    chunk_size = _MIB

    def __init__(
        self, store: S3Store, name: str, origin: Origin, *, part_size: int, replace: bool, upload: Upload | None
    ) -> None:
        self._store, self._name, self._origin, self._replace = store, name, origin, replace
        self._key = store.prefix + name
        self.part_size = upload.part_size if upload else part_size
        self._upload = upload
        self._held = frozenset(upload.parts) if upload else frozenset()
        self._is_small = origin.size is not None and origin.size <= min(self.part_size, _ONE_REQUEST) and not upload
        self._buffer, self._position, self._next = bytearray(), 0, 1
        self._stop, self._done, self._flying = Stop(), False, 0
        self._beginning, self._landing = threading.Lock(), threading.Condition()

    def holds(self, start: int, end: int) -> bool:
        """Tell whether a part is in the upload that an earlier process began."""
        number, rest = divmod(start, self.part_size)
        return rest == 0 and number + 1 in self._held and end - start == self._length(number + 1)

    def read_back(self, start: int, view: memoryview) -> None:
        """Give nothing: a store lets nothing of an upload be read before it is completed."""

    def note(self, end: int, sha256: str) -> None:
        """Remember nothing: a digest helps only those who can read the bytes after it."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take a part, in any order and from any thread, or the next bytes of the whole."""
        number, rest = divmod(offset, self.part_size)
        is_part = self._origin.size is not None and not self._is_small and not self._buffer and rest == 0
        if is_part and len(data) == self._length(number + 1):
            self._send(number + 1, data)
        else:
            self._append(offset, data)

    def commit(self) -> Stored:
        """Complete the upload and see what the store has then; a small file is sent now."""
        if self._upload is None and (self._is_small or self._origin.size is None):
            stored = self._put()
        else:
            stored = self._complete()
        self._done = True
        return stored

    def stop(self) -> None:
        """End the requests that are sending bytes."""
        self._store.requests.stop(self._stop)

    def abort(self, *, keep: bool = False) -> None:
        """Stop the threads that still write, then leave the upload to a later process or abort it."""
        if self._done:
            return
        self._done = True
        self.stop()
        with self._landing:  # a part that arrives after the abort would stay there, unseen and paid for
            self._landing.wait_for(lambda: self._flying == 0, _WAIT_FOR_PARTS)
        self._buffer = bytearray()
        if self._upload is not None and not (keep and self._origin.is_certain):
            with suppress(Exception):
                self._store.uploads.end(self._upload)

    def _length(self, number: int) -> int:
        """Return how many bytes a part has."""
        if self._origin.size is None:
            return self.part_size << ((number - 1) // _DOUBLE_AFTER)
        return min(self.part_size, self._origin.size - (number - 1) * self.part_size)

    def _append(self, offset: int, data: memoryview) -> None:
        if offset == 0 and self._position:
            self._begin_anew()
        if offset != self._position:
            raise ValueError(f"bytes for offset {offset} came at {self._position}")
        if self._origin.size is not None and offset + len(data) > self._origin.size:
            raise ValueError(f"bytes came beyond the end, {self._origin.size}")
        while data:
            taken = data[: self._length(self._next) - len(self._buffer)]
            self._buffer += taken
            self._position, data = self._position + len(taken), data[len(taken) :]
            if len(self._buffer) == self._length(self._next) and not self._is_small:
                self._flush()

    def _begin_anew(self) -> None:
        self._buffer, self._position, self._next = bytearray(), 0, 1
        if self._upload is not None:  # not every store takes other bytes for a part that it has
            self._store.uploads.end(self._upload)
            self._upload, self._held = None, frozenset()

    def _flush(self) -> None:
        with memoryview(self._buffer) as view:
            self._send(self._next, view)
        self._buffer, self._next = bytearray(), self._next + 1

    def _send(self, number: int, data: memoryview) -> None:
        with self._landing:
            if self._stop.is_set():
                raise DestinationError("the upload was given up", target=self._store.requests.target(self._key))
            self._flying += 1
        try:
            with self._beginning:
                if self._upload is None:
                    self._upload = self._store.uploads.begin(self._name, self._origin, self.part_size)
            upload = self._upload
            etag = self._store.requests.put(
                "upload_part", data, stop=self._stop, Key=self._key, UploadId=upload.id, PartNumber=number
            )
            upload.parts[number] = (len(data), etag)
        finally:
            with self._landing:
                self._flying -= 1
                self._landing.notify_all()

    def _put(self) -> Stored:
        digest = hashlib.sha256(self._buffer).hexdigest()

        def request(conditional: bool) -> str:
            fields, params = {"x-amz-meta-sha256": digest}, {"Key": self._key, "Metadata": {"sha256": digest}}
            if conditional:
                fields["If-None-Match"] = params["IfNoneMatch"] = "*"
            with memoryview(self._buffer) as view:
                return self._store.requests.put("put_object", view, stop=self._stop, fields=fields, **params)

        self._check(len(self._buffer))
        etag = self._store.publish(self._name, self._replace, request)
        return stored_as(len(self._buffer), etag)

    def _complete(self) -> Stored:
        if self._buffer:
            self._flush()
        upload = self._upload
        parts = upload.parts if upload else {}
        self._check(size := sum(length for length, _ in parts.values()))
        assert upload is not None  # noqa: S101 - for mypy: no parts, no size that is right
        listed = [{"PartNumber": number, "ETag": etag} for number, (_, etag) in sorted(parts.items())]

        def request(conditional: bool) -> Any:
            condition = {"IfNoneMatch": "*"} if conditional else {}
            return self._store.requests.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=upload.id,
                MultipartUpload={"Parts": listed},
                **condition,
            )

        if not upload.is_published:
            try:
                self._store.publish(self._name, self._replace, request)
            except (DestinationError, DestinationExistsError) as error:
                # Both are what a try meets whose forerunner was done and only its answer lost.
                is_late = isinstance(error, DestinationExistsError) or error.code == "NoSuchUpload"
                if not is_late or self._store.uploads.published(upload, size) is None:
                    raise
        self._done = True
        # Its own mark tells it from what another process may have put there since.
        stored = self._store.uploads.published(upload, size, unmarked=not upload.is_published)
        if stored is None:
            raise DestinationError(
                f"the store has not the {size} bytes that were written, or no longer",
                target=self._store.requests.target(self._key),
            )
        return stored

    def _check(self, size: int) -> None:
        wanted = self._origin.size
        if wanted is not None and wanted != size:
            raise DestinationError(
                f"{size} of {wanted} bytes were written", target=self._store.requests.target(self._key)
            )
