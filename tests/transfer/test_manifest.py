"""The record is believed only if it is whole, of this task and of a version that is known."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.transfer.manifest import (
    Entry,
    checkpoint_name,
    manifest_name,
    read_entries,
    write_entries,
)
from airflow_provider_taskdl.transfer.sinks.local import LocalStore

GOOD: dict[str, Any] = {
    "name": "a.tif", "size": 3, "sha256": "0" * 64, "source_etag": '"t"', "path": "s3://b/a.tif",
    "time": "2025-01-01T00:00:00Z", "outcome": "fetched", "stored_version": "etag:x",
}  # fmt: skip


class Fixed(LocalStore):
    """A store that holds one text."""

    def __init__(self, content: bytes | None) -> None:
        super().__init__(Path("/nowhere"))
        self.content = content

    def read_small(self, name: str) -> bytes | None:
        return self.content

    def write_small(self, name: str, data: bytes) -> None:
        self.content = data


def document(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "remote_task_id": "t", "files": [GOOD], **changes}


def entries(content: object) -> list[str]:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return list(read_entries(Fixed(text), "any", "t") or ())


def test_what_was_written_is_read() -> None:
    store, entry = Fixed(None), Entry(**GOOD)
    write_entries(store, "any", "t", [entry])
    assert read_entries(store, "any", "t") == {"a.tif": entry}
    assert json.loads(store.content or b"") == document()


def test_manifest_and_checkpoint_lie_in_our_own_folder() -> None:
    assert manifest_name("t-1") == "_taskdl/t-1.json"
    assert checkpoint_name("t-1") == "_taskdl/t-1.partial.json"


def test_fields_of_a_friendly_later_writer_are_let_be() -> None:
    assert entries(document(more=1, files=[{**GOOD, "more": 2}])) == ["a.tif"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"files": []}', json.dumps(document()).encode()[:-1],
        document(version=2), document(version="2"), document(version=None),
        document(remote_task_id="u"), document(remote_task_id=None), document(remote_task_id=["t"]),
        document(files=None), document(files={}), document(files=[None]), document(files=[{}]),
        *(document(files=[{**GOOD, name: value}]) for name, value in [
            ("size", -1), ("size", "many"), ("size", 1.5), ("size", None), ("sha256", "0" * 63), ("sha256", "G" * 64),
            ("sha256", ""), ("name", None), ("path", 5), ("time", "yesterday"),
            ("time", "2025-01-01T00:00:00"), ("outcome", "failed"),
        ]),
    ],
)  # fmt: skip
def test_what_is_damaged_foreign_or_of_a_later_version_proves_nothing(content: object) -> None:
    assert entries(content) == []


def test_what_is_not_there_proves_nothing() -> None:
    assert read_entries(Fixed(None), "any", "t") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["version", "remote_task_id", "files", *GOOD]))
def test_any_value_in_any_place_is_taken_or_ignored(value: Any, place: str) -> None:
    forged = document(files=[{**GOOD, place: value}]) if place in GOOD else document(**{place: value})
    for entry in (read_entries(Fixed(json.dumps(forged).encode()), "any", "t") or {}).values():
        assert entry.size >= 0
        assert len(entry.sha256) == 64
        assert isinstance(entry.time, datetime)


@given(st.integers(0, 400), st.binary(max_size=4))
def test_any_damage_is_noticed_or_harmless(place: int, junk: bytes) -> None:
    text = json.dumps(document(), indent=1).encode()
    damaged = text[:place] + junk + text[place + len(junk) :]
    read = read_entries(Fixed(damaged), "any", "t")
    assert all(entry.size >= 0 for entry in (read or {}).values())


@given(st.text(max_size=20), st.integers(0), st.text(max_size=20) | st.none())
def test_every_entry_survives_its_record(name: str, size: int, etag: str | None) -> None:
    store = Fixed(None)
    now = datetime.now(timezone.utc)
    entry = Entry(name=name, size=size, sha256="a" * 64, source_etag=etag, path=name, time=now)
    write_entries(store, "any", "t", [entry])
    assert read_entries(store, "any", "t") == {name: entry}
