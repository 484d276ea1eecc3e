"""The record of a transfer: what arrived, and what proves it. It lies beside the files and holds no link.

The manifest is written last, so its presence means that everything it lists is there. Until then the same record,
under another name, is the checkpoint from which a later try goes on. A shard of a task has both under names of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_taskdl.transfer.shard import Portion, Shard
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER, Store


class Entry(BaseModel):
    """One file that arrived.

    :ivar name: Its name.
    :ivar size: Bytes.
    :ivar sha256: Of its bytes, hexadecimal.
    :ivar source_etag: The ETag the file host gave.
    :ivar path: Where it lies, as ``ObjectStoragePath`` opens it.
    :ivar time: When it arrived.
    :ivar outcome: ``fetched`` in this run, or ``skipped`` because an earlier one had.
    :ivar stored_version: The store's own mark of the content, to see later whether it is still the same.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source_etag: str | None = None
    path: str
    time: AwareDatetime
    outcome: Literal["fetched", "skipped"] = "fetched"
    stored_version: str | None = None


class Manifest(BaseModel):
    """All files of one task at one destination, in the service's order."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal[1] = 1
    remote_task_id: str
    files: tuple[Entry, ...]


class ShardManifest(Manifest):
    """All files of one shard, and what shows that other shards belong to the same whole.

    :ivar shard: Its number, from 0 on.
    :ivar of: How many shards there are.
    :ivar listing: Fingerprint of the whole listing.
    :ivar listed: How many files that has.
    :ivar places: Where each of ``files`` stands in it, from 0 on.
    :ivar seconds: How long the shard took.
    """

    shard: int
    of: int
    listing: str
    listed: int
    places: tuple[int, ...]
    seconds: float = Field(ge=0, allow_inf_nan=False)


def manifest_name(remote_task_id: str, shard: Shard | None = None) -> str:
    """Return the manifest's name relative to the destination."""
    return f"{OWN_FOLDER}/{remote_task_id}.{f'{shard.label}.' if shard else ''}json"


def checkpoint_name(remote_task_id: str, shard: Shard | None = None) -> str:
    """Return the checkpoint's name relative to the destination."""
    return f"{OWN_FOLDER}/{remote_task_id}.{f'{shard.label}.' if shard else ''}partial.json"


def shard_records(remote_task_id: str) -> str:
    """Return what the names of all manifests and checkpoints of a task's shards begin with."""
    return f"{OWN_FOLDER}/{remote_task_id}.shard-"


def read_entries(store: Store, name: str, remote_task_id: str) -> Mapping[str, Entry] | None:
    """Return the entries of a manifest or checkpoint by file name, or ``None`` if there is none.

    One that is damaged, of another task or of a later version counts as none: it is input like any other.

    :raises DestinationError: The store refused to read it.
    """
    return parse_entries(store.read_small(name), remote_task_id)


def parse_entries(content: bytes | str | None, remote_task_id: str) -> Mapping[str, Entry] | None:
    """Return the entries in the text of a manifest or checkpoint, as :func:`read_entries` does."""
    if content is None:
        return None
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        return None
    return {entry.name: entry for entry in manifest.files} if manifest.remote_task_id == remote_task_id else None


def write_entries(store: Store, name: str, remote_task_id: str, entries: Iterable[Entry]) -> None:
    """Write a manifest or checkpoint in one step.

    :raises DestinationError: The store refused.
    """
    store.write_small(name, format_entries(remote_task_id, entries, indent=2).encode())


def format_entries(remote_task_id: str, entries: Iterable[Entry], *, indent: int | None = None) -> str:
    """Return the text of a manifest or checkpoint."""
    return Manifest(remote_task_id=remote_task_id, files=tuple(entries)).model_dump_json(indent=indent)


def read_shard(store: Store, remote_task_id: str, shard: Shard) -> ShardManifest | None:
    """Return a shard's manifest, or ``None`` if there is none that is whole.

    :raises DestinationError: The store refused to read it.
    """
    content = store.read_small(manifest_name(remote_task_id, shard))
    try:
        found = ShardManifest.model_validate_json(content or b"")
    except ValidationError:
        return None
    own = (found.remote_task_id, found.shard, found.of) == (remote_task_id, shard.index, shard.count)
    return found if own and len(found.places) == len(found.files) else None


def write_shard(
    store: Store, remote_task_id: str, portion: Portion, entries: Iterable[Entry], *, seconds: float
) -> None:
    """Write a shard's manifest in one step.

    :raises DestinationError: The store refused.
    """
    manifest = ShardManifest(
        remote_task_id=remote_task_id,
        shard=portion.shard.index,
        of=portion.shard.count,
        listing=portion.listing,
        listed=portion.listed,
        places=portion.places,
        seconds=round(seconds, 3),
        files=tuple(entries),
    )
    name = manifest_name(remote_task_id, portion.shard)
    store.write_small(name, manifest.model_dump_json(indent=2).encode())
