"""Unfinished multipart uploads, and the small records by which a later process finds them again.

The store lists uploads too, but not whose they are: one that no record of ours names is never touched.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER, Origin
from airflow_provider_taskdl.transfer.sinks.s3_requests import S3Requests

MAX_PARTS = 10_000
# Besides the plain answer "there is none"; a HEAD has no body that could say more.
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_FOLDER = f"{OWN_FOLDER}/uploads/"
_MAX_RECORD = 64 * 1024
# In the object's metadata: by which upload it came.
_MARK = "taskdl-upload"


class Record(BaseModel):
    """What a later process needs to go on with an upload. It holds no link and no credential."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    version: Literal[1] = 1
    bucket: str
    key: str
    upload_id: str = Field(min_length=1, max_length=4096)
    mark: str = Field(default="", max_length=64)
    part_size: int = Field(gt=0)
    size: int | None = Field(default=None, ge=0)
    etag: str | None = None
    modified: str | None = None

    @property
    def origin(self) -> Origin:
        """The version of the file at its host."""
        return Origin(self.size, self.etag, self.modified)


@dataclass(slots=True)
class Upload:
    """A multipart upload.

    :param id: The store's name for it.
    :param part_size: Bytes of each part but the last.
    :param parts: Number → size and ETag of what the store has.
    :param is_published: Whether the upload was completed, by a process that did not live to tell.
    """

    id: str
    part_size: int
    parts: dict[int, tuple[int, str]] = field(default_factory=dict)
    is_published: bool = False


class Uploads:
    """The unfinished uploads of one destination.

    :param requests: The bucket.
    :param bucket: Its name.
    :param prefix: What the destination's keys begin with: nothing, or something that ends in a slash.
    """

    def __init__(self, requests: S3Requests, bucket: str, prefix: str) -> None:
        self._requests, self._bucket, self._prefix = requests, bucket, prefix
        self._lock = threading.Lock()
        self._known: set[str] | None = None

    def look(self) -> None:
        """List the records once, so that a file without one costs no request.

        :raises DestinationError: The store refused.
        """
        pages = self._requests.pages("list_objects_v2", Prefix=f"{self._prefix}{_FOLDER}")
        known = {entry["Key"] for page in pages for entry in page.get("Contents", ())}
        with self._lock:
            self._known = known

    def resume(self, name: str, origin: Origin, part_size: int) -> Upload | None:
        """Return what an earlier process has left of a file, if that is certainly the same version.

        What is left of another version is aborted.

        :param name: The file.
        :param origin: Its version at the host.
        :param part_size: The longest part that may be held in memory.
        :raises DestinationError: The store refused.
        """
        record = self._read(name)
        if record is None:
            return None
        if origin.is_certain and record.origin == origin and record.part_size <= part_size:
            upload = Upload(record.upload_id, record.part_size)
            fits = -(-(origin.size or 0) // record.part_size) <= MAX_PARTS
            if fits and (self._find_parts(upload, record) or self._find_object(upload, record)):
                return upload
        with suppress(DestinationError):  # it may be gone, and a new one is begun in any case
            self.end(name, Upload(record.upload_id, record.part_size))
        return None

    def begin(self, name: str, origin: Origin, part_size: int) -> Upload:
        """Begin an upload and write its record.

        :raises DestinationError: The store refused.
        """
        key, mark = self._prefix + name, uuid.uuid4().hex
        upload_id = self._requests.call("create_multipart_upload", Key=key, Metadata={_MARK: mark})["UploadId"]
        upload = Upload(upload_id, part_size)
        try:
            record = Record(
                bucket=self._bucket, key=key, upload_id=upload_id, mark=mark, part_size=part_size,
                size=origin.size, etag=origin.etag, modified=origin.modified,
            )  # fmt: skip
            place = self._place(name)
            self._requests.put("put_object", memoryview(record.model_dump_json().encode()), Key=place)
            with self._lock:
                if self._known is not None:
                    self._known.add(place)
        except BaseException:
            with suppress(Exception):
                self.end(name, upload)
            raise
        return upload

    def end(self, name: str, upload: Upload) -> None:
        """Abort an upload and remove its record.

        :raises DestinationError: The store refused; the record stays.
        """
        try:
            self._requests.call("abort_multipart_upload", Key=self._prefix + name, UploadId=upload.id)
        except DestinationError as error:
            if error.code not in MISSING | {"NoSuchUpload"}:
                raise
        self._forget(name)

    def was_completed(self, name: str, upload: Upload) -> bool:
        """Tell whether an upload that the store does not know any more has become the file: only its answer was lost.

        :param name: The file.
        :param upload: Its upload.
        :raises DestinationError: The store refused.
        """
        record = self._read(name)
        return record is not None and record.upload_id == upload.id and self._find_object(upload, record)

    def settle(self, name: str) -> None:
        """Remove the record of an upload that was completed, if there is one. Never raises.

        :param name: The file, which a checkpoint speaks of by now.
        """
        if self._known and self._place(name) in self._known:
            with suppress(DestinationError):  # one that stays speaks of an upload that is no more
                self._forget(name)

    def _forget(self, name: str) -> None:
        place = self._place(name)
        self._requests.call("delete_object", Key=place)
        with self._lock:
            if self._known is not None:
                self._known.discard(place)

    def _place(self, name: str) -> str:
        return f"{self._prefix}{_FOLDER}{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def _read(self, name: str) -> Record | None:
        if self._known is None:
            self.look()
        place = self._place(name)
        if place not in (self._known or ()):
            return None
        try:
            content = self._requests.call("get_object", Key=place, Range=f"bytes=0-{_MAX_RECORD}")["Body"].read()
            record = Record.model_validate_json(content)
        except (DestinationError, ValidationError):
            return None  # damaged or unreadable: it is overwritten by the next
        # One that was copied here along with the files speaks of another place's upload.
        return record if (record.bucket, record.key) == (self._bucket, self._prefix + name) else None

    def _find_parts(self, upload: Upload, record: Record) -> bool:
        """Fill in what the store has of an upload; False if that is nothing, or not what we sent."""
        size = record.size or 0
        try:
            for page in self._requests.pages("list_parts", Key=record.key, UploadId=record.upload_id):
                for part in page.get("Parts", ()):
                    number, length = int(part["PartNumber"]), int(part["Size"])
                    if length != min(record.part_size, size - (number - 1) * record.part_size):
                        return False
                    upload.parts[number] = (length, part["ETag"])
        except DestinationError as error:
            if error.code in MISSING | {"NoSuchUpload"}:
                return False
            raise
        return True

    def _find_object(self, upload: Upload, record: Record) -> bool:
        """Tell whether an upload was completed, and fill in all parts if so."""
        try:
            answer = self._requests.call("head_object", Key=record.key)
        except DestinationError as error:
            if error.code in MISSING:
                return False
            raise
        marks = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        if not record.mark or marks.get(_MARK) != record.mark or int(answer["ContentLength"]) != record.size:
            return False
        for number, start in enumerate(range(0, record.size, record.part_size), 1):
            upload.parts[number] = (min(record.part_size, record.size - start), "")
        upload.is_published = True
        return True
