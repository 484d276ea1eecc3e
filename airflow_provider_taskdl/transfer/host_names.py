"""Names for files to which the service gives links alone: their host is asked, before any of them is fetched."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from airflow_provider_taskdl.exceptions import DownloadFailedError, TaskDownloadError
from airflow_provider_taskdl.listing import FileListing, RemoteFile
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.reader import RangeReader
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.source import Source
from airflow_provider_taskdl.transfer.stop import Cancelled, Stop

log = logging.getLogger(__name__)

# Enough to tell a page in the file's place; a host that knows no ranges is left after as much.
_SAMPLE = 8192


class HostNames:
    """A task's listing in which every file has its name; each file's host is asked once, however often it is renewed.

    :param list_files: Asks the service for the task's files with fresh links.
    :param client: Fetches links.
    :param retry: How patient to be with the network.
    :param cancelled: Set when this is to stop.
    :param concurrency: Files to ask for at once.
    :ivar renewals: New listings that were asked for meanwhile.
    """

    def __init__(
        self,
        list_files: Callable[[], FileListing],
        client: LinkClient,
        *,
        retry: RetryPolicy,
        cancelled: Stop,
        concurrency: int,
    ) -> None:
        self._list_files, self._client = list_files, client
        self._retry, self._cancelled, self._concurrency = retry, cancelled, concurrency
        self._names: dict[str, str] = {}
        self.renewals = 0

    def __call__(self) -> FileListing:
        """Return the listing.

        :raises TaskApiError: The service did not give it.
        :raises TransferError: A host did not say what its file is called.
        """
        listing = self._list_files()
        unknown = [file for file in listing.files if file.is_named_by_host]
        # A file that a renewed listing has more is none that was planned.
        if unknown and listing.is_ready and not self._names:
            log.info("Task %s: asking the file host what %d files are called", listing.remote_task_id, len(unknown))
            self._ask_all(unknown, LinkSource(listing, self._list_files, self._retry))
        files = tuple(
            replace(file, name=self._names.get(file.name, file.name)) if file.is_named_by_host else file
            for file in listing.files
        )
        return replace(listing, files=files)

    def _ask_all(self, files: list[RemoteFile], links: LinkSource) -> None:
        with ThreadPoolExecutor(min(self._concurrency, len(files)), "taskdl-names") as pool:
            try:
                for file, name in zip(files, pool.map(lambda file: self._ask(file, links), files), strict=True):
                    self._names[file.name] = name
            except Cancelled:
                raise DownloadFailedError("the transfer was cancelled", retryable=True) from None
            except BaseException:  # the others need not be waited for
                self._cancelled.set()
                self._client.close()
                raise
            finally:
                self.renewals += links.renewals

    def _ask(self, file: RemoteFile, links: LinkSource) -> str:
        source = Source(file)
        reader = RangeReader(source, links, self._client, self._retry, self._cancelled, 0, _SAMPLE)
        start, filled = memoryview(bytearray(_SAMPLE)), 0
        try:
            reader.open()
            while filled < _SAMPLE and (count := reader.readinto(start[filled:])):
                filled += count
            if source.given_name is None:
                source.check_content(start[:filled])  # a page has no name to give, and the file may have
        except TaskDownloadError as error:
            error.file = file.name
            raise
        finally:
            reader.close()
        return source.given_name or file.name
