"""On demand: bring an analysis of many tiles to object storage by four tasks at once, on as many workers.

Each of the four brings its portion of the files, balanced by size; which one that is follows from the listing alone, so
it is the same in every try. The task after them proves that all is there and writes the manifest of the whole, which
the last one reads: it is handed on in place of the paths, of which there may be thousands.

Connection: ``eo_analysis_default``. Variable ``taskdl_destination``: a place that all workers reach, such as
``s3://my_aws@bucket/eo``, a bucket by way of the Airflow connection ``my_aws``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from airflow.providers.common.compat.sdk import (  # in Airflow 3 also: airflow.sdk
    AssetAlias,
    ObjectStoragePath,
    Param,
    dag,
    task,
)

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator, shards
from airflow_provider_taskdl.operators.join import JoinManifestsOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

CONN_ID = "eo_analysis_default"
ANALYSIS = "{{ params.analysis }}"
DESTINATION = f"{{{{ var.value.get('taskdl_destination', 'file:///tmp/taskdl') }}}}/eo-mosaic/{ANALYSIS}"
SHARDS = 4


@dag(
    schedule=None,
    params={"analysis": Param("12346", type="string", description="Id of the analysis at the platform")},
    doc_md=__doc__,
    tags=["taskdl"],
)
def eo_mosaic_in_shards() -> None:
    wait = DownloadLinkSensor(
        task_id="wait",
        conn_id=CONN_ID,
        remote_task_id=ANALYSIS,
        deferrable=True,
        poke_interval=5,  # asked by the triggerer: no worker is held
        timeout=6 * 3600,
    )

    download = DownloadToObjectStorageOperator.partial(
        task_id="download",
        conn_id=CONN_ID,
        remote_task_id=ANALYSIS,
        destination=DESTINATION,
        retries=3,  # each goes on where the one before had to stop
    ).expand(shard=shards(SHARDS))

    join = JoinManifestsOperator(
        task_id="join",
        remote_task_id=ANALYSIS,
        destination=DESTINATION,
        shards=SHARDS,
        outlets=[AssetAlias("eo_mosaic")],  # here and not at the download: who waits for it expects all tiles
    )

    @task
    def verify(manifest: str) -> dict[str, Any]:
        tiles = json.loads(ObjectStoragePath(manifest).read_bytes())["files"]
        wrong = [
            tile["name"]
            for tile in tiles
            if hashlib.sha256(ObjectStoragePath(tile["path"]).read_bytes()).hexdigest() != tile["sha256"]
        ]
        return {"tiles": len(tiles), "bytes": sum(tile["size"] for tile in tiles), "wrong": wrong}

    wait >> download >> join
    manifest: Any = join.output["manifest"]
    verify(manifest)


eo_mosaic_in_shards()
