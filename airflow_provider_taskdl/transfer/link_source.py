"""A link that stays fresh: not a URL but a place to get the current one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone

from airflow_provider_taskdl.exceptions import SourceChangedError, TaskDownloadError, TaskNotReadyError
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.transfer.retry import RetryPolicy, SharedFailures

# How long before its end a link is replaced: a share of its life, at most so many seconds.
_MARGIN_SHARE = 0.2
_MARGIN_SECONDS = 30.0


class LinkSource:
    """The current links of a task's files, for many threads; however many ask, the API is asked once.

    That holds for an answer that is a failure as well: it is everybody's, and the next question comes after a pause.

    :param listing: The task's files as they were listed.
    :param list_files: Asks the service for the listing again, with fresh links.
    :param retry: How patient to be with the service.
    :ivar renewals: How often it was asked.
    """

    def __init__(self, listing: FileListing, list_files: Callable[[], FileListing], retry: RetryPolicy) -> None:
        self._list_files = list_files
        self._failures = SharedFailures(retry)
        self._lacks = SharedFailures(retry)  # of those files alone that the last listing had no link to
        self._lock = threading.Lock()
        self._sizes = {file.name: file.size for file in listing.files}
        self._files: dict[str, RemoteFile] = {}
        self._links: dict[str, Link] = {}
        self.renewals = 0
        self._lacking = self._take(listing)

    def current(self, name: str) -> Link:
        """Return a link to the file that is not about to end.

        :param name: The file's name in the listing.
        :raises SourceChangedError: A renewed listing has another size of the file.
        :raises TaskApiError: The service did not give a new listing, now or a moment ago, or none with a link to the
            file; ``retry_after`` says when to ask again.
        :raises TransferError: That has happened too often in a row.
        """
        with self._lock:
            link = self._links.get(name)
            if link is None or self._is_ending(link):
                try:
                    self._renew(name)
                except TaskDownloadError:
                    if link is None or link.expires_within(0.0):
                        raise
                    return link  # it still holds
            return self._link(name)

    def renew(self, name: str, refused: Link) -> Link:
        """Return a link other than the one that was refused, if the service gives one.

        :param name: The file's name in the listing.
        :param refused: The link that the file host did not take.
        :raises SourceChangedError: As for :meth:`current`.
        :raises TaskApiError: As for :meth:`current`.
        :raises TransferError: As for :meth:`current`.
        """
        with self._lock:
            if self._links.get(name) is refused:
                del self._links[name]  # whatever comes of it, nobody is given this one again
            if name not in self._links:
                self._renew(name)
            return self._link(name)

    def _is_ending(self, link: Link) -> bool:
        if link.expires_at is None:
            return False
        life = (link.expires_at - self._taken_at).total_seconds()
        # Over on arrival means that this clock and the service's differ: then only a refusal tells.
        return life > 0 and link.expires_within(min(_MARGIN_SECONDS, life * _MARGIN_SHARE))

    def _renew(self, name: str) -> None:
        self._failures.check()
        if name in self._lacking:
            self._lacks.check()
        self.renewals += 1
        try:
            listing = self._list_files()
        except TaskDownloadError as error:
            problem = self._failures.add(error)
        else:
            self._failures.clear()
            if (lacking := self._take(listing)) != self._lacking:
                self._lacking = lacking
                self._lacks.clear()  # or one file that is gone for good would leave no patience to the others
            if name not in lacking:
                return
            problem = self._lacks.add(TaskNotReadyError("the service lists no link to this file now"))
        raise problem

    def _take(self, listing: FileListing) -> set[str]:
        """Take the links of a listing, and return the names of the files to which it has none."""
        self._taken_at = datetime.now(timezone.utc)
        fresh = {file.name: file.link for file in listing.files if file.link is not None}
        # What it has no link to for the moment may have one that still holds.
        held = {name: link for name, link in self._links.items() if not link.expires_within(0.0)}
        self._files |= {file.name: file for file in listing.files}
        self._links = held | fresh
        return self._sizes.keys() - fresh.keys()

    def _link(self, name: str) -> Link:
        size, before = self._files[name].size, self._sizes.get(name)
        if None not in (size, before) and size != before:
            raise SourceChangedError("the service's renewed listing has another size for this file", file=name)
        return self._links[name]
