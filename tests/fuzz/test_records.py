"""Whatever lies in a store under the name of one of our records is input: believed as far as it proves itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import DestinationError, TaskDownloadError
from airflow_provider_taskdl.listing import Link, RemoteFile
from airflow_provider_taskdl.transfer.join import join
from airflow_provider_taskdl.transfer.manifest import Entry, format_entries, manifest_name, parse_entries
from airflow_provider_taskdl.transfer.plan import make_plan
from airflow_provider_taskdl.transfer.progress import closing_table
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.journal import Journal
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.s3_uploads import MAX_PARTS, Record, Uploads
from tests.fuzz.campaign import Several, every, family, judge, texts
from tests.fuzz.test_api_answers import POISON, WRAPS, changed
from tests.temporary import temporary_folder

_ROOT = temporary_folder("fuzz-records-")
SHA = "a" * 64
TASK = "t-1"
PART = 1024
ORIGIN = Origin(10 * PART + 1, '"e"', "Wed, 21 Oct 2015 07:28:00 GMT")
_STORE = LocalStore(_ROOT / "store")
_STORE.prepare(0)
for _name in ("a", "b"):
    (_STORE.root / _name).write_bytes(b"123")
_VERSIONS = {name: stored.version for name, stored in _STORE.find(["a", "b"]).items()}


def _entry(name: str) -> dict[str, Any]:
    time = "2025-01-01T00:00:00Z"
    return {"name": name, "size": 3, "sha256": SHA, "path": name, "time": time, "stored_version": _VERSIONS[name]}


MANIFEST = {"version": 1, "remote_task_id": TASK, "files": [_entry("a"), _entry("b")]}
SHARD = {
    "version": 1, "remote_task_id": TASK, "files": [_entry("a")], "shard": 0, "of": 2, "listing": SHA, "listed": 2,
    "places": [0], "seconds": 1.5,
}  # fmt: skip
RECORD = {"version": 1, "bucket": "b", "key": "p/f", "upload_id": "u", "mark": "m", "part_size": PART, **asdict(ORIGIN)}
HEADER = {"version": 1, "part_size": PART, "origin": asdict(ORIGIN)}
_scalars = st.one_of(st.sampled_from([*POISON, 1, 2, 10, PART, "a", "b", "../b", "b/../a", TASK, "t-2"]), texts)
_change = st.tuples(
    st.integers(0, 40), st.sampled_from(["set", "set", "drop", "double", "rename"]),
    st.one_of(_scalars, st.lists(_scalars, max_size=2)),
)  # fmt: skip
_wraps = st.sampled_from([*WRAPS, lambda body: body[:-7], lambda body: b"\x00" * len(body)])


def _dump(document: Any, changes: list[tuple[int, str, Any]], wrap: Callable[[bytes], bytes]) -> bytes:
    return wrap(json.dumps(changed(document, changes), ensure_ascii=True).encode())


def records(document: Any) -> st.SearchStrategy[bytes]:
    """A record that something happened to."""
    return st.one_of(st.builds(_dump, st.just(document), st.lists(_change, max_size=3), _wraps), st.binary(max_size=60))


@family(content=Several(records(MANIFEST)), listed=every(None, 3, 4), overwrite=every("verified", "always"))
def test_any_manifest_keeps_only_files_that_are_there(content: bytes, listed: int | None, overwrite: Any) -> None:
    entries = parse_entries(content, TASK) or {}
    assert all(isinstance(entry, Entry) and entry.name == name for name, entry in entries.items())
    assert parse_entries(format_entries(TASK, entries.values()), TASK) == entries
    closing_table(list(entries.values()), [])
    (_STORE.root / manifest_name(TASK)).write_bytes(content)
    files = [RemoteFile(name, Link("https://h.example/f"), listed) for name in ("a", "b")]
    plan = make_plan(
        files, _STORE, remote_task_id=TASK, overwrite=overwrite, path_of=lambda name: f"/d/{name}", unfinished={}
    )
    assert overwrite == "verified" or not plan.kept
    for name, entry in plan.kept.items():
        assert (entry.name, entry.size, entry.path) == (name, 3, f"/d/{name}")
        assert entry.stored_version == _VERSIONS[name]
        assert listed in (None, 3)


@family(content=Several(records(SHARD)), other=Several(records({**SHARD, "shard": 1, "files": [_entry("b")]}), 3))
def test_any_manifests_of_shards_are_joined_only_to_files_that_are_there(content: bytes, other: bytes) -> None:
    for index, text in enumerate((content, other)):
        (_STORE.root / manifest_name(TASK, Shard(index, 2))).write_bytes(text)
    try:
        result = join(_STORE, TASK, 2, path_of=lambda name: f"/d/{name}")
    except TaskDownloadError as error:
        judge(error)
        return
    assert {entry.name for entry in result.entries} <= {"a", "b"}
    assert len(result.entries) == len({entry.name for entry in result.entries})
    for entry in result.entries:
        assert (entry.size, entry.path, entry.stored_version) == (3, f"/d/{entry.name}", _VERSIONS[entry.name])
    assert parse_entries(_STORE.read_small(manifest_name(TASK)), TASK) == {e.name: e for e in result.entries}
    json.dumps(result.summary(), allow_nan=False)


class Bucket:
    """The requests of a bucket that holds one record, and what was asked of it."""

    def __init__(self, record: bytes, parts: list[tuple[int, int]] | None) -> None:
        self._record, self._parts = record, parts
        self.aborted: list[tuple[str, str]] = []

    def pages(self, operation: str, **params: Any) -> Iterator[Any]:
        if operation == "list_objects_v2":
            yield {"Contents": [{"Key": Uploads(self, "b", "p/")._group("f") + "-m.json"}]}  # type: ignore[arg-type]
        elif self._parts is None:
            raise DestinationError("no such upload", code="NoSuchUpload")
        else:
            yield {"Parts": [{"PartNumber": number, "Size": size, "ETag": "e"} for number, size in self._parts]}

    def read(self, answer: Any, key: str) -> bytes:
        content: bytes = answer["Body"].read()
        return content

    def call(self, operation: str, **params: Any) -> Any:
        if operation == "abort_multipart_upload":
            self.aborted.append((params["Key"], params["UploadId"]))
        if operation == "head_object":
            return {"ContentLength": ORIGIN.size, "Metadata": {"taskdl-upload": "m"}}
        return {"Body": io.BytesIO(self._record)}


_parts = st.none() | st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0, 1, PART, PART, PART + 1])), max_size=4)


@family(
    content=Several(records(RECORD)),
    parts=Several(_parts, 3),
    origin=every(ORIGIN, Origin(5, '"x"'), Origin(None, None)),
)
def test_any_upload_record_is_gone_on_with_only_for_the_same_file(
    content: bytes, parts: list[tuple[int, int]] | None, origin: Origin
) -> None:
    bucket = Bucket(content, parts)
    uploads = Uploads(bucket, "b", "p/")  # type: ignore[arg-type]
    try:
        upload = uploads.resume("f", origin, PART)
    except TaskDownloadError as error:
        judge(error)
        return
    uploads.settle("f")
    assert all(key == "p/f" for key, _ in bucket.aborted), "an upload that is not ours"
    if upload is not None:
        assert Record.model_validate_json(content).origin == origin == ORIGIN
        assert 0 < upload.part_size <= PART
        size = ORIGIN.size or 0
        assert -(-size // upload.part_size) <= MAX_PARTS
        for number, (length, _) in upload.parts.items():
            assert length == min(upload.part_size, size - (number - 1) * upload.part_size) > 0


_line = st.one_of(
    st.builds(
        lambda end, sha: json.dumps({"end": end, "sha256": sha}).encode(),
        st.one_of(st.integers(1, 11).map(lambda n: min(n * PART, ORIGIN.size or 0)), _scalars),
        st.one_of(st.just(SHA), _scalars),
    ),
    st.binary(max_size=10),
)


@family(
    header=Several(records(HEADER)),
    lines=Several(st.lists(_line, max_size=6), 5),
    between=every(b"\n", b"\r\n", b""),
)
def test_any_journal_gives_an_unbroken_row_of_parts_from_the_start(
    header: bytes, lines: list[bytes], between: bytes
) -> None:
    path = _ROOT / "journal"
    path.write_bytes(between.join([b"", header, *lines]))
    journal = Journal.open(path, ORIGIN, PART, PART)
    try:
        size = ORIGIN.size or 0
        assert 0 < journal.part_size <= PART
        ends = [*range(journal.part_size, size, journal.part_size), size]
        assert list(journal.digests) == ends[: len(journal.digests)]
        assert all(isinstance(sha, str) for sha in journal.digests.values())
        journal.add(size, SHA)
    finally:
        journal.close()
    again = Journal.open(path, ORIGIN, PART, PART)
    again.close()
    assert list(journal.digests.items()) == list(again.digests.items())[: len(journal.digests)]
