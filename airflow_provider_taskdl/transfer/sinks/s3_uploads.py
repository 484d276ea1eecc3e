"""Unfinished multipart uploads, and the small records by which a later process finds them again.

Each upload has a record of its own, so that two processes at one file do not lose sight of each other's. The store
lists uploads too, but not whose they are: one that no record of ours names is never touched.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER, Origin, Stored
from airflow_provider_taskdl.transfer.sinks.s3_requests import MISSING, S3Requests, stored_as

MAX_PARTS = 10_000
# An object without a first byte.
_EMPTY = frozenset({"416", "InvalidRange"})
_FOLDER = f"{OWN_FOLDER}/uploads/"
_MAX_RECORD = 64 * 1024
# In the object's metadata: by which upload it came.
_MARK = "taskdl-upload"
# After so long without a new part an upload's process is taken for dead.
_QUIET = timedelta(minutes=5)


class Record(BaseModel):
    """What a later process needs to go on with an upload. It holds no link and no credential."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    version: Literal[1] = 1
    bucket: str
    key: str
    upload_id: str = Field(min_length=1, max_length=4096)
    mark: str = Field(min_length=1, max_length=64)
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

    :param place: Its record's key.
    :param record: What the record says.
    :param parts: Number → size and ETag of what the store has.
    :param is_gone: Whether the store does not know it any more: it was completed or aborted.
    :param is_published: Whether it was completed, by a process that did not live to tell.
    :param is_quiet: Whether nothing of it has come for long.
    """

    place: str
    record: Record
    parts: dict[int, tuple[int, str]] = field(default_factory=dict)
    is_gone: bool = False
    is_published: bool = False
    is_quiet: bool = False

    @property
    def id(self) -> str:
        """The store's name for it."""
        return self.record.upload_id

    @property
    def part_size(self) -> int:
        """Bytes of each part but the last."""
        return self.record.part_size


