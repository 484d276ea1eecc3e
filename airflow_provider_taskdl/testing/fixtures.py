"""pytest fixtures for DAG tests; load them with ``pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]``.

::

    def test_my_dag(taskdl_emulator):
        taskdl_emulator.eo_task({"ndvi.tif": geotiff()}, id="12345", ready_after=2)
        my_dag.test(run_conf={"task": "12345"})
        assert taskdl_emulator.count("file", "ndvi.tif") == 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_provider_taskdl.testing import Emulator
from airflow_provider_taskdl.testing.server import EmulatorServer


@pytest.fixture
def taskdl_emulator_options() -> Mapping[str, Any]:
    """Parameters of the :class:`~airflow_provider_taskdl.testing.Emulator`; override it to change them."""
    return {}


@pytest.fixture
def taskdl_server(
    taskdl_emulator_options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatorServer]:
    """A running emulator; ``baidu_bls_default``, ``eo_analysis_default`` and ``eo_market_default`` point to it."""
    with EmulatorServer(Emulator(**taskdl_emulator_options)) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def taskdl_emulator(taskdl_server: EmulatorServer) -> Emulator:
    """The world that ``taskdl_server`` serves: add tasks, let things go wrong, look at what was asked."""
    return taskdl_server.emulator
