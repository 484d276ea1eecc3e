"""One real Airflow for these tests: scheduler, executor, triggerer, API, DAG processor, each a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.deployment.living import Deployment, until
from tests.s3 import KEY, SECRET, S3Server, s3_server
from tests.transfer.harness import empty

__all__ = ["s3_server"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "4",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    # How soon a task hears that it was cleared or failed by hand.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    # How soon a worker that is gone is missed.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    # How soon the triggers of a triggerer that died are given to another.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


@pytest.fixture(scope="session")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, emulated: EmulatorServer, s3_server: S3Server
) -> Iterator[Deployment]:
    """Airflow, with ``dags/`` and connections to the emulated services and to the S3 server, ``live_store``."""
    from parts import Airflow
    from sandbox import settings

    home = tmp_path_factory.mktemp("airflow")
    env = settings(home, HERE / "dags", home / "store", {})
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    airflow = Airflow(home, {**env, **SETTINGS, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"})
    extra = {"endpoint_url": s3_server.url, "region_name": "us-east-1"}
    store = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": json.dumps(extra)}
    connections = {**emulated.airflow_connections(), "live_store": store}
    # However long a test takes to look: what hangs does so until the test ends it.
    connections["eo_analysis_default"]["extra"]["timeout"] = 3600
    airflow.prepare(connections)
    try:
        airflow.start()
        with httpx.Client(base_url=airflow.url, timeout=60, trust_env=False) as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            client.base_url = httpx.URL(f"{airflow.url}/api/v2")
            yield Deployment(airflow, client)
    finally:
        airflow.stop()


@pytest.fixture(scope="session")
def emulated() -> Iterator[EmulatorServer]:
    """The services."""
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture
def emulator(emulated: EmulatorServer) -> Iterator[Emulator]:
    """Their world, without tasks, faults or memories; in the end nobody is connected to it any more."""
    emulator = emulated.emulator
    empty(emulator)
    yield emulator
    until(lambda: not guests(emulated), "the end of all connections")


def guests(server: EmulatorServer) -> list[Any]:
    """Return the connections that others hold to a server of this process."""
    port = int(server.base_url.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return [c for c in connections if c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED]
