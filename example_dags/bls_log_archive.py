"""Every hour: bring that hour's access log from Baidu Log Service to object storage, and leave nothing behind.

The whole life of an export: it is created for the run's data interval, waited for without a worker, downloaded, and
deleted at the service. Runs that were missed are caught up, and ``airflow backfill create`` does any other time: each
run exports the hour that it stands for, whenever it runs. So unpausing it makes a run for every hour since
``start_date``, 24 for each day, each with an export: set the date from which on you want the logs.

A worker that is killed after it asked for the export makes no second one: the retry finds the first. The export of a
download that failed is kept, so that the download, cleared, goes on where it stopped.

Connection: ``baidu_bls_default``. Variable ``taskdl_destination``: a local directory, or any store that
``ObjectStoragePath`` knows: ``s3://my_aws@bucket/logs`` is a bucket by way of the Airflow connection ``my_aws``.
"""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.sdk import CronDataIntervalTimetable, Param, dag

from airflow_provider_taskdl.operators.bls import BlsCreateDownloadTaskOperator, BlsDeleteDownloadTaskOperator
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor

DESTINATION = "{{ var.value.get('taskdl_destination', 'file:///tmp/taskdl') }}"


@dag(
    # Not "@hourly" alone: with it, Airflow 3 makes runs whose data interval has no length.
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2025, 11, 1, tzinfo=timezone.utc),  # set your own: see above
    catchup=True,
    max_active_runs=4,  # an account may run 50 queries at once
    is_paused_upon_creation=True,  # or it would catch up at once
    default_args={"retries": 3},
    params={"log_store": Param("access-log", type="string", description="Which log store to export")},
    doc_md=__doc__,
    tags=["taskdl"],
)
def bls_log_archive() -> None:
    create = BlsCreateDownloadTaskOperator(
        task_id="create",
        log_store_name="{{ params.log_store }}",
        name="{{ params.log_store }}",
        order="asc",
    )

    wait = DownloadLinkSensor(
        task_id="wait",
        conn_id="baidu_bls_default",
        remote_task_id=create.output,  # type: ignore[arg-type]
        deferrable=True,
        start_from_trigger=True,  # no worker is taken before the links exist (Airflow 3.3)
        poke_interval=5,
        timeout=3600,
    )

    download = DownloadToObjectStorageOperator(
        task_id="download",
        conn_id="baidu_bls_default",
        remote_task_id=create.output,  # type: ignore[arg-type]
        destination=f"{DESTINATION}/archive/{{{{ data_interval_start.strftime('%Y/%m/%d/%H') }}}}",
    )

    delete = BlsDeleteDownloadTaskOperator(task_id="delete", remote_task_id=create.output)  # type: ignore[arg-type]

    create >> wait >> download >> delete


bls_log_archive()
