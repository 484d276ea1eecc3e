"""Where a transfer remembers, for the try after it, which files have arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from airflow_provider_taskdl.transfer.manifest import Entry, checkpoint_name, read_entries, write_entries
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.sinks.base import Store


class Checkpoint(Protocol):
    """A memory that outlives a process. What it gives is proved before it is believed."""

    def load(self, remote_task_id: str) -> Mapping[str, Entry] | None:
        """Return what arrived in tries that did not finish, by name; ``None`` if there was none."""

    def save(self, remote_task_id: str, entries: Sequence[Entry]) -> None:
        """Remember what has arrived; all of it, each time.

        :raises DestinationError: It could not be written.
        """

    def clear(self, remote_task_id: str) -> None:
        """Forget it: the manifest says it all.

        :raises DestinationError: It could not be removed.
        """


class StoreCheckpoint:
    """A small object beside the data.

    :param store: The destination.
    :param shard: The shard whose it is; each has one of its own, since they run at the same time.
    """

    def __init__(self, store: Store, shard: Shard | None = None) -> None:
        self._store, self._shard = store, shard

    def load(self, remote_task_id: str) -> Mapping[str, Entry] | None:
        """Return what arrived in tries that did not finish, by name; ``None`` if there was none."""
        return read_entries(self._store, checkpoint_name(remote_task_id, self._shard), remote_task_id)

    def save(self, remote_task_id: str, entries: Sequence[Entry]) -> None:
        """Remember what has arrived."""
        write_entries(self._store, checkpoint_name(remote_task_id, self._shard), remote_task_id, entries)

    def clear(self, remote_task_id: str) -> None:
        """Remove the object."""
        self._store.remove_small(checkpoint_name(remote_task_id, self._shard))
