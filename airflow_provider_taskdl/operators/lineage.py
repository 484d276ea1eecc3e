"""Who gets to know which files came: assets, the hooks' lineage and OpenLineage.

Lineage is told by the task that brings a file, an asset event by each task that has the ``AssetAlias`` as its outlet.
Of several that bring shards of one download, that should be the one that joins them: who waits for it expects all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector  # the SDK's knows no assets on 2.x
from airflow.providers.common.compat.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.transfer.manifest import Entry


# Airflow writes all events of a task in one request that may take five seconds: with a thousand it times out, and the
# task fails after its work is done, at every try.
MAX_EVENTS = 250
# Characters of an asset's name: a longer one is an error, once all bytes are there.
_MAX_NAME = 1500

# One store, one name, whichever of its schemes a DAG uses.
_OPENLINEAGE_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss"}


def announce(
    context: Context, outlets: Iterable[Any], files: Mapping[str, Entry], *, manifest: str, source: Any = None
) -> None:
    """Report files as assets: one event per file on each ``AssetAlias`` outlet, and to the lineage of hooks.

    Where that would be more than ``MAX_EVENTS`` events, or a URI is longer than an asset's name may be, it is one for
    each alias: the manifest's.

    :param context: The task's context.
    :param outlets: The task's outlets.
    :param files: URI (percent-encoded, without connection id) to the file's record.
    :param manifest: The manifest's URI.
    :param source: The hook the files came through; ``None`` if other tasks brought them, which have told their lineage.
    """
    events: dict[str, dict[str, Any]] = {
        uri: {"size": entry.size, "sha256": entry.sha256, "outcome": entry.outcome} for uri, entry in files.items()
    }
    collector = get_hook_lineage_collector()  # type: ignore[no-untyped-call]
    named = {uri: facts for uri, facts in events.items() if len(uri) <= _MAX_NAME}
    for uri, facts in named.items() if source is not None else ():
        collector.add_output_asset(context=source, uri=uri, asset_extra=facts)
    aliases = [outlet for outlet in outlets if isinstance(outlet, AssetAlias)]
    if len(events) * len(aliases) > MAX_EVENTS or len(named) < len(events):
        total = {"files": len(files), "size": sum(entry.size for entry in files.values())}
        events = {manifest: total} if len(manifest) <= _MAX_NAME else {}
    for alias in aliases:
        for uri, facts in events.items():
            context["outlet_events"][alias].add(Asset(uri), extra=facts)


def openlineage(
    service: str, remote_task_id: str, files: Mapping[str, Entry], *, manifest: str | None, account: str | None = None
) -> Any:
    """Return the lineage of a download: from the remote task to the files in object storage, each with size and sha256.

    Where they are more than ``MAX_EVENTS``, the manifest stands for them.

    :param service: The service's base URL.
    :param remote_task_id: The task.
    :param files: URI (percent-encoded) to the file's record, of those that are there.
    :param manifest: The manifest's URI, or ``None`` if not all files are there.
    :param account: The storage account, on Azure.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

    def written(uri: str, size: int, version: str | None = None) -> OutputDataset:
        namespace, name = dataset_name(uri, account)
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(size=size)
        facets: dict[str, Any] = {}
        if version:
            facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(version)
        return OutputDataset(namespace, name, facets=facets, outputFacets={"outputStatistics": statistics})

    if len(files) <= MAX_EVENTS:
        outputs = [written(uri, entry.size, entry.sha256) for uri, entry in files.items()]
    else:
        outputs = [written(manifest, sum(entry.size for entry in files.values()))] if manifest else []
    return OperatorLineage(inputs=[InputDataset(service, remote_task_id)], outputs=outputs)


def dataset_name(uri: str, account: str | None = None) -> tuple[str, str]:
    """Return namespace and name of a file as OpenLineage has them for each store.

    :param uri: The file's URI, percent-encoded.
    :param account: The storage account, on Azure.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    key = unquote(key)
    if scheme == "file":
        return "file", f"/{key}"
    if scheme in ("abfs", "abfss") and account:
        return f"abfss://{bucket}@{account}.dfs.core.windows.net", key
    return f"{_OPENLINEAGE_SCHEMES.get(scheme, scheme)}://{bucket}", key
