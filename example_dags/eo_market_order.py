"""On demand: bring what an order of satellite images delivered to object storage.

The order was placed at the market; its number comes with the run. The market gives links and nothing else: what the
files are called their host says, and under these names they arrive.

Connection: ``eo_market_default``. Variable ``taskdl_destination``: a local directory, or any store that
``ObjectStoragePath`` knows: ``s3://my_aws@bucket/eo`` is a bucket by way of the Airflow connection ``my_aws``.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

from airflow.providers.common.compat.sdk import (  # in Airflow 3 also: airflow.sdk
    ObjectStoragePath,
    Param,
    dag,
    task,
)

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator

DESTINATION = "{{ var.value.get('taskdl_destination', 'file:///tmp/taskdl') }}"
ORDER = "{{ params.order }}"
# Who waits for weeks need not ask every minute; the demo, whose order takes seconds, sets less.
POLL_SECONDS = float(os.environ.get("TASKDL_EXAMPLE_POLL_SECONDS", "300"))


@dag(
    schedule=None,
    params={"order": Param("20260101", type="string", description="Number of the order at the market")},
    doc_md=__doc__,
    tags=["taskdl"],
)
def eo_market_order() -> None:
    download = DownloadToObjectStorageOperator(
        task_id="download",
        conn_id="eo_market_default",
        remote_task_id=ORDER,
        destination=f"{DESTINATION}/eo-market/{ORDER}",
        wait_for_link=True,  # an acquisition may take weeks
        deferrable=True,
        poll_interval=POLL_SECONDS,
        wait_timeout=datetime.timedelta(weeks=6).total_seconds(),
        retries=3,
    )

    @task
    def sizes(paths: list[str]) -> dict[str, int]:
        return {path.rpartition("/")[2]: ObjectStoragePath(path).stat().st_size for path in paths}

    found: Any = download.output
    sizes(found)


eo_market_order()
