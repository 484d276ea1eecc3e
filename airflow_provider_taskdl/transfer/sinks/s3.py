"""S3 and what speaks its language: parts in any order and several at once, published in one step, resumable.

A file's upload shows nothing until it is completed. Its record, a small object beside the files, lets a later process
on any machine go on with it. Digests: a small file's sha256 is in its metadata; a longer one's cannot be, because an
upload's metadata are fixed before its bytes are known. The manifest has both.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored
from airflow_provider_taskdl.transfer.sinks.s3_requests import S3Requests, Tries
from airflow_provider_taskdl.transfer.sinks.s3_uploads import MAX_PARTS, MISSING, Upload, Uploads
from airflow_provider_taskdl.transfer.stop import Stop

_MIB = 1024 * 1024
_MAX_SMALL = 64 * _MIB
# Up to this a file waits in memory for its commit; a longer one goes to the store as it comes.
_ONE_REQUEST = 8 * _MIB
# From so many names on, one listing costs less than a question for each.
_LIST_FROM = 16
# A file of unknown length may turn out to be very long: after so many parts they double in length.
_DOUBLE_AFTER = 2000
_WAIT_FOR_PARTS = 5.0
# How stores refuse a condition that they do not know, and clients a parameter.
_UNCONDITIONAL = frozenset({"501", "NotImplemented", "InvalidArgument", "InvalidRequest", "ParamValidationError"})


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
        self._conditional = True

    def prepare(self, needed: int) -> None:
        """See that the bucket answers, and what earlier processes have left."""
        self.uploads.look()

    def find(self, names: Iterable[str]) -> Mapping[str, Stored]:
        """Return those of ``names`` that are there."""
        wanted = dict.fromkeys(names)
        listed = {name for name in wanted if "/" not in name} if len(wanted) >= _LIST_FROM else set()
        found: dict[str, Stored] = {}
        if listed:
            for page in self.requests.pages("list_objects_v2", Prefix=self.prefix, Delimiter="/"):
                for entry in page.get("Contents", ()):
                    if (name := entry["Key"].removeprefix(self.prefix)) in listed:
                        found[name] = _stored(int(entry["Size"]), entry.get("ETag"))
        for name in wanted:
            if name not in listed and (stored := self.head(name)) is not None:
                found[name] = stored
        return found

    def open(self, name: str, origin: Origin, *, part_size: int, replace: bool, longest: int | None = None) -> S3Sink:
        """Begin a file, or go on with one."""
        length = max(part_size, self.min_part_size, -(-(origin.size or 0) // MAX_PARTS))
        upload = self.uploads.resume(name, origin, max(length, longest or 0))
        return S3Sink(self, name, origin, part_size=length, replace=replace, upload=upload)

    def sha256(self, name: str, announced: Mapping[str, str] | None = None) -> str:
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
                    digests.update(memoryview(chunk))
                    position += len(chunk)
            except Exception as error:  # noqa: BLE001 - the client's errors cannot be named without importing it
                failures += 1
                problem = f"the object cannot be read: {type(error).__name__}"
            else:
                digests.verify()
                return digests.sha256
            if failures > 3 or position >= length:
                raise DestinationError(problem, target=self.requests.target(self.prefix + name))

    def read_small(self, name: str) -> bytes | None:
        """Return a small object's content, or ``None``."""
        try:
            answer = self.requests.call("get_object", Key=self.prefix + name)
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        with answer["Body"] as body:
            if int(answer["ContentLength"]) > _MAX_SMALL:
                return None
            try:
                content: bytes = body.read()
            except Exception as error:  # noqa: BLE001
                problem = f"the object cannot be read: {type(error).__name__}"
            else:
                return content
        raise DestinationError(problem, target=self.requests.target(self.prefix + name))

    def write_small(self, name: str, data: bytes) -> None:
        """Write a small object in one step."""
        self.requests.put("put_object", memoryview(data), Key=self.prefix + name)

    def remove_small(self, name: str) -> None:
        """Remove a small object, if it is there."""
        self.requests.call("delete_object", Key=self.prefix + name)

    def head(self, name: str) -> Stored | None:
        """Return what the store says of one object, or ``None``.

        :raises DestinationError: The store refused.
        """
        try:
            answer = self.requests.call("head_object", Key=self.prefix + name)
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        return _stored(int(answer["ContentLength"]), answer.get("ETag"))

    def publish(self, name: str, replace: bool, request: Any) -> Any:
        """Send the request that gives an object its name.

        :param name: The object.
        :param replace: Whether one that is there may be replaced.
        :param request: Sends it; told whether to add the condition that there is none.
        :raises DestinationExistsError: There is one, and it may not.
        :raises DestinationError: The store refused.
        """
        target = self.requests.target(self.prefix + name)
        if replace:
            return request(False)
        # Asked as well as demanded: some stores take the condition without a word and pay it no heed.
        if self.head(name) is None:
            if not self._conditional:
                return request(False)
            try:
                return request(True)
            except DestinationError as error:
                problem = error
            if problem.code in _UNCONDITIONAL:
                answer = request(False)
                self._conditional = False
                return answer
            if problem.code not in ("412", "PreconditionFailed"):
                raise problem
        raise DestinationExistsError("there is something of this name already", target=target)


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
                self._store.uploads.end(self._name, self._upload)

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
            self._store.uploads.end(self._name, self._upload)
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
        return _stored(len(self._buffer), etag)

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

        self._store.publish(self._name, self._replace, request)
        with suppress(DestinationError):
            self._store.uploads.forget(self._name)  # one that stays speaks of an upload that is no more
        self._done = True
        stored = self._store.head(self._name)
        if stored is None or stored.size != size:
            has = "nothing" if stored is None else f"{stored.size} bytes"
            raise DestinationError(
                f"{size} bytes were written, the store has {has}", target=self._store.requests.target(self._key)
            )
        return stored

    def _check(self, size: int) -> None:
        wanted = self._origin.size
        if wanted is not None and wanted != size:
            raise DestinationError(
                f"{size} of {wanted} bytes were written", target=self._store.requests.target(self._key)
            )


def _stored(size: int, etag: str | None) -> Stored:
    return Stored(size, f"etag:{etag}".replace('"', "") if etag else None)
