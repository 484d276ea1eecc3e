"""The last step of a task that came in shards: the proof that all is there, and the manifest that says so."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from airflow_provider_taskdl.exceptions import DestinationError, IntegrityError
from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint
from airflow_provider_taskdl.transfer.job import Result
from airflow_provider_taskdl.transfer.manifest import Entry, ShardManifest, manifest_name, read_shard, write_entries
from airflow_provider_taskdl.transfer.names import check_names
from airflow_provider_taskdl.transfer.progress import human_bytes
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.sinks.base import Store

log = logging.getLogger(__name__)

_AGAIN = "run {} again (clear the task with this map index; only what is missing is fetched), then this task"


def join(store: Store, remote_task_id: str, count: int, *, path_of: Callable[[str], str]) -> Result:
    """Write a task's manifest from those of its shards, once they prove that all of its files are there.

    What it reads is left as it is, so it can be done again.

    :param store: The destination.
    :param remote_task_id: The task.
    :param count: How many shards there are.
    :param path_of: Gives the path of a name in the store.
    :returns: All files in the service's order; its seconds are those of the slowest shard.
    :raises IntegrityError: A shard or a file is missing, or the shards are not of one listing.
    :raises UnsafeFileNameError: A manifest names what is no file of this destination.
    :raises DestinationError: The store refused.
    """
    shards = _read(store, remote_task_id, count)
    check_names(entry.name for shard in shards for entry in shard.files)
    entries = _verified(store, remote_task_id, _in_order(shards))
    whole = tuple(entry.model_copy(update={"path": path_of(entry.name)}) for entry in entries)
    name = manifest_name(remote_task_id)
    write_entries(store, name, remote_task_id, whole)
    with suppress(DestinationError):  # what an earlier manifest proved; from here on the new one does
        StoreCheckpoint(store).clear(remote_task_id)
    log.info("Task %s: %d shards have brought all of its %d files (%s); the manifest is %s",
             remote_task_id, count, len(whole), human_bytes(sum(e.size for e in whole)), path_of(name))  # fmt: skip
    return Result(whole, path_of(name), name, max(shard.seconds for shard in shards))


def _read(store: Store, remote_task_id: str, count: int) -> Sequence[ShardManifest]:
    """Return the manifests of all shards, of which each file is in one."""
    found = [read_shard(store, remote_task_id, Shard(index, count)) for index in range(count)]
    shards = [shard for shard in found if shard is not None]
    if len(shards) < count:
        missing = _numbers(index for index, shard in enumerate(found) if shard is None)
        raise _failure(
            f"of {count} shards (counted from 0) there is no manifest of {missing}: not done yet, of another number of "
            f"shards, or at another destination; {_AGAIN.format(missing)}",
            remote_task_id,
        )
    kinds = Counter((shard.listing, shard.listed) for shard in shards)
    if len(kinds) > 1:
        usual, _ = kinds.most_common(1)[0]
        others = _numbers(shard.shard for shard in shards if (shard.listing, shard.listed) != usual)
        raise _failure(
            f"{others} of {count} (counted from 0) saw other names or sizes of files than the rest: the service's list "
            "changed meanwhile, or file_pattern differs; run all shards again (clear their task; only what is missing "
            "is fetched), then this task",
            remote_task_id,
        )
    names = Counter(entry.name for shard in shards for entry in shard.files)
    if len(names) != shards[0].listed or names.total() != shards[0].listed:
        raise _failure(
            f"the shards' manifests name {names.total()} files, {len(names)} of them different, where the task has "
            f"{shards[0].listed}; {_AGAIN.format('all shards')}",
            remote_task_id,
        )
    return shards


def _in_order(shards: Iterable[ShardManifest]) -> list[tuple[int, Entry]]:
    """Return all entries, each with its shard's number, in the service's order."""
    # By name where it has told two shards two orders.
    placed = sorted((place, entry.name, shard.shard, entry) for shard in shards
                    for place, entry in zip(shard.places, shard.files, strict=True))  # fmt: skip
    return [(shard, entry) for _, _, shard, entry in placed]


def _verified(store: Store, remote_task_id: str, entries: Sequence[tuple[int, Entry]]) -> Sequence[Entry]:
    """Return the entries as the store has the files now."""
    there = store.find(entry.name for _, entry in entries)
    proved, lost = [], []
    for shard, entry in entries:
        stored = there.get(entry.name)
        is_same = stored is not None and stored.size == entry.size
        if is_same and stored is not None and stored.version != entry.stored_version:
            # Put there once more, by a try that Airflow had given up maybe: the bytes decide.
            log.info("%s was replaced after its shard had brought it; reading it", entry.name)
            is_same = store.sha256(entry.name) == entry.sha256
            entry = entry.model_copy(update={"stored_version": stored.version})  # noqa: PLW2901
        if is_same:
            proved.append(entry)
        else:
            lost.append((shard, entry.name))
    if lost:
        names = ", ".join(name for _, name in lost[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
        raise _failure(
            f"{len(lost)} files are gone or are not what their shard brought: {names}; "
            f"{_AGAIN.format(_numbers(shard for shard, _ in lost))}",
            remote_task_id,
        )
    return proved


def _numbers(shards: Iterable[int]) -> str:
    found = sorted(set(shards))
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    return f"shard{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:20]))}{more}"


def _failure(message: str, remote_task_id: str) -> IntegrityError:
    # No retry of the join mends it: the shards have to.
    return IntegrityError(message, remote_task_id=remote_task_id, retryable=False)
