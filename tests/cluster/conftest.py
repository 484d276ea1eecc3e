"""One Airflow with Celery workers, not for the whole session: idle it would slow down the tests after these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.canary import recorded_links
from tests.cluster.many import Cluster, cluster
from tests.s3 import KEY, SECRET, S3Server

CONCURRENCY = 4
SECRETS = {"secret_access_key": "CANARYsecretAccessKey0000000/+==", "token": "CANARYapiToken2222222222222222/+"}
SETTINGS = {
    # As many as two workers take: what is queued is on its way to one, and lost if it does not begin.
    "AIRFLOW__CORE__PARALLELISM": str(2 * CONCURRENCY),
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "180",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
}


@pytest.fixture(scope="module")
def links() -> Iterator[set[str]]:
    """What is secret of all links that were given."""
    with recorded_links() as secrets:
        yield secrets


@pytest.fixture(scope="module")
def emulated(links: set[str]) -> Iterator[EmulatorServer]:
    """The services; what is created there ends when a test says so."""
    with EmulatorServer(Emulator(ready_after=1e6, link_seconds=3600, **SECRETS)) as server:  # type: ignore[arg-type]
        yield server


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Path:
    """The directory behind the one bucket that the DAGs write to."""
    return s3_server.directory / s3_server.bucket()


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, emulated: EmulatorServer, s3_server: S3Server, bucket: Path
) -> Iterator[Cluster]:
    """Airflow with ``dags/``, two workers of three, and connections to the services and the store ``live_store``."""
    extra = {"endpoint_url": s3_server.url, "region_name": "us-east-1"}
    store = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": json.dumps(extra)}
    connections = {**emulated.airflow_connections(), "live_store": store}
    for name in ("eo_analysis_default", "baidu_bls_default"):
        # However long a test takes to look: what hangs does so until the test ends it.
        connections[name]["extra"]["timeout"] = 3600
    settings = {**SETTINGS, "AIRFLOW_VAR_TASKDL_BUCKET": f"s3://live_store@{bucket.name}"}
    home, dags = tmp_path_factory.mktemp("cluster"), Path(__file__).with_name("dags")
    with cluster(home, dags, connections, settings, workers=3, concurrency=CONCURRENCY) as made:
        made.start_workers("worker-1", "worker-2")
        yield made
