"""Settings that Airflow reads when it is imported, and its database for the tests that need one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import pytest

from tests.s3 import s3_front, s3_server
from tests.temporary import temporary_folder

__all__ = ["s3_front", "s3_server"]  # fixtures: one server for all tests

pytest.register_assert_rewrite("airflow_provider_taskdl.testing.contract")  # so that its failures say what was there
if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = str(temporary_folder("airflow-home-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
with suppress(ImportError):  # the environment for Google's store has none
    from hypothesis import HealthCheck, settings

    # How long an example takes says how busy the machine is.
    settings.register_profile("patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
with suppress(ImportError):
    import botocore.loaders

    # One reader of the vendor's service descriptions for all S3 clients: read anew, they are most of what one costs.
    botocore.loaders.create_loader = cache(botocore.loaders.create_loader)


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
