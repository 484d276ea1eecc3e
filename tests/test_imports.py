"""Every module of the package can be imported, whatever Airflow it meets."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import airflow_provider_taskdl

MODULES = [
    info.name
    for info in pkgutil.walk_packages(airflow_provider_taskdl.__path__, "airflow_provider_taskdl.")
    if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["airflow_provider_taskdl", *MODULES])
def test_it_imports(name: str) -> None:
    importlib.import_module(name)
