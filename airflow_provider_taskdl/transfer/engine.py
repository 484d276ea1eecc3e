"""Fetches the files of a plan: several at once, each verified before it shows."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from airflow_provider_taskdl.exceptions import IntegrityError, SourceChangedError, TaskDownloadError
from airflow_provider_taskdl.listing import RemoteFile
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.manifest import Entry
from airflow_provider_taskdl.transfer.progress import Progress
from airflow_provider_taskdl.transfer.reader import Cancelled, FileReader, RetryPolicy
from airflow_provider_taskdl.transfer.sinks.base import Sink, Store

log = logging.getLogger(__name__)

OnError = Literal["collect", "fail_fast"]

# A file that changes while it is read, or whose digest is wrong, is read once more from its start.
_READINGS = 2
_SECONDS_BETWEEN_SAVES = 5.0


@dataclass
class Outcome:
    """What became of the files.

    :ivar fetched: Those that arrived, by name.
    :ivar failed: The error of each that did not, by name.
    :ivar retries: Failures that were mended.
    """

    fetched: dict[str, Entry]
    failed: dict[str, TaskDownloadError]
    retries: int = 0


class Engine:
    """Moves files from links into a store.

    :param links: Gives the current link of each file.
    :param client: Fetches links.
    :param store: The destination.
    :param path_of: Gives a file's path for its record.
    :param concurrency: Files at once, and so connections.
    :param on_error: ``collect`` goes on with the other files, ``fail_fast`` stops them.
    :param replace: Whether files that are there may be replaced.
    :param retry: How patient to be with the network.
    :param cancelled: Set to stop; for a stop that comes before the engine does.
    """

    def __init__(
        self,
        *,
        links: LinkSource,
        client: LinkClient,
        store: Store,
        path_of: Callable[[str], str],
        concurrency: int,
        on_error: OnError,
        replace: bool,
        retry: RetryPolicy,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._links, self._client, self._store, self._path_of = links, client, store, path_of
        self._concurrency, self._on_error, self._replace, self._retry = concurrency, on_error, replace, retry
        self._cancelled = cancelled or threading.Event()
        self._retries = 0
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Stop: files that are on their way are given up, reads that wait end at once."""
        self._cancelled.set()
        self._client.close()

    def fetch(
        self, files: Sequence[RemoteFile], progress: Progress, save: Callable[[Mapping[str, Entry]], None]
    ) -> Outcome:
        """Fetch files and return what became of each.

        :param files: The files.
        :param progress: Counts bytes and files.
        :param save: Called now and then, and at the end, with what has arrived so far.
        :raises Exception: Whatever is no ``TaskDownloadError``; the other files are given up.
        """
        outcome = Outcome({}, {})
        finished: queue.SimpleQueue[tuple[RemoteFile, Future[Entry]]] = queue.SimpleQueue()
        saved_at, unsaved = time.monotonic(), False
        pool = ThreadPoolExecutor(max_workers=min(self._concurrency, max(len(files), 1)), thread_name_prefix="taskdl")
        try:
            for file in files:
                future = pool.submit(self._fetch_file, file, progress)
                future.add_done_callback(lambda done, file=file: finished.put((file, done)))  # type: ignore[misc]
            left = len(files)
            while left:
                try:
                    file, future = finished.get(timeout=0.5)
                except queue.Empty:
                    pass
                else:
                    left -= 1
                    unsaved |= self._note(file, future, outcome)
                if line := progress.due_line():
                    log.info("%s", line)
                if unsaved and time.monotonic() - saved_at > _SECONDS_BETWEEN_SAVES:
                    save(outcome.fetched)
                    saved_at, unsaved = time.monotonic(), False
        except BaseException:  # a kill or a time-out of the task arrives here too
            self.cancel()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            outcome.retries = self._retries
            if self._take_late(finished, outcome) or unsaved:
                save(outcome.fetched)
        return outcome

    @staticmethod
    def _take_late(finished: queue.SimpleQueue[tuple[RemoteFile, Future[Entry]]], outcome: Outcome) -> bool:
        """Take over what arrived while the pool was brought to a stop; tell whether something did."""
        before = len(outcome.fetched)
        while not finished.empty():
            file, future = finished.get_nowait()
            if not future.cancelled() and future.exception() is None:
                outcome.fetched[file.name] = future.result()
        return len(outcome.fetched) > before

    def _note(self, file: RemoteFile, future: Future[Entry], outcome: Outcome) -> bool:
        """Take over one file's result; tell whether it arrived."""
        try:
            outcome.fetched[file.name] = future.result()
            return True
        except Cancelled:
            return False
        except TaskDownloadError as error:
            outcome.failed[file.name] = error
            log.warning("%s failed: %s", file.name, error)
            if self._on_error == "fail_fast":
                self.cancel()
            return False

    def _fetch_file(self, file: RemoteFile, progress: Progress) -> Entry:
        for reading in range(1, _READINGS + 1):
            reader = FileReader(file, self._links, self._client, self._retry, self._cancelled)
            try:
                return self._fetch_once(file, reader, progress)
            except (SourceChangedError, IntegrityError) as error:
                progress.add(-reader.position)
                if reading == _READINGS:
                    error.file = file.name
                    raise
                log.info("%s is read again from its start: %s", file.name, error)
            except TaskDownloadError as error:
                progress.add(-reader.position)
                error.file = file.name
                raise
            finally:
                reader.close()
                with self._lock:
                    self._retries += reader.retries
        raise AssertionError("unreachable")

    def _fetch_once(self, file: RemoteFile, reader: FileReader, progress: Progress) -> Entry:
        reader.open()
        sink = self._store.open(file.name, size=reader.size, replace=self._replace)
        try:
            digests = Digests(reader.digests)
            self._pump(reader, sink, digests, progress)
            digests.verify()
            stored = sink.commit()
        except BaseException:
            sink.abort()
            raise
        progress.file_done()
        return Entry(
            name=file.name,
            size=reader.position,
            sha256=digests.sha256,
            source_etag=reader.etag,
            path=self._path_of(file.name),
            time=datetime.now(timezone.utc),
            stored_version=stored.version,
        )

    def _pump(self, reader: FileReader, sink: Sink, digests: Digests, progress: Progress) -> None:
        size = sink.chunk_size if reader.size is None else max(1, min(sink.chunk_size, reader.size))
        buffer = memoryview(bytearray(size))
        offset = filled = 0
        while True:
            count = reader.readinto(buffer[filled:])
            progress.add(count)
            filled += count
            if filled and (count == 0 or filled == len(buffer)):
                digests.update(buffer[:filled])
                sink.write(offset, buffer[:filled])
                offset, filled = offset + filled, 0
            if count == 0:
                return
