"""The pages on sensor and operator leave out no parameter."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor
from tests.docs.snippets import ROOT


@pytest.mark.parametrize(
    ("page", "kind"), [("sensor", DownloadLinkSensor), ("operator", DownloadToObjectStorageOperator)]
)
def test_every_parameter_is_in_the_table(page: str, kind: Any) -> None:
    lines = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("| `"))
    own = [name for name, it in inspect.signature(kind.__init__).parameters.items() if it.kind is it.KEYWORD_ONLY]
    assert len(own) > 5
    assert [name for name in own if f"`{name}`" not in table] == []
