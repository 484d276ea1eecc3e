"""One real Airflow for these tests: scheduler, executor, triggerer, API, DAG processor, each a process of its own.

It ends with the last of them, for which this directory is a package: idle it would slow down the tests after these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.deployment.living import Deployment, deployed, guests, until
from tests.s3 import KEY, SECRET, S3Server
from tests.transfer.harness import empty

HERE = Path(__file__).parent


@pytest.fixture(scope="package")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, emulated: EmulatorServer, s3_server: S3Server
) -> Iterator[Deployment]:
    """Airflow, with ``dags/`` and connections to the emulated services and to the S3 server, ``live_store``."""
    extra = {"endpoint_url": s3_server.url, "region_name": "us-east-1"}
    store = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": json.dumps(extra)}
    connections = {**emulated.airflow_connections(), "live_store": store}
    # However long a test takes to look: what hangs does so until the test ends it.
    for conn_id in ("eo_analysis_default", "baidu_bls_default"):
        connections[conn_id]["extra"]["timeout"] = 3600
    home = tmp_path_factory.mktemp("airflow")
    settings = {"AIRFLOW__CORE__PARALLELISM": "4", "TASKDL_EXAMPLE_POLL_SECONDS": "2"}
    with deployed(home, HERE / "dags", connections, settings) as running:
        yield running


@pytest.fixture(scope="package")
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