class Uploads:
    """The unfinished uploads of one destination.

    :param requests: The bucket.
    :param bucket: Its name.
    :param prefix: What the destination's keys begin with: nothing, or something that ends in a slash.
    """

    def __init__(self, requests: S3Requests, bucket: str, prefix: str) -> None:
        self._requests, self._bucket, self.prefix = requests, bucket, prefix
        self._lock = threading.Lock()
        self._looked = False
        self._known: dict[str, set[str]] = {}  # a file's records
        self._own: set[str] = set()  # records of uploads that this process began or went on with
        self._given_up: set[str] = set()  # or would have to if its file is begun once more
        self._seen: dict[str, dict[int, tuple[int, str]]] = {}  # what others had when their file was begun here

    def look(self) -> None:
        """List the records once, so that a file without one costs no request.

        :raises DestinationError: The store refused.
        """
        pages = self._requests.pages("list_objects_v2", Prefix=f"{self.prefix}{_FOLDER}")
        places = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        with self._lock:
            for place in places:
                self._known.setdefault(_group_of(place), set()).add(place)
        self._looked = True

    def resume(self, name: str, origin: Origin, part_size: int) -> Upload | None:
        """Return what an earlier process has left of a file, if that is certainly the same version.

        What is not gone on with stays until the file is there, see :meth:`settle`: its process may be alive.

        :param name: The file.
        :param origin: Its version at the host.
        :param part_size: The longest part that may be held in memory.
        :raises DestinationError: The store refused.
        """
        places = [place for place in self._places(name) if place not in self._given_up]
        found = [upload for place in places if (upload := self._examine(name, place)) is not None]
        usable = [upload for upload in found if self._is_usable(upload, origin, part_size)]
        best = max(usable, key=lambda upload: len(upload.parts), default=None)
        with self._lock:
            self._seen.update((upload.place, upload.parts) for upload in found if upload is not best)
            if best is not None:
                self._own.add(best.place)
                self._given_up.add(best.place)
        return best

    def begin(self, name: str, origin: Origin, part_size: int) -> Upload:
        """Begin an upload and write its record.

        :raises DestinationError: The store refused.
        """
        key, mark = self.prefix + name, uuid.uuid4().hex
        upload_id = self._requests.call("create_multipart_upload", Key=key, Metadata={_MARK: mark})["UploadId"]
        place = f"{self._group(name)}-{mark}.json"
        upload = Upload(place, Record(
            bucket=self._bucket, key=key, upload_id=upload_id, mark=mark, part_size=part_size,
            size=origin.size, etag=origin.etag, modified=origin.modified,
        ))  # fmt: skip
        try:
            self._write(place, upload.record)
        except BaseException:
            with suppress(Exception):
                self.end(upload)
            raise
        with self._lock:
            self._own.add(place)
            self._given_up.add(place)
            self._known.setdefault(_group_of(place), set()).add(place)
        return upload

    def end(self, upload: Upload) -> None:
        """Abort an upload and remove its record.

        :raises DestinationError: The store refused; the record stays.
        """
        with self._lock:
            self._own.discard(upload.place)
        try:
            self._requests.call("abort_multipart_upload", Key=upload.record.key, UploadId=upload.id)
        except DestinationError as error:
            if error.code not in MISSING | {"NoSuchUpload"}:
                with suppress(DestinationError):  # so that no later process goes on with it
                    self._write(upload.place, upload.record.model_copy(update={"etag": None, "modified": None}))
                raise
        self._requests.call("delete_object", Key=upload.place)
        with self._lock:
            self._known.get(_group_of(upload.place), set()).discard(upload.place)

    def published(self, upload: Upload, size: int, *, unmarked: bool = False) -> Stored | None:
        """Return what the store says of the object that an upload has become; ``None`` if it is none, or another's.

        :param upload: The upload.
        :param size: Its bytes.
        :param unmarked: Whether an object without any mark will do: some stores do not keep them.
        :raises DestinationError: The store refused.
        """
        try:
            answer = self._requests.call("head_object", Key=upload.record.key)
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        marks = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        mark = marks.get(_MARK, upload.record.mark if unmarked else None)
        stored = stored_as(int(answer["ContentLength"]), answer.get("ETag"))
        return stored if mark == upload.record.mark and stored.size == size else None

    def settle(self, name: str) -> None:
        """Remove the records of a file that is there. Never raises.

        An upload of another process that is still there is aborted if that process seems to be dead: nothing came since
        the file was begun here, or for long.

        :param name: The file, which a checkpoint speaks of by now.
        """
        if not self._known:
            return
        with self._lock:
            places = self._known.pop(self._group(name), ())
        for place in places:
            with suppress(DestinationError):  # one that stays is for the next process to judge
                upload = None if place in self._own else self._examine(name, place)
                if upload is None or upload.is_gone:
                    self._requests.call("delete_object", Key=place)
                elif upload.is_quiet or upload.parts == self._seen.get(place):
                    self.end(upload)

    def _write(self, place: str, record: Record) -> None:
        self._requests.put("put_object", memoryview(record.model_dump_json().encode()), Key=place)

    def _places(self, name: str) -> Iterable[str]:
        if not self._looked:
            self.look()
        with self._lock:
            return tuple(self._known.get(self._group(name), ()))

    def _group(self, name: str) -> str:
        return f"{self.prefix}{_FOLDER}{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def _examine(self, name: str, place: str) -> Upload | None:
        """Return the upload that a record speaks of, as it is now; ``None`` if the record says nothing of use.

        :raises DestinationError: The store refused.
        """
        try:
            answer = self._requests.call("get_object", Key=place, Range=f"bytes=0-{_MAX_RECORD}")
            record = Record.model_validate_json(self._requests.read(answer, place))
        except ValidationError:
            return None
        except DestinationError as error:
            if error.code in MISSING | _EMPTY:
                return None
            raise
        # One that was copied here along with the files speaks of another place's upload.
        if (record.bucket, record.key) != (self._bucket, self.prefix + name):
            return None
        upload, now = Upload(place, record), _now(answer)
        last = answer.get("LastModified", now)
        try:
            for page in self._requests.pages("list_parts", Key=record.key, UploadId=record.upload_id):
                for part in page.get("Parts", ()):
                    upload.parts[int(part["PartNumber"])] = (int(part["Size"]), part["ETag"])
                    last = max(last, part.get("LastModified", last))
        except DestinationError as error:
            if error.code not in MISSING | {"NoSuchUpload"}:
                raise
            upload.is_gone = True
        upload.is_quiet = now - last > _QUIET
        return upload

    def _is_usable(self, upload: Upload, origin: Origin, part_size: int) -> bool:
        """Tell whether an upload can become the file; fill in all parts of one that has."""
        record, size, length = upload.record, origin.size or 0, upload.record.part_size
        if not origin.is_certain or record.origin != origin or length > part_size or -(-size // length) > MAX_PARTS:
            return False
        lengths = {number: min(length, size - start) for number, start in enumerate(range(0, size, length), 1)}
        if upload.is_gone:
            if self.published(upload, size) is None:
                return False
            upload.parts, upload.is_published = {number: (count, "") for number, count in lengths.items()}, True
        return all(lengths.get(number) == count for number, (count, _) in upload.parts.items())


def _group_of(place: str) -> str:
    return place.rpartition("-")[0]


def _now(answer: Any) -> datetime:
    """Return the time by the store's own clock, or by ours if it does not say."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(timezone.utc)
    except (KeyError, ValueError):
        return datetime.now(timezone.utc)
