"""The emulator, the S3 server and the destinations that the rows share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.transfer.sinks import parted
from airflow_provider_taskdl.transfer.stop import Stop
from tests.faults.destinations import Bucket, Destination, Disk, InMemory
from tests.faults.rows import PART
from tests.s3 import S3Front, S3Server
from tests.transfer.conftest import certificate, no_proxy_from_outside
from tests.transfer.harness import empty, split_finely

__all__ = ["certificate", "no_proxy_from_outside"]

API_TOKEN = "CANARYapiToken4444444444444444/+="


@pytest.fixture(scope="session")
def emulator_server() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator(token=API_TOKEN)) as server:
        yield server


@pytest.fixture
def server(emulator_server: EmulatorServer) -> EmulatorServer:
    """A running emulator without tasks, faults or memories."""
    emulator = emulator_server.emulator
    empty(emulator)
    emulator.link_origin = None
    return emulator_server


@pytest.fixture(scope="session")
def s3_place(s3_server: S3Server) -> Iterator[tuple[S3Front, str, Any, Any]]:
    """A front before the S3 server, a bucket, and clients through the front and past it."""
    front = S3Front(s3_server)
    client, admin = s3_server.client(front.url), s3_server.client()
    yield front, s3_server.bucket(), client, admin
    client.close()
    admin.close()
    front.shutdown()
    front.server_close()


@pytest.fixture
def destination(sink: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Destination]:
    """One of the three, empty."""
    with pytest.MonkeyPatch.context() as patch:
        if sink == "s3":
            front, bucket, client, admin = request.getfixturevalue("s3_place")
            front.seen.clear()
            made: Destination = Bucket(front, bucket, uuid.uuid4().hex, client, admin)
        elif sink == "disk":
            made = Disk(tmp_path / "there", patch)
            (tmp_path / "there").mkdir()
        else:
            made = InMemory(f"/{uuid.uuid4().hex}", patch)
        yield made
        made.mend()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    split_finely(monkeypatch, PART)
    monkeypatch.setattr(parted, "ONE_REQUEST", PART)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the transfer meant to wait, each time; it waits a moment only."""
    meant: list[float] = []
    real = Stop.wait

    def wait(stop: Stop, timeout: float | None = None) -> bool:
        meant.append(timeout or 0.0)
        return real(stop, min(timeout or 0.0, 0.02))

    monkeypatch.setattr(Stop, "wait", wait)
    return meant
