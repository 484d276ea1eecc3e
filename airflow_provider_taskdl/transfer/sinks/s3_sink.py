"""One file on its way into a bucket: in one request, or as an upload whose parts come in any order."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks.base import Origin, Stored
from airflow_provider_taskdl.transfer.sinks.parted import PartedSink
from airflow_provider_taskdl.transfer.sinks.s3_requests import S3Requests, stored_as
from airflow_provider_taskdl.transfer.sinks.s3_uploads import Upload, Uploads


class S3Sink(PartedSink):
    """A file on its way into a bucket.

    :param requests: The bucket.
    :param uploads: The destination's unfinished uploads.
    :param name: The file's name at the destination.
    :param origin: Its version at the host.
    :param part_size: Bytes of a part, unless ``upload`` has others.
    :param replace: Whether an object of that name may be replaced.
    :param upload: What an earlier process has left of it.
    """

    def __init__(
        self,
        requests: S3Requests,
        uploads: Uploads,
        name: str,
        origin: Origin,
        *,
        part_size: int,
        replace: bool,
        upload: Upload | None,
    ) -> None:
        self._requests, self._uploads = requests, uploads
        self._name, self._key, self._replace = name, uploads.prefix + name, replace
        super().__init__(
            requests.target(self._key),
            origin,
            part_size=upload.part_size if upload else part_size,
            held=frozenset(upload.parts) if upload else (),
            in_parts=upload is not None,
        )
        self._upload, self._beginning = upload, threading.Lock()

    def stop(self) -> None:
        """End the requests that are sending bytes."""
        self._requests.stop(self._stop)

    def _discard(self) -> None:
        if self._upload is not None:
            self._uploads.end(self._upload)
            self._upload = None

    def _send_part(self, number: int, data: memoryview) -> None:
        with self._beginning:
            if self._upload is None:
                self._upload = self._uploads.begin(self._name, self._origin, self.part_size)
        upload = self._upload
        etag = self._requests.put(
            "upload_part", data, stop=self._stop, Key=self._key, UploadId=upload.id, PartNumber=number
        )
        upload.parts[number] = (len(data), etag)

    def _put(self, data: bytearray) -> Stored:
        digest = hashlib.sha256(data).hexdigest()

        def request(conditional: bool) -> str:
            fields, params = {"x-amz-meta-sha256": digest}, {"Key": self._key, "Metadata": {"sha256": digest}}
            if conditional:
                fields["If-None-Match"] = params["IfNoneMatch"] = "*"
            with memoryview(data) as view:
                return self._requests.put("put_object", view, stop=self._stop, fields=fields, **params)

        return stored_as(len(data), self._requests.publish(self._key, self._replace, request))

    def _complete(self) -> Stored:
        upload = self._upload
        parts = upload.parts if upload else {}
        self._check(size := sum(length for length, _ in parts.values()))
        assert upload is not None  # noqa: S101 - for mypy: no parts, no size that is right
        listed = [{"PartNumber": number, "ETag": etag} for number, (_, etag) in sorted(parts.items())]

        def request(conditional: bool) -> Any:
            condition = {"IfNoneMatch": "*"} if conditional else {}
            return self._requests.call(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=upload.id,
                MultipartUpload={"Parts": listed},
                **condition,
            )

        if not upload.is_published:
            try:
                self._requests.publish(self._key, self._replace, request)
            except (DestinationError, DestinationExistsError) as error:
                # Both are what a try meets whose forerunner was done and only its answer lost.
                is_late = isinstance(error, DestinationExistsError) or error.code == "NoSuchUpload"
                if not is_late or self._uploads.published(upload, size) is None:
                    raise
        self._done = True
        # Its own mark tells it from what another process may have put there since.
        stored = self._uploads.published(upload, size, unmarked=not upload.is_published)
        if stored is None:
            raise DestinationError(
                f"the store has not the {size} bytes that were written, or no longer", target=self._target
            )
        return stored
