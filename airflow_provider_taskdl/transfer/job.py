"""The whole way of one task's files: plan, fetch, record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from airflow_provider_taskdl.exceptions import ConnectionConfigError, DestinationError, DownloadFailedError
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.transfer.checkpoint import Checkpoint, StoreCheckpoint
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.engine import Engine, OnError, Outcome
from airflow_provider_taskdl.transfer.file_transfer import Surroundings
from airflow_provider_taskdl.transfer.host_names import HostNames
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.manifest import Entry, manifest_name, read_entries, write_entries, write_shard
from airflow_provider_taskdl.transfer.plan import Overwrite, Plan, choose, make_plan
from airflow_provider_taskdl.transfer.progress import Progress, closing_table, human_bytes
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.sinks.base import Store
from airflow_provider_taskdl.transfer.sizes import PART_SIZE
from airflow_provider_taskdl.transfer.stop import Stop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of a transfer, of one that failed as well.

    :ivar bytes: Of the files that were fetched.
    :ivar fetched: Files.
    :ivar skipped: Files that were there already.
    :ivar failed: Files.
    :ivar retries: Failures that were mended.
    :ivar renewals: New listings for fresh links.
    :ivar seconds: How long it took, from the question for links to the end.
    """

    bytes: int = 0
    fetched: int = 0
    skipped: int = 0
    failed: int = 0
    retries: int = 0
    renewals: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a transfer gave.

    :ivar entries: All files, in the service's order.
    :ivar manifest: The manifest's path.
    :ivar manifest_name: Its name relative to the destination.
    :ivar seconds: How long it took.
    """

    entries: tuple[Entry, ...]
    manifest: str
    manifest_name: str
    seconds: float

    def summary(self) -> dict[str, int | float]:
        """Return the numbers that go through XCom."""
        return {
            "files": len(self.entries),
            "bytes": sum(entry.size for entry in self.entries),
            "skipped": sum(entry.outcome == "skipped" for entry in self.entries),
            "seconds": round(self.seconds, 3),
        }


class DownloadJob:
    """Brings a task's files to a store.

    :param list_files: Asks the service for the task's files with fresh links.
    :param client: Fetches links; closed at the end.
    :param store: The destination.
    :param path_of: Gives the path of a name in the store, for records and results.
    :param pattern: Shell pattern, or several, for the names that are wanted.
    :param expected: How many files there must be, or names that must be among them.
    :param overwrite: ``verified``, ``always`` or ``never``.
    :param on_error: ``collect`` or ``fail_fast``.
    :param concurrency: Connections over all files.
    :param part_size: Bytes of a part; longer files are fetched in parts, several at once.
    :param retry: How patient to be with the network.
    :param checkpoint: Remembers what has arrived; beside the data by default.
    :param progress: Makes what counts files and bytes, from how many of each are to come.
    :param shard: Bring these of the files only; other jobs bring the others, maybe at the same time.
    :param check_names: Raises if one of these names is no good at the destination.
    :raises ConnectionConfigError: A parameter is none of these.
    :ivar totals: The numbers of the transfer, once it is over, however it ended.
    :ivar entries: The files that are there, once it is over, however it ended.
    """

    def __init__(
        self,
        *,
        list_files: Callable[[], FileListing],
        client: LinkClient,
        store: Store,
        path_of: Callable[[str], str],
        pattern: str | Sequence[str] | None = None,
        expected: int | Collection[str] | None = None,
        overwrite: Overwrite = "verified",
        on_error: OnError = "collect",
        concurrency: int = 8,
        part_size: int = PART_SIZE,
        retry: RetryPolicy | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[int, int | None], Progress] = Progress,
        shard: Shard | None = None,
        check_names: Callable[[Iterable[str]], None] = lambda names: None,
    ) -> None:
        if overwrite not in ("verified", "always", "never"):
            raise ConnectionConfigError(f"overwrite must be 'verified', 'always' or 'never', not {overwrite!r}")
        if on_error not in ("collect", "fail_fast"):
            raise ConnectionConfigError(f"on_error must be 'collect' or 'fail_fast', not {on_error!r}")
        if not 1 <= concurrency <= 256:
            raise ConnectionConfigError(f"concurrency must be 1 ... 256, not {concurrency}")
        self._client, self._store, self._path_of, self._check_names = client, store, path_of, check_names
        self._pattern, self._expected, self._overwrite, self._on_error = pattern, expected, overwrite, on_error
        self._concurrency, self._part_size, self._retry = concurrency, part_size, retry or RetryPolicy()
        self._cancelled = Stop()
        self._checkpoint: Checkpoint = checkpoint or StoreCheckpoint(store, shard)
        self._shard = shard
        self._list_files = HostNames(
            list_files, client, retry=self._retry, cancelled=self._cancelled, concurrency=concurrency
        )
        self._make_progress = progress
        self._engine: Engine | None = None
        self.totals = Totals()
        self.entries: tuple[Entry, ...] = ()

    def run(self) -> Result:
        """Fetch what is not there yet and return all of it.

        :raises TaskApiError: The service did not list the files.
        :raises TaskDownloadError: The error of the one file that failed, or why nothing was begun.
        :raises DownloadFailedError: Several files failed. What arrived stays, and a later run goes on from there.
        """
        began = time.monotonic()
        try:
            listing = self._list_files()
            self._check_names(file.name for file in listing.files)
            files = choose(listing, pattern=self._pattern, expected=self._expected)
            unfinished = self._checkpoint.load(listing.remote_task_id)
            plan = make_plan(
                files,
                self._store,
                remote_task_id=listing.remote_task_id,
                overwrite=self._overwrite,
                path_of=self._path_of,
                unfinished=unfinished,
                shard=self._shard,
            )
            links = LinkSource(listing, self._list_files, self._retry)
            return self._carry_out(plan, links, is_first=unfinished is None)
        finally:
            self._client.close()
            self.totals = replace(self.totals, seconds=time.monotonic() - began)

    def cancel(self) -> None:
        """Stop the transfer from another thread or a signal; nothing half-written stays under a file's name."""
        self._cancelled.set()
        self._client.close()
        if self._engine is not None:
            self._engine.cancel()

    def _carry_out(self, plan: Plan, links: LinkSource, *, is_first: bool) -> Result:
        task, name = plan.remote_task_id, manifest_name(plan.remote_task_id, plan.shard)
        sizes = [file.size for file in plan.to_fetch]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        self._store.prepare(sum(size or 0 for size in sizes))
        self._store.settle(plan.kept)  # a process may have been killed between its checkpoint and this
        if is_first and self._overwrite == "never":
            self._save(plan, {})  # so that the try after a kill knows that there was one
        log.info("Task %s%s: files to fetch: %d%s; there already: %d", task, _which(plan), len(sizes),
                 "" if total is None else f" ({human_bytes(total)})", len(plan.kept))  # fmt: skip
        if plan.to_fetch:
            self._withdraw_manifest(plan)
        progress = self._make_progress(len(sizes), total)
        around = Surroundings(
            links=links,
            client=self._client,
            store=self._store,
            path_of=self._path_of,
            replace=self._overwrite != "never",
            retry=self._retry,
            progress=progress,
        )
        self._engine = Engine(
            around,
            concurrency=self._concurrency,
            part_size=self._part_size,
            on_error=self._on_error,
            cancelled=self._cancelled,
        )
        outcome = self._engine.outcome
        try:
            self._engine.fetch(plan.to_fetch, lambda fetched: self._save(plan, fetched))
        finally:  # a kill or a time-out as well
            self.entries = entries = _in_order(plan, outcome.fetched)
            self.totals = Totals(
                bytes=sum(entry.size for entry in outcome.fetched.values()),
                fetched=len(outcome.fetched),
                skipped=len(plan.kept),
                failed=len(outcome.failed),
                retries=outcome.retries,
                renewals=self._list_files.renewals + links.renewals,
            )
        log.info(
            "%s; %d failures mended, %d new listings for fresh links", progress.line(), outcome.retries, links.renewals
        )
        log.info("\n%s", closing_table(entries, [(name, error.message) for name, error in outcome.failed.items()]))
        if len(entries) < len(plan.files):
            raise _failure(plan, outcome)
        seconds = progress.seconds
        if plan.portion is None:
            write_entries(self._store, name, task, entries)
        else:
            write_shard(self._store, task, plan.portion, entries, seconds=seconds)
        self._store.settle(outcome.fetched)
        with suppress(DestinationError):  # from here on the manifest holds, whatever else lies beside it
            self._checkpoint.clear(task)
        return Result(entries, self._path_of(name), name, seconds)

    def _withdraw_manifest(self, plan: Plan) -> None:
        """Take back an earlier run's manifest: it says that everything is there, and something is not."""
        task = plan.remote_task_id
        own, whole = manifest_name(task, plan.shard), manifest_name(task)
        there = self._store.find([own, whole])
        if own in there:
            self._save(plan, {})  # what it proves is kept there
            self._store.remove_small(own)
        if whole in there and whole != own:
            # What it proves is kept for the other shards, too, one of which may be doing this very thing.
            aside, entries = StoreCheckpoint(self._store), read_entries(self._store, whole, task) or {}
            known = aside.load(task) or {}
            if any(name not in known or known[name].time < entry.time for name, entry in entries.items()):
                aside.save(task, tuple(entries.values()))
            self._store.remove_small(whole)

    def _save(self, plan: Plan, fetched: Mapping[str, Entry]) -> bool:
        """Keep a checkpoint, for the try after this one. Without it that try only has more to do."""
        try:
            self._checkpoint.save(plan.remote_task_id, _in_order(plan, fetched))
        except DestinationError as error:
            log.warning("The checkpoint could not be written: %s", error)
            return False
        self._store.settle(fetched)
        return True


def _which(plan: Plan) -> str:
    portion = plan.portion
    return f", {portion.shard} ({len(portion.files)} of {portion.listed} files)" if portion else ""


def _in_order(plan: Plan, fetched: Mapping[str, Entry]) -> tuple[Entry, ...]:
    found = {**plan.kept, **fetched}
    return tuple(found[file.name] for file in plan.files if file.name in found)


def _failure(plan: Plan, outcome: Outcome) -> Exception:
    errors = [outcome.failed[file.name] for file in plan.files if file.name in outcome.failed]
    for error in errors:
        error.remote_task_id = plan.remote_task_id
    if len(errors) == 1:
        return errors[0]
    if not errors:
        return DownloadFailedError("the transfer was cancelled", remote_task_id=plan.remote_task_id, retryable=True)
    reasons = "; ".join(f"{error.file}: {error.message}" for error in errors[:10])
    more = f"; and {len(errors) - 10} more" if len(errors) > 10 else ""
    return DownloadFailedError(
        f"{len(errors)} of {len(plan.files)} files failed: {reasons}{more}",
        errors=errors,
        remote_task_id=plan.remote_task_id,
    )
