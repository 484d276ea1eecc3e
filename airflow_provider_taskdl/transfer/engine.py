"""Fetches the files of a plan: several at once, and parts of a big one at once, under one budget of connections."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.listing import RemoteFile
from airflow_provider_taskdl.transfer.file_transfer import Buffer, FileTransfer, Piece, Surroundings
from airflow_provider_taskdl.transfer.manifest import Entry
from airflow_provider_taskdl.transfer.stop import Stop

log = logging.getLogger(__name__)

OnError = Literal["collect", "fail_fast"]

_SECONDS_BETWEEN_SAVES = 5.0
# A checkpoint holds all files, and may be long: saving takes no more than this share of the time.
_SHARE_OF_SAVES = 0.05
_MIB = 1024 * 1024
# Parts smaller than this cost more in requests than they gain.
_MIN_PART = 8 * _MIB


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
    """Runs the pieces of all files on a fixed number of workers, each with one connection and one part's memory.

    :param around: What all files share.
    :param concurrency: Workers.
    :param part_size: Bytes of a part at most.
    :param on_error: ``collect`` goes on with the other files, ``fail_fast`` stops them.
    :param cancelled: Set to stop; for a stop that comes before the engine does.
    :ivar outcome: What became of the files until now.
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        concurrency: int,
        part_size: int,
        on_error: OnError,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._around, self._concurrency, self._part_size = around, concurrency, part_size
        self._on_error = on_error
        self._cancelled = cancelled or Stop()
        self.outcome = Outcome({}, {})
        # Reentrant: a signal may cancel in the middle of anything.
        self._change = threading.Condition(threading.RLock())
        self._queued: deque[RemoteFile] = deque()
        self._pieces: deque[Piece] = deque()
        self._busy = 0
        self._begun: set[FileTransfer] = set()
        self._ended: queue.SimpleQueue[FileTransfer] = queue.SimpleQueue()
        self._crash: BaseException | None = None
        self._unsaved = 0

    def cancel(self) -> None:
        """Stop: files that are on their way are given up, reads that wait end at once."""
        with self._change:
            self._cancelled.set()
            self._queued.clear()
            for transfer in self._begun:
                transfer.stop()
            self._change.notify_all()
        self._around.client.close()

    def fetch(self, files: Sequence[RemoteFile], save: Callable[[Mapping[str, Entry]], bool]) -> Outcome:
        """Fetch files and return what became of each.

        :param files: The files.
        :param save: Called now and then, and at the end, with what has arrived so far; tells whether it is kept.
        :raises Exception: Whatever is no ``TaskDownloadError``; the other files are given up.
        """
        outcome = self.outcome
        saved_at, not_before, unsaved = time.monotonic(), 0.0, False
        self._queued.extend(files)
        if self._cancelled.is_set():
            self.cancel()
        workers: list[threading.Thread] = []
        try:
            for number in range(self._concurrency):
                workers.append(threading.Thread(target=self._work, name=f"taskdl-{number}"))
                workers[-1].start()
            while any(worker.is_alive() for worker in workers):
                unsaved |= self._note(outcome, timeout=0.1)
                if self._cancelled.is_set():
                    self.cancel()
                if line := self._around.progress.due_line():
                    log.info("%s", line)
                now = time.monotonic()
                # After a kill no more is fetched again than one part's worth, or a few seconds'.
                due = self._unsaved >= self._part_size or now - saved_at > _SECONDS_BETWEEN_SAVES
                if unsaved and due and now >= not_before:
                    unsaved = not save(outcome.fetched)
                    saved_at, self._unsaved = time.monotonic(), 0
                    not_before = saved_at + (saved_at - now) / _SHARE_OF_SAVES
        except BaseException:  # a kill or a time-out of the task arrives here too
            self.cancel()
            raise
        finally:
            for worker in workers:
                if worker.ident is not None:
                    worker.join()
            while not self._ended.empty():
                unsaved |= self._note(outcome, timeout=0.0)
            if unsaved:
                save(outcome.fetched)
        if self._crash is not None:
            raise self._crash
        return outcome

    def _note(self, outcome: Outcome, timeout: float) -> bool:
        """Take over one file's result, if there is one; tell whether a file arrived."""
        try:
            transfer = self._ended.get(timeout=timeout)
        except queue.Empty:
            return False
        name, error = transfer.file.name, transfer.error
        outcome.retries += transfer.retries
        if transfer.entry is not None:
            outcome.fetched[name] = transfer.entry
            self._unsaved += transfer.entry.size
            return True
        if isinstance(error, TaskDownloadError):
            outcome.failed[name] = error
            log.warning("%s failed: %s", name, error)
            if self._on_error == "fail_fast":
                self.cancel()
        return False

    def _work(self) -> None:
        buffer = Buffer()
        while (piece := self._next()) is not None:
            following: Sequence[Piece] = ()
            try:
                following = piece.transfer.run(piece, buffer)
            except BaseException as error:  # noqa: BLE001 - a mistake of ours; the main thread raises it
                self._crash = self._crash or error
                self.cancel()
            finally:
                self._done(piece.transfer, following)

    def _next(self) -> Piece | None:
        """Return the next piece: of a file that is begun, so that few are open at once, else of the next file."""
        with self._change:
            while True:
                if self._pieces:
                    self._busy += 1
                    return self._pieces.popleft()
                if self._queued:
                    self._busy += 1
                    return Piece(self._begin(self._queued.popleft()))
                if not self._busy:
                    self._change.notify_all()
                    return None
                self._change.wait()

    def _begin(self, file: RemoteFile) -> FileTransfer:
        transfer = FileTransfer(file, self._around, part_size=self._part_size_for(file), longest=self._part_size)
        self._begun.add(transfer)
        return transfer

    def _part_size_for(self, file: RemoteFile) -> int:
        """Return how finely to split: so that the connections which no other file needs have something to do."""
        smallest = min(_MIN_PART, self._part_size)
        if len(self._queued) >= self._concurrency:
            return self._part_size
        if file.size is None:
            return smallest
        share = -(-file.size // self._concurrency)
        return max(smallest, min(self._part_size, -(-share // _MIB) * _MIB))

    def _done(self, transfer: FileTransfer, following: Sequence[Piece]) -> None:
        with self._change:
            self._busy -= 1
            for piece in following:
                # One that holds a connection is next: by whoever takes it, no more are open than there are workers.
                (self._pieces.append if piece.reader is None else self._pieces.appendleft)(piece)
            if transfer.is_over:
                self._begun.discard(transfer)
                self._ended.put(transfer)
            self._change.notify_all()
