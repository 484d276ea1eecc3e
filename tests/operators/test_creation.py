"""What holds for every operator that makes a task at a service."""

from __future__ import annotations

import inspect
from collections import UserList
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import ConnectionConfigError, TaskDownloadError
from airflow_provider_taskdl.operators.bls import BlsCreateDownloadTaskOperator, BlsDeleteDownloadTaskOperator
from airflow_provider_taskdl.operators.creation import CreateTaskOperator, unique_name
from airflow_provider_taskdl.operators.eo_analysis import EoCreateAnalysisTaskOperator
from airflow_provider_taskdl.testing import Emulator
from tests.running import a_try, make_context, outcome

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

bls = partial(
    BlsCreateDownloadTaskOperator,
    task_id="create",
    log_store_name="access-log",
    query_start_time="2025-11-01T00:00:00Z",
    query_end_time="2025-11-01T01:00:00Z",
)
eo = partial(EoCreateAnalysisTaskOperator, task_id="create", meta_data_id=77, algorithms="neu_extract_buildings")


@pytest.mark.parametrize(
    "kind", [BlsCreateDownloadTaskOperator, BlsDeleteDownloadTaskOperator, EoCreateAnalysisTaskOperator]
)
def test_every_parameter_is_a_template_and_only_assigned(kind: Any) -> None:
    own = inspect.signature(kind.__init__).parameters
    values = {name: f"{{{{ params.{name} }}}}" for name in own if name not in ("self", "kwargs")}
    operator = kind(task_id="task", **values)
    assert {name: getattr(operator, name) for name in values} == values
    operator.render_template_fields({"params": {name: f"the {name}" for name in values}})
    assert {name: getattr(operator, name) for name in values} == {name: f"the {name}" for name in values}


@pytest.mark.parametrize(
    ("create", "settings", "says"),
    [
        (bls, {"query_start_time": ""}, "a run without a data interval"),
        (bls, {"query_end_time": "2025-11-01T00:00:00Z"}, "window to export is empty.*a run without a data interval"),
        (bls, {"query_start_time": "yesterday"}, "not an ISO 8601 time"),
        (bls, {"limit": "many"}, "limit must be a number"),
        (bls, {"log_store_name": ""}, "log_store_name is empty"),
        (bls, {"log_store_name": None}, "log_store_name is empty"),
        (eo, {"meta_data_id": ""}, "meta_data_id is empty"),
        (eo, {"meta_data_id": "x"}, "meta_data_id must be a number"),
        (eo, {"algorithms": []}, "at least one"),
        (eo, {"algorithms": [{"analyzeParam": {}}]}, "at least one"),
        (eo, {"algorithms": ""}, "at least one"),
        (eo, {"slice_width": "wide"}, "slice_width must be a number"),
    ],
)
def test_a_parameter_that_is_wrong_fails_before_anything_is_asked(
    taskdl_emulator: Emulator, create: Callable[..., CreateTaskOperator], settings: dict[str, Any], says: str
) -> None:
    kind, cause = outcome(lambda: create(**settings).execute(a_try()))
    assert (kind, type(cause).__name__) == ("failed", "ConnectionConfigError")
    with pytest.raises(TaskDownloadError, match=says):
        raise cause
    assert taskdl_emulator.count() == 0


@pytest.mark.parametrize(
    ("create", "as_text", "native"),
    [
        (bls, {"name": "20251120"}, {"name": 20251120}),
        (bls, {"query_start_time": "20251101"}, {"query_start_time": 20251101}),
        (bls, {"project": "7", "log_stream_name": "8", "query": "9"}, {"project": 7, "log_stream_name": 8, "query": 9}),
        (eo, {"algorithms": "7"}, {"algorithms": 7}),
        (eo, {"algorithms": ["7", "a"]}, {"algorithms": (7, "a")}),
        (eo, {"algorithms": ["7", "a"]}, {"algorithms": UserList([7, "a"])}),
        (bls, {"log_store_name": "7"}, {"log_store_name": 7}),
    ],
)
def test_what_native_rendering_makes_a_number_of_is_text_again(
    create: Callable[..., CreateTaskOperator], as_text: dict[str, Any], native: dict[str, Any]
) -> None:
    ti = make_context()["ti"]
    requests = []
    for settings in (as_text, native):
        operator = create(**settings)
        requests.append((unique_name(operator.name, ti, {}), operator._call("n").body))
    assert requests[0] == requests[1]


@pytest.mark.parametrize("algorithms", [True, None, {}, [None], [[]], [{"analyzeParam": {}}, "a"]])
def test_what_names_no_algorithm_is_refused(algorithms: Any) -> None:
    with pytest.raises(ConnectionConfigError, match="at least one"):
        eo(algorithms=algorithms)._call("n")


@pytest.mark.parametrize("name", [None, "", "nightly", "n" * 80, "日志 导出"])
def test_names_are_short_and_begin_as_wanted(name: str | None) -> None:
    made = unique_name(name, make_context()["ti"], {"limit": 5})
    assert len(made) <= 50
    assert made.startswith(f"{(name or 'airflow')[:29]}-")
    assert made == unique_name(name, make_context()["ti"], {"limit": 5})
