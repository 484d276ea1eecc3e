"""What is to be done, decided before any byte moves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from airflow_provider_taskdl.exceptions import (
    ConnectionConfigError,
    DestinationExistsError,
    IntegrityError,
    TaskNotReadyError,
)
from airflow_provider_taskdl.listing import FileListing, RemoteFile
from airflow_provider_taskdl.transfer.manifest import Entry, checkpoint_name, manifest_name, read_entries, shard_records
from airflow_provider_taskdl.transfer.names import check_names
from airflow_provider_taskdl.transfer.shard import Portion, Shard
from airflow_provider_taskdl.transfer.sinks.base import Store, Stored

Overwrite = Literal["verified", "always", "never"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A task's files at one destination.

    :param remote_task_id: The task.
    :param files: The chosen files, in the service's order.
    :param kept: Those that are there already, by name, with what proves it.
    :param portion: The shard that they are, if they are not all.
    """

    remote_task_id: str
    files: tuple[RemoteFile, ...]
    kept: Mapping[str, Entry]
    portion: Portion | None = None

    @property
    def shard(self) -> Shard | None:
        """The shard, if it is one."""
        return self.portion.shard if self.portion else None

    @property
    def to_fetch(self) -> tuple[RemoteFile, ...]:
        """The files that are to be fetched."""
        return tuple(file for file in self.files if file.name not in self.kept)


def choose(
    listing: FileListing, *, pattern: str | Sequence[str] | None = None, expected: int | Collection[str] | None = None
) -> tuple[RemoteFile, ...]:
    """Return the files that are wanted.

    :param listing: The task's files.
    :param pattern: Shell pattern, or several, that a file's name must match; all files without one.
    :param expected: How many files there must then be, or the names that must be among them.
    :raises TaskNotReadyError: There is no file, one has no link, or fewer than expected are there.
    :raises UnsafeFileNameError: A name of the listing is no good.
    :raises ConnectionConfigError: No file matches ``pattern``.
    :raises IntegrityError: There are more files than expected.
    """
    task = listing.remote_task_id
    if not listing.is_ready:
        linked = sum(file.link is not None for file in listing.files)
        lack = f"only {linked} of the task's {len(listing.files)} files have a link" if linked else (
            "the task has no links yet")  # fmt: skip
        raise TaskNotReadyError(f"{lack}; wait for them with DownloadLinkSensor or wait_for_link=True",
                                remote_task_id=task)  # fmt: skip
    check_names(file.name for file in listing.files)
    patterns = [pattern] if isinstance(pattern, str) else pattern
    files = tuple(f for f in listing.files if patterns is None or any(fnmatchcase(f.name, p) for p in patterns))
    if not files:
        names = ", ".join(file.name for file in listing.files[:10])
        raise ConnectionConfigError(f"no file of the task matches {pattern!r}; it has {names}", remote_task_id=task)
    there = f"the task has {len(files)} files" + ("" if patterns is None else f" that match {pattern!r}")
    if isinstance(expected, int):
        if len(files) < expected:
            raise TaskNotReadyError(f"{there}, {expected} are expected", remote_task_id=task)
        if len(files) > expected:
            raise IntegrityError(f"{there}, only {expected} are expected", remote_task_id=task, retryable=False)
    elif expected is not None and (missing := sorted(set(expected) - {file.name for file in files})):
        raise TaskNotReadyError(f"expected files are missing: {', '.join(missing[:10])}", remote_task_id=task)
    return files


def make_plan(
    files: Sequence[RemoteFile], store: Store, *, remote_task_id: str, overwrite: Overwrite,
    path_of: Callable[[str], str], unfinished: Mapping[str, Entry] | None, shard: Shard | None = None,
) -> Plan:  # fmt: skip
    """Decide which files are there already.

    A file is kept if a manifest, or the checkpoint of a try that did not finish, has it with the size that the service
    lists, and what the store has is still what was stored then.

    :param files: The chosen files.
    :param store: The destination.
    :param remote_task_id: The task.
    :param overwrite: ``verified``, ``always`` or ``never``.
    :param path_of: Gives a file's path for the manifest.
    :param unfinished: What arrived in tries that did not finish, by name; ``None`` if there was none.
    :param shard: Which of the chosen files; all without one.
    :raises DestinationExistsError: ``never``, and there is a file that is not of an unfinished try of this task.
    :raises DestinationError: The destination could not be read.
    """
    portion = shard.of(files) if shard else None
    files = portion.files if portion else files
    names = [file.name for file in files]
    proofs: dict[str, Entry] = {}
    if overwrite != "always":
        proofs.update(unfinished or {})
    if overwrite == "verified":
        proofs = {**_finished(store, remote_task_id, shard), **proofs}
    in_doubt = overwrite == "never" or (shard is not None and overwrite == "verified")
    there = store.find(names if in_doubt else [name for name in names if name in proofs])

    def proved(by: Mapping[str, Entry]) -> dict[str, Entry]:
        return {f.name: by[f.name] for f in files if f.name in by and _is_same(f, by[f.name], there.get(f.name))}

    kept = proved(proofs)
    if shard is not None and overwrite == "verified" and len(kept) < len(there):
        kept = {**proved(_of_all_shards(store, remote_task_id)), **kept}
    kept = {
        name: entry.model_copy(update={"outcome": "skipped", "path": path_of(name)}) for name, entry in kept.items()
    }
    # One that an unfinished try does not know of may be its own, from just before a kill: see when it is fetched.
    taken = [name for name in there if name not in kept and (unfinished is None or name in unfinished)]
    if overwrite == "never" and taken:
        raise DestinationExistsError(
            f"overwrite='never', and {len(taken)} of the files are there already: {', '.join(taken[:10])}",
            remote_task_id=remote_task_id,
        )
    return Plan(remote_task_id, tuple(files), kept, portion)


def _is_same(file: RemoteFile, entry: Entry, stored: Stored | None) -> bool:
    return (
        stored is not None
        and entry.size == stored.size
        and entry.stored_version == stored.version
        and file.size in (None, entry.size)
    )


def _finished(store: Store, remote_task_id: str, shard: Shard | None) -> Mapping[str, Entry]:
    """Return what earlier runs have told of, by name."""
    names = [manifest_name(remote_task_id)]
    if shard is not None:
        # Another shard may be taking the manifest back just now: it copies it to the second, then removes the first.
        names += [checkpoint_name(remote_task_id), manifest_name(remote_task_id, shard)]
    return _newest(store, remote_task_id, names)


def _of_all_shards(store: Store, remote_task_id: str) -> Mapping[str, Entry]:
    """Return what all shards have told of: a file is another's when the listing or the number of shards has changed."""
    start = shard_records(remote_task_id)
    return _newest(store, remote_task_id, [name for name in store.small_names(start) if name.endswith(".json")])


def _newest(store: Store, remote_task_id: str, names: Iterable[str]) -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for name in names:
        for entry in (read_entries(store, name, remote_task_id) or {}).values():
            if entry.name not in found or entry.time >= found[entry.name].time:
                found[entry.name] = entry
    return found
