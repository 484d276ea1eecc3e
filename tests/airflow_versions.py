"""What tests use of Airflow and is elsewhere, or missing, in one of the versions that the package supports."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

AIRFLOW: tuple[int, int] = tuple(map(int, version("apache-airflow").split(".")[:2]))  # type: ignore[assignment]

# For type checkers it is the newest: they see one Airflow only.
if TYPE_CHECKING or AIRFLOW >= (3, 2):
    from airflow.sdk.exceptions import AirflowRescheduleException
    from airflow.sdk.serde import deserialize, serialize
else:
    from airflow.exceptions import AirflowRescheduleException
    from airflow.serialization.serde import deserialize, serialize

# Airflow 2 calls assets datasets, in its database as well.
ASSET = "asset" if AIRFLOW >= (3, 0) else "dataset"
DAG_BAG = "airflow.dag_processing.dagbag" if AIRFLOW >= (3, 2) else "airflow.models.dagbag"

__all__ = [
    "AIRFLOW", "ASSET", "DAG_BAG", "AirflowRescheduleException", "before", "conn_id_of", "deserialize", "serialize",
    "since",
]  # fmt: skip


def since(major: int, minor: int, why: str) -> pytest.MarkDecorator:
    """Return the mark of a test that holds from this Airflow on.

    :param why: What older ones lack.
    """
    return pytest.mark.skipif((major, minor) > AIRFLOW, reason=f"Airflow before {major}.{minor}: {why}")


def before(major: int, minor: int, why: str) -> pytest.MarkDecorator:
    """Return the mark of a test that holds for Airflows older than this.

    :param why: What is new in it.
    """
    return pytest.mark.skipif((major, minor) <= AIRFLOW, reason=f"Airflow from {major}.{minor} on: {why}")


def conn_id_of(path: ObjectStoragePath) -> str | None:
    """Return the connection of a path, which had no attribute of its own before 3.2."""
    conn_id: str | None = path.conn_id if AIRFLOW >= (3, 2) else path.storage_options.get("conn_id")
    return conn_id
