"""What a task hands on when files are there: asset events, XComs and paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_taskdl.operators.lineage import announce

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.operators.destination import Destination
    from airflow_provider_taskdl.transfer.job import Result
    from airflow_provider_taskdl.transfer.manifest import Entry


def files_of(entries: Iterable[Entry], destination: Destination) -> dict[str, Entry]:
    """Return the record of each file by its name for the world outside this Airflow."""
    return {destination.uri_of(entry.name): entry for entry in entries}


def hand_on(
    context: Context, outlets: Iterable[Any], result: Result, destination: Destination, *, source: Any = None
) -> list[str]:
    """Report files as assets, push the XComs ``manifest`` and ``summary``, and return the paths.

    :param context: The task's context.
    :param outlets: The task's outlets.
    :param result: The files.
    :param destination: Where they are.
    :param source: The hook they came through, if this task has brought them.
    """
    manifest = destination.uri_of(result.manifest_name)
    announce(context, outlets, files_of(result.entries, destination), manifest=manifest, source=source)
    context["ti"].xcom_push(key="manifest", value=result.manifest)
    context["ti"].xcom_push(key="summary", value=result.summary())
    return [entry.path for entry in result.entries]
