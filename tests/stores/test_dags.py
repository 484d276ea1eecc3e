"""Two of the example DAGs, run by Airflow itself, write to every store through its connection."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_taskdl.testing import Emulator
from airflow_provider_taskdl.testing.__main__ import EO_TASK, add_example_tasks
from tests.stores.places import Place

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

DAGS = Path(__file__).parents[2] / "example_dags"


def run(dag_id: str, url: str, patch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Run an example to its end, and return its tasks' XComs."""
    from airflow import settings
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    patch.setattr(settings, "DAGS_FOLDER", str(DAGS))
    patch.setenv("AIRFLOW_VAR_TASKDL_DESTINATION", url)
    bag = DagBag(DAGS / f"{dag_id}.py")
    assert bag.import_errors == {}
    done = bag.dags[dag_id].test()
    assert str(done.state) == "success"
    found: dict[str, dict[str, Any]] = {}
    with create_session() as session:
        for row in session.scalars(select(XComModel).filter_by(dag_id=dag_id, run_id=done.run_id)):
            found.setdefault(row.task_id, {})[row.key] = XComModel.deserialize_value(row)
    return found


@pytest.mark.parametrize("dag_id", ["bls_log_export", "eo_analysis_results"])
def test_an_example_writes_there_and_reads_what_it_wrote(
    airflow_db: None, dag_id: str, place: Place, url: str, taskdl_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_example_tasks(taskdl_emulator)
    xcom = run(dag_id, url, monkeypatch)
    service: Any = dag_id.partition("_")[0]
    task_id = EO_TASK if service == "eo" else xcom["start_export"]["return_value"]
    task = taskdl_emulator.find(service, task_id)
    assert task is not None
    wanted = {file.name: file.content.sha256 for file in task.files}
    paths = xcom["download"]["return_value"]
    assert all(path.startswith(f"{url}/") for path in paths)
    read = {path.rpartition("/")[2]: ObjectStoragePath(path).read_bytes() for path in paths}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in read.items()} == wanted
    manifest = json.loads(ObjectStoragePath(xcom["download"]["manifest"]).read_bytes())
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == wanted
    if service == "bls":
        assert xcom["report"]["return_value"]["requests"] == 100_000
    else:
        assert 0 < xcom["vegetation"]["return_value"]["mean_ndvi"] < 1
    assert not taskdl_emulator.leaks
    assert len(place.names(url)) == len(wanted) + 1
