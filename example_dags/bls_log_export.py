"""Every day: export yesterday's access log from Baidu Log Service, bring it to object storage, and sum it up.

The export is a long task at the service: it is started here, waited for without holding a worker, and its file is
downloaded through a link that lives for minutes. What reads the file afterwards knows nothing of all that.

Connection: ``baidu_bls_default``. Variable ``taskdl_destination``: a local directory, or any store that
``ObjectStoragePath`` knows: ``s3://my_aws@bucket/logs`` is a bucket by way of the Airflow connection ``my_aws``.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import (  # in Airflow 3 also: airflow.sdk
    ObjectStoragePath,
    Param,
    dag,
    task,
)

from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

CONN_ID = "baidu_bls_default"
DESTINATION = "{{ var.value.get('taskdl_destination', 'file:///tmp/taskdl') }}"
# Seen from the run's own date, so that a run that is repeated later exports the same day again. (Airflow 2
# has no `run_after`.)
YESTERDAY = "{{ macros.ds_add(dag_run.run_after | default(data_interval_end) | ds, -1) }}"


@dag(
    schedule="@daily",
    start_date=datetime(2025, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    params={
        "log_store": Param("access-log", type="string", description="Which log store to export"),
        "query": Param("match *", type="string", description="Which of its records, in the service's query language"),
    },
    doc_md=__doc__,
    tags=["taskdl"],
)
def bls_log_export() -> None:
    @task
    def start_export(day: str, log_store: str, query: str) -> str:
        midnight = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        return BlsHook(CONN_ID).create_download_task(
            log_store_name=log_store,
            query=query,
            query_start_time=midnight,
            query_end_time=midnight + timedelta(days=1),
        )

    export_id: Any = start_export(YESTERDAY, "{{ params.log_store }}", "{{ params.query }}")

    wait = DownloadLinkSensor(
        task_id="wait",
        conn_id=CONN_ID,
        remote_task_id=export_id,
        deferrable=True,
        poke_interval=5,  # asked by the triggerer: no worker is held
        timeout=3600,
    )

    download = DownloadToObjectStorageOperator(
        task_id="download",
        conn_id=CONN_ID,
        remote_task_id=export_id,
        destination=f"{DESTINATION}/access-log/{YESTERDAY}",
        retries=3,  # each goes on where the one before had to stop
    )

    @task
    def report(paths: list[str]) -> dict[str, Any]:
        hours: Counter[str] = Counter()
        milliseconds = defaultdict(list)
        errors = 0
        for path in paths:
            with ObjectStoragePath(path).open() as log:
                for line in iter(log.readline, ""):
                    record = json.loads(line)
                    hours[record["time"][11:13]] += 1
                    errors += record["status"] >= 500
                    milliseconds[re.sub(r"\b\d+\b", "…", record["path"])].append(record["duration_ms"])
        slowness = {route: round(sorted(times)[len(times) * 95 // 100]) for route, times in milliseconds.items()}
        return {
            "requests": hours.total(),
            "requests_per_hour": dict(sorted(hours.items())),
            "error_rate": round(errors / max(hours.total(), 1), 4),
            "slowest_p95_ms": dict(sorted(slowness.items(), key=lambda item: -item[1])[:3]),
        }

    wait >> download
    report(download.output)


bls_log_export()
