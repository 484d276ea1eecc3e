from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ServiceUnavailableError,
    TaskApiError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.listing import TaskState, parse_time
from airflow_provider_taskdl.testing import DeclareSize, Emulator, EmulatorServer, Hide, Status

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]


@pytest.fixture(
    params=[{}, {"eo_prefix": "/api/v1/", "mirror_codes": True, "header_name": "X-Token", "header_prefix": ""}]
)
def taskdl_emulator_options(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def hook(taskdl_server: EmulatorServer) -> Any:
    with_hook = EoAnalysisHook()
    yield with_hook
    with_hook.close()


def test_the_hook_gets_files_sizes_and_expiry(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    task = taskdl_emulator.eo_task({"a.tif": b"aaa", "b.pdf": b"bb"}, id=12345)
    listing = hook.list_files("12345")
    assert listing.summary() == {
        "remote_task_id": "12345", "file_names": ["a.tif", "b.pdf"], "file_count": 2, "total_size": 5,
    }  # fmt: skip
    assert hook.get_state(task.id) is TaskState.SUCCESS
    assert hook.test_connection()[0]
    for file, content in zip(listing.files, (b"aaa", b"bb"), strict=True):
        assert file.link is not None
        assert file.link.expires_at is not None
        assert httpx.get(file.link.reveal()).content == content
    assert not taskdl_emulator.leaks
    assert [seen.status for seen in taskdl_emulator.seen("file")] == [200, 200]


def test_a_failed_task_names_the_algorithm(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    task = taskdl_emulator.eo_task({"a": b"a"}, ready_after=60, reason="NDVI of 3 scenes")
    assert hook.get_state(task.id) is TaskState.RUNNING
    task.finish("failed", "NDVI of 3 scenes")
    assert hook.run(hook.api.get_status(task.id)).reason == "failed: NDVI of 3 scenes"
    assert hook.list_files(task.id).files == ()


def test_refusals_are_in_the_body_and_mirrored_only_if_asked(
    taskdl_emulator: Emulator, taskdl_server: EmulatorServer, hook: EoAnalysisHook
) -> None:
    with pytest.raises(TaskNotFoundError):
        hook.list_files("1")
    with pytest.raises(TaskNotFoundError):
        hook.get_state("1")
    url = f"{taskdl_server.base_url}{taskdl_emulator.eo_prefix}/analysis/task/get/Download/url"
    header = {taskdl_emulator.header_name: f"{taskdl_emulator.header_prefix} {taskdl_emulator.token}".strip()}
    for headers, query, code in (({}, "?taskId=1", 401), (header, "", 400), (header, "?taskId=1", 404)):
        answer = httpx.get(url + query, headers=headers)
        assert answer.json()["code"] == code
        assert answer.json()["data"] is None
        assert answer.status_code == (code if taskdl_emulator.mirror_codes else 200)


def test_a_wrong_token_is_refused(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    taskdl_emulator.token = "another"
    with pytest.raises(AuthenticationError):
        hook.list_files("1")


def test_without_a_status_endpoint_only_links_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(status_endpoint=False)
    task = emulator.eo_task({"a": b"a"})
    with EmulatorServer(emulator) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        hook = EoAnalysisHook()
        assert hook.list_files(task.id).is_ready
        with pytest.raises(TaskApiError) as caught:
            hook.get_state(task.id)
        hook.close()
    assert not isinstance(caught.value, TaskNotFoundError)


def test_sizes_can_be_left_out_or_wrong(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    silent = taskdl_emulator.eo_task({"a": b"abc"}, declare_sizes=False)
    wrong = taskdl_emulator.eo_task()
    taskdl_emulator.add_file(wrong, "a", b"abc", declared_size=7)
    assert hook.list_files(silent.id).summary()["total_size"] is None
    assert [file.size for file in hook.list_files(wrong.id).files] == [7]
    taskdl_emulator.fault(f"eo.link:{wrong.id}", DeclareSize(by=-2))
    assert hook.list_files(wrong.id).total_size == 5


def test_bad_file_names_are_listed_as_given_and_can_be_fetched(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    names = ["../../etc/passwd", "..", "a\nb", "twice", "twice", "ä 測試.tif", "x" * 300]
    task = taskdl_emulator.eo_task()
    for number, name in enumerate(names):
        taskdl_emulator.add_file(task, name, str(number))
    files = hook.list_files(task.id).files
    assert [file.name for file in files] == names
    assert [httpx.get(file.link.reveal()).text for file in files if file.link] == list("0123456")


@pytest.mark.parametrize(
    ("how", "linked"), [("empty", []), ("null", []), ("blank", [False, False]), ("first", [False, True])]
)
def test_links_can_be_hidden_for_a_while(
    taskdl_emulator: Emulator, hook: EoAnalysisHook, how: Any, linked: list[bool]
) -> None:
    task = taskdl_emulator.eo_task({"a": b"a", "b": b"b"})
    rule = taskdl_emulator.fault("eo.link", Hide(how), times=1, after=1)
    shown = [[file.link is not None for file in hook.list_files(task.id).files] for _ in range(3)]
    assert shown == [[True, True], linked, [True, True]]
    assert rule.fired == 1


def test_a_code_in_the_body_can_differ_from_https(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    task = taskdl_emulator.eo_task({"a": b"a"})
    taskdl_emulator.fault("eo.link", Status(200, error="500", retry_after="7"), times=1)
    with pytest.raises(ServiceUnavailableError) as caught:
        hook.list_files(task.id)
    assert (caught.value.code, caught.value.retry_after) == ("500", 7.0)


def test_the_announced_end_is_the_links_own(taskdl_emulator: Emulator, taskdl_server: EmulatorServer) -> None:
    time = [1_700_000_000.25]
    taskdl_emulator.now = lambda: time[0]
    task = taskdl_emulator.eo_task({"a": b"a"})
    url = f"{taskdl_server.base_url}{taskdl_emulator.eo_prefix}/analysis/task/get/Download/url?taskId={task.id}"
    header = {taskdl_emulator.header_name: f"{taskdl_emulator.header_prefix} {taskdl_emulator.token}".strip()}
    (entry,) = json.loads(httpx.get(url, headers=header).content)["data"]["downloadUrls"]
    ends = parse_time(entry["expiresAt"]).timestamp()
    assert ends == 1_700_000_300
    for moment, status in ((ends - 0.01, 200), (ends, 403)):
        time[0] = moment
        assert httpx.get(entry["downloadUrl"]).status_code == status


def test_a_task_is_created_listed_and_has_files(taskdl_emulator: Emulator, hook: EoAnalysisHook) -> None:
    taskdl_emulator.ready_after = 60
    algorithms: list[dict[str, Any]] = [{"algorithm": "ndvi"}, {"algorithm": "roads", "analyzeParam": {"width": 3}}]
    ids = [hook.create_analysis_task(meta_data_id=1, task_name=f"area {n}", algorithms=algorithms) for n in range(3)]
    assert [hook.list_files(ids[0]).is_ready, str(hook.get_state(ids[0]))] == [False, "running"]
    tasks = [taskdl_emulator.find("eo", task_id) for task_id in ids]
    for task, end in zip(tasks, ("success", "failed", "expired"), strict=True):
        assert task is not None
        task.finish(end)  # type: ignore[arg-type]
    assert [file.name for file in hook.list_files(ids[0]).files] == ["ndvi.tif", "roads.tif"]
    listed = {task.id: str(task.task_state) for task in hook.list_analysis_tasks("area", page_size=2)}
    assert listed == dict(zip(ids, ("success", "failed", "expired"), strict=True))
    assert [task.task_name for task in hook.list_analysis_tasks("area 1")] == ["area 1"]
    pages = [hook.run(hook.api.list_tasks(number)) for number in (1, 2)]
    assert {task.remote_task_id: str(task.status.state) for task in pages[0].tasks} == listed
    assert [(page.tasks == (), page.is_last, page.total) for page in pages] == [(False, True, 3), (True, False, None)]


@pytest.mark.parametrize(
    "change", [{"meta_data_id": 0}, {"task_name": ""}, {"algorithms": []}, {"algorithms": [{"algorithm": ""}]}]
)
def test_a_task_that_lacks_something_is_refused(hook: EoAnalysisHook, change: dict[str, Any]) -> None:
    with pytest.raises(TaskApiError) as caught:
        hook.create_analysis_task(**{"meta_data_id": 1, "task_name": "a", "algorithms": [{"algorithm": "b"}], **change})
    assert caught.value.code == "400"
