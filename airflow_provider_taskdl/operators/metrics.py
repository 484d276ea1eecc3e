"""What a transfer tells Airflow's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Stats

if TYPE_CHECKING:
    from airflow_provider_taskdl.transfer.job import Totals


def report(totals: Totals, *, tags: Mapping[str, str]) -> None:
    """Send the numbers of a transfer, whether it succeeded or not.

    Counters ``taskdl.bytes``, ``taskdl.files_fetched``, ``taskdl.files_skipped``, ``taskdl.files_failed``,
    ``taskdl.retries`` (failures that were mended) and ``taskdl.renewals`` (new listings for fresh links), and the timer
    ``taskdl.duration`` (milliseconds).

    :param totals: The numbers.
    :param tags: Whose they are: ``conn_id``, ``dag_id``, ``task_id``.
    """
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
            Stats.incr(f"taskdl.{name}", count, tags=dict(tags))
    Stats.timing("taskdl.duration", totals.seconds * 1000, tags=dict(tags))
