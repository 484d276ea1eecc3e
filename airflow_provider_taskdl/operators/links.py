"""The button on a task's page that leads to its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey


class DestinationLink(BaseOperatorLink):
    """Opens the destination of ``DownloadToObjectStorageOperator``: the store's console where there is one."""

    name = "Destination"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or ``""`` before the task has run.

        :param operator: The operator.
        :param ti_key: Which run of it.
        """
        return browse_url(str(getattr(operator, "destination", "") or ""))


def browse_url(destination: str) -> str:
    """Return where a person can look at a destination; never with a connection id, user or query.

    :param destination: As ``ObjectStoragePath`` writes it, such as ``s3://conn_id@bucket/prefix``.
    """
    parts = urlsplit(destination)
    bucket, prefix = parts.netloc.rpartition("@")[2], quote(parts.path.strip("/"))
    if parts.scheme in ("s3", "s3a"):
        return f"https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}/"
    if parts.scheme in ("gs", "gcs"):
        return f"https://console.cloud.google.com/storage/browser/{bucket}/{prefix}"
    if parts.scheme in ("", "file", "local"):
        return f"file:///{prefix}"
    return f"{parts.scheme}://{bucket}/{prefix}"
