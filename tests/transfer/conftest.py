"""One emulated file host for all tests of the transfer, fresh for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy the machine that runs the tests is behind: these tests talk to themselves."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def emulator_server() -> Iterator[EmulatorServer]:
    with EmulatorServer(Emulator()) as server:
        yield server


@pytest.fixture
def server(emulator_server: EmulatorServer) -> EmulatorServer:
    """A running emulator without tasks, faults or memories."""
    emulator = emulator_server.emulator
    for memory in (emulator.tasks, emulator.objects, emulator.rules, emulator.requests):
        memory.clear()
    emulator.link_seconds = 300
    return emulator_server


@pytest.fixture
def emulator(server: EmulatorServer) -> Emulator:
    return server.emulator
