from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.operators.eo_analysis import EoCreateAnalysisTaskOperator
from airflow_provider_taskdl.testing import Body, Emulator, Fault, Lose, Status, Task
from tests.running import a_try, outcome

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

CODE = "neu_extract_building_segmentation"


def _create(**settings: Any) -> EoCreateAnalysisTaskOperator:
    return EoCreateAnalysisTaskOperator(task_id="create", **{"meta_data_id": 77, "algorithms": CODE, **settings})


def _tasks(emulator: Emulator) -> list[Task]:
    return [task for (service, _), task in emulator.tasks.items() if service == "eo"]


def test_all_that_the_page_names_can_be_asked_for(taskdl_emulator: Emulator) -> None:
    algorithms = [CODE, {"algorithm": "ndvi", "analyzeParam": {"red": 3}}]
    numbers = {"confidence_threshold": "0.3", "slice_width": "256", "slice_height": 128}
    task_id = _create(
        meta_data_id="77", algorithms=algorithms, name="area", shape_wkt="POLYGON(())", **numbers
    ).execute(a_try())
    (task,) = _tasks(taskdl_emulator)
    asked = {**task.request}
    assert asked.pop("taskName").startswith("area-")
    assert asked == {
        "metaDataId": 77, "algorithms": [{"algorithm": CODE}, algorithms[1]], "shapeWkt": "POLYGON(())",
        "confidenceThreshold": 0.3, "sliceWidth": 256, "sliceHeight": 128,
    }  # fmt: skip
    assert task_id == task.id
    with closing(EoAnalysisHook()) as hook:
        assert [file.name for file in hook.list_files(task_id).files] == [f"{CODE}.tif", "ndvi.tif"]


@pytest.mark.parametrize("fault", [Lose(), Lose(reset=True), Lose(500), Lose(504)])
def test_a_lost_answer_is_found_again(taskdl_emulator: Emulator, fault: Fault) -> None:
    taskdl_emulator.fault("eo.create", fault)
    first = _create(name="area").execute(a_try())
    assert [task.id for task in _tasks(taskdl_emulator)] == [first]
    taskdl_emulator.fault("eo.list", Status(503), times=1)
    assert outcome(lambda: _create(name="another").execute(a_try(1)))[0] == "retry"
    second = _create(name="another").execute(a_try(2))
    assert [task.id for task in _tasks(taskdl_emulator)] == [first, second]
    assert taskdl_emulator.count("eo.create") == 2


def test_what_has_failed_is_made_anew(taskdl_emulator: Emulator) -> None:
    first = _create().execute(a_try(1))
    (task,) = _tasks(taskdl_emulator)
    assert _create().execute(a_try(2)) == first
    task.finish("failed")
    assert _create().execute(a_try(2)) != first


@pytest.mark.parametrize("word", ["FAILED", "failed", "CANCELLED", "Canceled", "ERROR", "DELETED", "ABORTED", "4"])
def test_a_task_that_came_to_nothing_is_not_adopted(taskdl_emulator: Emulator, word: str) -> None:
    first = _create().execute(a_try(1))
    name = _tasks(taskdl_emulator)[0].request["taskName"]
    listed = {"total": 1, "list": [{"id": first, "taskName": name, "taskStatus": word}]}
    answer = json.dumps({"code": 200, "message": "OK", "data": listed})
    taskdl_emulator.fault("eo.list", Body(text=answer, type="application/json"))
    assert _create().execute(a_try(2)) != first
