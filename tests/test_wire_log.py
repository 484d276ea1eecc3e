"""With every logger at DEBUG, the header fields of a service's answers stay out of the log."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from airflow_provider_taskdl.exceptions import AuthenticationError
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.testing import Header, Status
from airflow_provider_taskdl.testing.server import EmulatorServer
from tests.canary import CANARY, assert_canary_free

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]


@pytest.fixture
def echoing(taskdl_server: EmulatorServer, caplog: pytest.LogCaptureFixture) -> EmulatorServer:
    """A service that shows a secret in a header field of its answers, while everything is logged."""
    taskdl_server.emulator.fault("eo.link", Status(401))
    taskdl_server.emulator.fault("eo.link", Header("X-Echo", CANARY))
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):  # which Airflow's configuration keeps quiet
        caplog.set_level(logging.DEBUG, name)
    return taskdl_server


def test_a_call_leaves_no_header_field_in_the_log(echoing: EmulatorServer, caplog: pytest.LogCaptureFixture) -> None:
    hook = EoAnalysisHook()
    with pytest.raises(AuthenticationError) as caught:
        hook.list_files("7")
    hook.close()
    assert_canary_free(caplog.records, caught.value)
    assert "HTTP Request: GET" in caplog.text


def test_an_async_call_leaves_no_header_field_in_the_log(
    echoing: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def call() -> None:
        hook = EoAnalysisHook()
        try:
            await hook.alist_files("7")
        finally:
            await hook.aclose()

    with pytest.raises(AuthenticationError):
        asyncio.run(call())
    assert_canary_free(caplog.records)
    assert "HTTP Request: GET" in caplog.text


def test_the_calls_of_others_are_logged_as_before(echoing: EmulatorServer, caplog: pytest.LogCaptureFixture) -> None:
    hook = EoAnalysisHook()
    with pytest.raises(AuthenticationError):
        hook.list_files("7")
    hook.close()
    httpx.get(f"{echoing.base_url}/analysis/task/get/Download/url?taskId=7")
    assert CANARY in caplog.text
