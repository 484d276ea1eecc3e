"""Every test here runs on every store that this environment is for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from airflow_provider_taskdl.testing.fixtures import taskdl_emulator, taskdl_emulator_options, taskdl_server
from tests.needs import program
from tests.s3 import S3Server
from tests.servers import free_port, listens, running
from tests.stores.places import S3, Azure, Disk, Gcs, Moto, Place

__all__ = ["taskdl_emulator", "taskdl_emulator_options", "taskdl_server"]

# Google's provider has an environment of its own (`make stores`), where this says so.
STORES = os.environ.get("TASKDL_STORES", "disk,s3,moto,azure").split(",")
# What `make services` has installed beside the packages of the tests.
_SERVICES = Path(__file__).parents[2] / ".services"


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A directory of this machine."""
    return Disk(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest) -> Place:
    """rclone's S3 server."""
    return S3(request.getfixturevalue("s3_server"))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """moto's S3 server, a second opinion."""
    folder, port = tmp_path_factory.mktemp("moto"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program("moto_server", _SERVICES / "moto/bin"), "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder / "log", partial(listens, port)):
        yield Moto(S3Server(url, folder))


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Azurite, the vendor's own emulator."""
    folder, port = tmp_path_factory.mktemp("azurite"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program("azurite-blob"), "--blobPort", str(port), "--location", str(folder), "--silent"]
    # It must not be older than the client, and must not call home.
    with running([*command, "--skipApiVersionCheck", "--disableTelemetry"], folder / "log", partial(listens, port)):
        yield Azure(url)


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An emulator of Google Cloud Storage."""
    folder, port = tmp_path_factory.mktemp("gcs"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(Path(__file__).with_name("gcs_emulator.py")), str(port)]
    with running(command, folder / "log", partial(listens, port)):
        yield Gcs(url)


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Each store, with its connection."""
    place: Place = request.getfixturevalue(request.param)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    return place


@pytest.fixture
def url(place: Place) -> str:
    """An empty folder in the store."""
    return place.folder()
