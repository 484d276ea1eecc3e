from __future__ import annotations

import inspect
import json
from contextlib import closing
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.operators.eo_analysis import EoCreateAnalysisTaskOperator
from airflow_provider_taskdl.testing import Body, Emulator, Fault, Lose, Status, Task
from tests.running import make_context, outcome

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

CODE = "neu_extract_building_segmentation"


def _create(**settings: Any) -> EoCreateAnalysisTaskOperator:
    return EoCreateAnalysisTaskOperator(task_id="create", **{"meta_data_id": 77, "algorithms": CODE, **settings})


def _try(number: int = 1) -> Any:
    context = make_context()
    del context["task_state_store"]
    context["ti"].try_number = number
    return context


def _tasks(emulator: Emulator) -> list[Task]:
    return [task for (service, _), task in emulator.tasks.items() if service == "eo"]


def test_all_that_the_page_names_can_be_asked_for(taskdl_emulator: Emulator) -> None:
    algorithms = [CODE, {"algorithm": "ndvi", "analyzeParam": {"red": 3}}]
    numbers = {"confidence_threshold": "0.3", "slice_width": "256", "slice_height": 128}
    task_id = _create(
        meta_data_id="77", algorithms=algorithms, name="area", shape_wkt="POLYGON(())", **numbers
    ).execute(_try())
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


def test_every_parameter_is_a_template_and_only_assigned() -> None:
    own = inspect.signature(EoCreateAnalysisTaskOperator.__init__).parameters
    values = {name: f"{{{{ params.{name} }}}}" for name in own if name not in ("self", "kwargs")}
    operator = EoCreateAnalysisTaskOperator(task_id="create", **values)
    assert {name: getattr(operator, name) for name in values} == values
    operator.render_template_fields({"params": {name: f"the {name}" for name in values}})
    assert {name: getattr(operator, name) for name in values} == {name: f"the {name}" for name in values}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"meta_data_id": ""}, "meta_data_id is empty"),
        ({"meta_data_id": "x"}, "meta_data_id must be a number"),
        ({"algorithms": []}, "at least one"),
        ({"algorithms": [{"analyzeParam": {}}]}, "at least one"),
        ({"algorithms": ""}, "at least one"),
        ({"slice_width": "wide"}, "slice_width must be a number"),
    ],
)
def test_a_parameter_that_is_wrong_fails_before_anything_is_asked(
    taskdl_emulator: Emulator, settings: dict[str, Any], says: str
) -> None:
    kind, cause = outcome(lambda: _create(**settings).execute(_try()))
    assert (kind, type(cause).__name__) == ("failed", "ConnectionConfigError")
    with pytest.raises(TaskDownloadError, match=says):
        raise cause
    assert taskdl_emulator.count() == 0


@pytest.mark.parametrize("fault", [Lose(), Lose(reset=True), Lose(500), Lose(504)])
def test_a_lost_answer_is_found_again(taskdl_emulator: Emulator, fault: Fault) -> None:
    taskdl_emulator.fault("eo.create", fault)
    first = _create(name="area").execute(_try())
    assert [task.id for task in _tasks(taskdl_emulator)] == [first]
    taskdl_emulator.fault("eo.list", Status(503), times=1)
    assert outcome(lambda: _create(name="another").execute(_try(1)))[0] == "retry"
    second = _create(name="another").execute(_try(2))
    assert [task.id for task in _tasks(taskdl_emulator)] == [first, second]
    assert taskdl_emulator.count("eo.create") == 2


def test_what_has_failed_is_made_anew(taskdl_emulator: Emulator) -> None:
    first = _create().execute(_try(1))
    (task,) = _tasks(taskdl_emulator)
    assert _create().execute(_try(2)) == first
    task.finish("failed")
    assert _create().execute(_try(2)) != first


@pytest.mark.parametrize("word", ["FAILED", "failed", "CANCELLED", "Canceled", "ERROR", "DELETED", "ABORTED", "4"])
def test_a_task_that_came_to_nothing_is_not_adopted(taskdl_emulator: Emulator, word: str) -> None:
    first = _create().execute(_try(1))
    name = _tasks(taskdl_emulator)[0].request["taskName"]
    listed = {"total": 1, "list": [{"id": first, "taskName": name, "taskStatus": word}]}
    answer = json.dumps({"code": 200, "message": "OK", "data": listed})
    taskdl_emulator.fault("eo.list", Body(text=answer, type="application/json"))
    assert _create().execute(_try(2)) != first
