"""Which exception Airflow sees."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_taskdl.exceptions import TaskDownloadError


def as_airflow_sees_it(error: TaskDownloadError) -> Exception:
    """Return what to raise in a task: the error itself, or for one that no retry can mend ``AirflowFailException``."""
    if error.retryable:
        return error
    failure = AirflowFailException(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
