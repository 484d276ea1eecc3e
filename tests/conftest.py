"""Settings that Airflow reads when it is imported, and its database for the tests that need one."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.s3 import s3_front, s3_server

__all__ = ["s3_front", "s3_server"]  # fixtures: one server for all tests

pytest.register_assert_rewrite("airflow_provider_taskdl.testing.contract")  # so that its failures say what was there
if "AIRFLOW_HOME" not in os.environ:
    _home, _maker = tempfile.mkdtemp(prefix="airflow-home-"), os.getpid()
    os.environ["AIRFLOW_HOME"] = _home

    @atexit.register
    def _remove_home() -> None:
        if os.getpid() == _maker:  # not when a child ends that was forked of this process
            shutil.rmtree(_home, ignore_errors=True)


os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's database, in AIRFLOW_HOME, with its tables: what ``dag.test()`` needs."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def fresh_paces() -> Iterator[None]:
    """No test waits because a service of an earlier one asked for it: paces are the process's."""
    yield
    if pace := sys.modules.get("airflow_provider_taskdl.hooks.pace"):
        pace.forget_paces()
