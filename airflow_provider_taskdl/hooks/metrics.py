"""What asking a service tells Airflow's metrics."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_taskdl.exceptions import PausedError, TaskDownloadError


def count_request(conn_id: str, error: TaskDownloadError | None = None) -> None:
    """Count a request in ``taskdl.requests``, with the tags ``conn_id`` and ``outcome``.

    :param conn_id: The Airflow connection.
    :param error: What came of it, if no answer did; its class is the outcome, else ``ok``.
    """
    if not isinstance(error, PausedError):  # which says that nothing was sent
        outcome = "ok" if error is None else type(error).__name__
        Stats.incr("taskdl.requests", tags={"conn_id": conn_id, "outcome": outcome})
