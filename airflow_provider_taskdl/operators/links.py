"""The button on a task's page that leads to its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey

# By what the hosts of Amazon's endpoints end in.
_AWS_CONSOLES = {".amazonaws.com": "s3.console.aws.amazon.com", ".amazonaws.com.cn": "console.amazonaws.cn"}


class DestinationLink(BaseOperatorLink):
    """Opens the destination of ``DownloadToObjectStorageOperator``: the store's console where one is known."""

    name = "Destination"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or ``""`` before the task has run.

        :param operator: The operator.
        :param ti_key: Which run of it.
        """
        # In Airflow 2 it is the web server that asks, and its operator's templates are as they were written.
        destination = getattr(operator, "destination", None) if AIRFLOW_V_3_0_PLUS else _written_to(ti_key)
        destination = str(destination or "")
        return browse_url(destination, getattr(operator, "_endpoint", None)) if destination.strip() else ""


def _written_to(ti_key: TaskInstanceKey) -> str:
    """Return where a task of Airflow 2 has written, by the path of its manifest."""
    from airflow.providers.common.compat.sdk import XCom

    manifest = XCom.get_value(ti_key=ti_key, key="manifest")
    return str(manifest or "").rpartition("/_taskdl/")[0]


def browse_url(destination: str, endpoint: str | None = None) -> str:
    """Return where a person can look at a destination; never with a connection id, user or query.

    :param destination: As ``ObjectStoragePath`` writes it, such as ``s3://conn_id@bucket/prefix``.
    :param endpoint: Where S3 requests for it go: many stores but Amazon's speak that language, and its console shows
        none of theirs. Their own are nowhere in common, so the link is the folder's address at the store.
    """
    # Not urlsplit(): in a path, "#" and "?" are characters like others.
    scheme, mark, rest = destination.strip().partition("://")
    if not mark or scheme in ("file", "local"):
        place = rest if mark else str(Path(destination.strip()).absolute())
        return Path(f"/{place.lstrip('/')}").as_uri()
    bucket, _, path = rest.partition("/")
    bucket, prefix = bucket.rpartition("@")[2], quote(path.strip("/"))
    if scheme in ("s3", "s3a", "s3n"):
        parts = urlsplit(endpoint or "")
        host, folder = parts.hostname or "amazonaws.com", f"?prefix={prefix}/" if prefix else ""
        for vendor, console in _AWS_CONSOLES.items():
            if f".{host}".endswith(vendor):
                return f"https://{console}/s3/buckets/{bucket}{folder}"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/{bucket}/{prefix}"
    if scheme in ("gs", "gcs"):
        return f"https://console.cloud.google.com/storage/browser/{bucket}/{prefix}"
    return f"{scheme}://{bucket}/{prefix}"
