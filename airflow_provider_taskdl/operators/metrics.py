"""What a transfer tells Airflow's metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Stats

if TYPE_CHECKING:
    from airflow_provider_taskdl.transfer.job import Totals


def report(totals: Totals, *, conn_id: str) -> None:
    """Send the numbers of a transfer, whether it succeeded or not.

    Counters ``taskdl.bytes``, ``taskdl.files_fetched``, ``taskdl.files_skipped``, ``taskdl.files_failed``,
    ``taskdl.retries`` (failures that were mended) and ``taskdl.renewals`` (new listings for fresh links), and the timer
    ``taskdl.duration`` (milliseconds), each with the tag ``conn_id``.

    :param totals: The numbers.
    :param conn_id: The Airflow connection.
    """
    tags = {"conn_id": conn_id}
    counters = {
        "bytes": totals.bytes,
        "files_fetched": totals.fetched,
        "files_skipped": totals.skipped,
        "files_failed": totals.failed,
        "retries": totals.retries,
        "renewals": totals.renewals,
    }
    for name, count in counters.items():
        if count:
            Stats.incr(f"taskdl.{name}", count, tags=tags)
    Stats.timing("taskdl.duration", totals.seconds * 1000, tags=tags)
