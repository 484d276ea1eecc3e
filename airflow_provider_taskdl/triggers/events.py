"""What a trigger tells its task: a closed set of small events, without links and with a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.redaction import storable

VERSION = 1


def ready_event(listing: FileListing) -> dict[str, Any]:
    """Return the event for files that are all there."""
    return {"version": VERSION, "status": "ready", "summary": listing.summary()}


def timeout_event(remote_task_id: str) -> dict[str, Any]:
    """Return the event for a wait that reached its deadline."""
    return {"version": VERSION, "status": "timeout", "remote_task_id": storable(remote_task_id)}


def error_event(error: TaskDownloadError) -> dict[str, Any]:
    """Return the event for a wait that failed."""
    return {"version": VERSION, "status": "error", "error": error.to_dict()}


def read_event(event: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the summary in an event.

    :raises AirflowSensorTimeout: The deadline was reached.
    :raises TaskDownloadError: The wait failed; of the type that the trigger met. Also for an event that is not known:
        nothing but a clear yes counts as success.
    """
    event = event if isinstance(event, Mapping) else {}
    status = event.get("status") if event.get("version") == VERSION else None
    if status == "ready" and isinstance(event.get("summary"), Mapping):
        return dict(event["summary"])
    if status == "timeout":
        raise timed_out(str(event.get("remote_task_id")))
    if status == "error" and isinstance(event.get("error"), Mapping):
        raise TaskDownloadError.from_dict(dict(event["error"]))
    # Nothing of it is quoted: whoever sent it, it may hold anything.
    what = "do triggerer and worker have the same version of airflow-provider-taskdl?"
    raise TaskDownloadError(f"the trigger sent an event that is not understood; {what}", retryable=True)


def raise_if_airflow_ended(next_method: str, next_kwargs: Mapping[str, Any] | None, remote_task_id: object) -> None:
    """Return unless Airflow's own limit ended a deferral, as it does where no trigger was there at the deadline.

    :param next_method: As a task's ``resume_execution`` gets it.
    :param next_kwargs: Likewise.
    :param remote_task_id: The task.
    :raises AirflowSensorTimeout: It did.
    """
    if next_method == "__fail__" and (next_kwargs or {}).get("error") == "Trigger timeout":
        raise timed_out(str(remote_task_id))


def timed_out(remote_task_id: str) -> AirflowSensorTimeout:
    """Return what ends a wait whose deadline has come."""
    return AirflowSensorTimeout(
        f"the files of remote task {remote_task_id} were not there in time; the log has what the service said last"
    )
