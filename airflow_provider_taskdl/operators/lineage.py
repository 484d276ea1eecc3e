"""Who gets to know which files came: assets, the hooks' lineage and OpenLineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import Asset, AssetAlias, get_hook_lineage_collector

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.transfer.manifest import Entry


# Airflow writes all events of a task in one request that may take five seconds: with a thousand it times out, and the
# task fails after its work is done, at every try.
MAX_EVENTS = 250


def announce(
    context: Context, outlets: Iterable[Any], files: Mapping[str, Entry], *, manifest: str, source: Any
) -> None:
    """Report files as assets: one event per file on each ``AssetAlias`` outlet, and to the lineage of hooks.

    Where that would be more than ``MAX_EVENTS`` events, it is one for each alias: the manifest's.

    :param context: The task's context.
    :param outlets: The task's outlets.
    :param files: URI (percent-encoded, without connection id) to the file's record.
    :param manifest: The manifest's URI.
    :param source: The hook the files came through.
    """
    events: dict[str, dict[str, Any]] = {
        uri: {"size": entry.size, "sha256": entry.sha256, "outcome": entry.outcome} for uri, entry in files.items()
    }
    collector = get_hook_lineage_collector()
    for uri, facts in events.items():
        collector.add_output_asset(context=source, uri=uri, asset_extra=facts)
    aliases = [outlet for outlet in outlets if isinstance(outlet, AssetAlias)]
    if len(events) * len(aliases) > MAX_EVENTS:
        events = {manifest: {"files": len(files), "size": sum(entry.size for entry in files.values())}}
    for alias in aliases:
        for uri, facts in events.items():
            context["outlet_events"][alias].add(Asset(uri), extra=facts)


def openlineage(service: str, remote_task_id: str, files: Mapping[str, Entry]) -> Any:
    """Return the lineage of a download: from the service's files to those in object storage.

    :param service: The service's base URL.
    :param remote_task_id: The task.
    :param files: URI (percent-encoded) to the file's record.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    inputs, outputs = [], []
    for uri, entry in files.items():
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        key = unquote(key)
        namespace, name = ("file", f"/{key}") if scheme == "file" else (f"{scheme}://{bucket}", key)
        inputs.append(Dataset(namespace=service, name=f"{remote_task_id}/{entry.name}"))
        outputs.append(Dataset(namespace=namespace, name=name))
    return OperatorLineage(inputs=inputs, outputs=outputs)
