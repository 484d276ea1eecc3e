"""On demand: bring the results of a satellite-image analysis to object storage, and look into them.

The analysis (vegetation index of an area) runs at the platform and was started there; its id comes with the run. Its
raster and its report are announced as assets, so that a DAG with ``schedule=[AssetAlias("eo_analysis_results")]`` runs
when there are new ones.

Connection: ``eo_analysis_default``. Variable ``taskdl_destination``: a local directory, or any store that
``ObjectStoragePath`` knows: ``s3://my_aws@bucket/eo`` is a bucket by way of the Airflow connection ``my_aws``.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from typing import Any

from airflow.providers.common.compat.sdk import (  # in Airflow 3 also: airflow.sdk
    AssetAlias,
    ObjectStoragePath,
    Param,
    dag,
    task,
)

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

CONN_ID = "eo_analysis_default"
DESTINATION = "{{ var.value.get('taskdl_destination', 'file:///tmp/taskdl') }}"
ANALYSIS = "{{ params.analysis }}"


@dag(
    schedule=None,
    params={"analysis": Param("12345", type="string", description="Id of the analysis at the platform")},
    doc_md=__doc__,
    tags=["taskdl"],
)
def eo_analysis_results() -> None:
    wait = DownloadLinkSensor(
        task_id="wait",
        conn_id=CONN_ID,
        remote_task_id=ANALYSIS,
        deferrable=True,
        poke_interval=5,  # asked by the triggerer: no worker is held
        timeout=6 * 3600,
    )

    download = DownloadToObjectStorageOperator(
        task_id="download",
        conn_id=CONN_ID,
        remote_task_id=ANALYSIS,
        destination=f"{DESTINATION}/eo-analysis/{ANALYSIS}",
        file_pattern=["*.tif", "*.pdf"],
        outlets=[AssetAlias("eo_analysis_results")],
        retries=3,  # each goes on where the one before had to stop
    )

    @task
    def vegetation(paths: list[str]) -> dict[str, Any]:
        raster = next(path for path in paths if path.endswith(".tif"))
        tif = ObjectStoragePath(raster).read_bytes()
        tags = tiff_tags(tif)
        no_data = float(tags[42113][0].rstrip(b"\0"))
        pixels = array("f")
        for offset, length in zip(tags[324], tags[325], strict=True):
            pixels.frombytes(tif[offset : offset + length])
        values = [value for value in pixels if value != no_data]
        return {
            "pixels": f"{tags[256][0]} x {tags[257][0]}",
            "upper_left": list(tags[33922][3:5]),
            "no_data_share": round(1 - len(values) / len(pixels), 4),
            "mean_ndvi": round(math.fsum(values) / len(values), 4),
            "dense_vegetation_share": round(sum(value > 0.5 for value in values) / len(values), 4),
        }

    @task
    def report(paths: list[str]) -> dict[str, Any]:
        pdf = ObjectStoragePath(next(path for path in paths if path.endswith(".pdf"))).read_bytes()
        return {"bytes": len(pdf), "pages": len(re.findall(rb"/Type\s*/Page\b", pdf))}

    wait >> download
    paths: Any = download.output
    vegetation(paths)
    report(paths)


def tiff_tags(tif: bytes) -> dict[int, tuple[Any, ...]]:
    """Return the tags of a little-endian TIFF. Enough for this file; use ``rasterio`` where you can install it."""
    kinds = {2: "s", 3: "H", 4: "I", 12: "d"}
    (directory,) = struct.unpack_from("<I", tif, 4)
    (entries,) = struct.unpack_from("<H", tif, directory)
    tags = {}
    for entry in range(directory + 2, directory + 2 + entries * 12, 12):
        tag, kind, count = struct.unpack_from("<HHI", tif, entry)
        layout = f"<{count}{kinds[kind]}"
        fits = struct.calcsize(layout) <= 4
        tags[tag] = struct.unpack_from(layout, tif, entry + 8 if fits else struct.unpack_from("<I", tif, entry + 8)[0])
    return tags


eo_analysis_results()
