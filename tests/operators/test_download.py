from __future__ import annotations

import inspect
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_taskdl.exceptions import DownloadFailedError, TaskDownloadError
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.testing import Body, Corrupt, Cut, DeclareSize, Drip, Emulator, Fault, Hide, Status
from tests.airflow_versions import since
from tests.running import make_context, outcome, run, until

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

FILES = {"b.tif": b"\x00\x01" * 5000, "a.pdf": b"", "ü 100%.csv": b"x;y\n"}


def _operator(destination: Any, task_id: Any = "{{ unset }}", **settings: Any) -> DownloadToObjectStorageOperator:
    facts = {"conn_id": "eo_analysis_default", "remote_task_id": task_id, "destination": destination}
    return DownloadToObjectStorageOperator(task_id="download", **{**facts, **settings})


def _result(operator: DownloadToObjectStorageOperator, context: Any = None) -> tuple[str, Any]:
    return outcome(lambda: run(operator, context or make_context()))


def _names(directory: Path) -> set[str]:
    """The files that show in a destination."""
    return {path.name for path in directory.iterdir() if path.is_file()} if directory.exists() else set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off without waiting."""
    monkeypatch.setattr("random.uniform", lambda low, high: low)


def test_paths_come_in_the_services_order_with_all_bytes(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task, context = taskdl_emulator.eo_task(FILES), make_context()
    paths = run(_operator(str(tmp_path / "out"), task.id), context)
    assert paths == [f"file://{tmp_path}/out/{name}" for name in FILES]
    assert [ObjectStoragePath(path).read_bytes() for path in paths] == list(FILES.values())
    assert _names(tmp_path / "out") == set(FILES)
    assert taskdl_emulator.leaks == []


def test_xcom_has_the_manifest_and_a_summary(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task, context = taskdl_emulator.eo_task(FILES), make_context()
    run(_operator(str(tmp_path), task.id), context)
    assert set(context["ti"].xcom) == {"manifest", "summary"}
    assert context["ti"].xcom["summary"].pop("seconds") >= 0
    assert context["ti"].xcom["summary"] == {"files": 3, "bytes": 10_004, "skipped": 0}
    manifest = json.loads(ObjectStoragePath(context["ti"].xcom["manifest"]).read_bytes())
    assert context["ti"].xcom["manifest"] == f"file://{tmp_path}/_taskdl/{task.id}.json"
    assert (manifest["version"], manifest["remote_task_id"]) == (1, task.id)
    assert [file["name"] for file in manifest["files"]] == list(FILES)
    assert [file["sha256"] for file in manifest["files"]] == [file.content.sha256 for file in task.files]
    assert [file["path"] for file in manifest["files"]] == [f"file://{tmp_path}/{name}" for name in FILES]


def test_a_bls_task_gives_its_one_file(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.bls_task(b"[1, 2]", name="log.json", checksums=True)
    paths = run(_operator(tmp_path, task.id, conn_id="baidu_bls_default"), make_context())
    assert paths == [f"file://{tmp_path}/log.json"]
    assert (tmp_path / "log.json").read_bytes() == b"[1, 2]"


@pytest.mark.parametrize(
    "name", ["a b#c.txt", "ü雪.tif", "100%.txt", "%41.txt", "a?b=c&d.txt", "[x]*.txt", "a;b:c@d.txt", "~a", ".hidden"]
)
def test_any_plain_name_comes_back_by_its_path(taskdl_emulator: Emulator, tmp_path: Path, name: str) -> None:
    task = taskdl_emulator.eo_task({name: b"123"})
    (path,) = run(_operator(f"{tmp_path}/d #1? ü%20", task.id), make_context())
    assert ObjectStoragePath(path).read_bytes() == b"123"
    assert (tmp_path / "d #1? ü%20" / name).read_bytes() == b"123"


@pytest.mark.parametrize("name", ["../a", "a/b", "..", "a\nb", " a", "_taskdl", "a?", "a#", "a?#b"])
def test_a_name_that_cannot_be_a_path_stops_all_before_any_byte(
    taskdl_emulator: Emulator, tmp_path: Path, name: str
) -> None:
    task = taskdl_emulator.eo_task({"good": b"1", name: b"2"})
    kind, cause = _result(_operator(tmp_path / "out", task.id))
    assert (kind, type(cause).__name__) == ("failed", "UnsafeFileNameError")
    assert cause.remote_task_id == task.id
    assert taskdl_emulator.count("file") == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("where", "fault", "settings", "expected"),
    [
        ("eo.link", Status(401), {}, ("failed", "AuthenticationError")),
        ("eo.link", Status(404), {}, ("failed", "TaskNotFoundError")),
        ("eo.link", Status(400), {}, ("failed", "TaskApiError")),
        ("eo.link", Status(503), {}, ("retry", "ServiceUnavailableError")),
        ("eo.link", Status(429), {}, ("retry", "RateLimitedError")),
        ("eo.link", Body(), {}, ("retry", "MalformedResponseError")),
        ("eo.link", Hide("empty"), {}, ("retry", "TaskNotReadyError")),
        ("eo.link", Hide("first"), {}, ("retry", "TaskNotReadyError")),
        ("eo.link", DeclareSize(), {"file_pattern": "b.tif"}, ("retry", "IntegrityError")),
        ("file:b.tif", Status(403), {}, ("retry", "LinkRefusedError")),
        ("file:b.tif", Corrupt(at=7), {}, ("retry", "IntegrityError")),
        ("file:b.tif", Cut(at=0), {}, ("retry", "TransferError")),
        ("file:b.tif", Status(503), {}, ("retry", "TransferError")),
        ("file:*", Status(403), {}, ("retry", "DownloadFailedError")),
        ("", None, {"file_pattern": "*.zip"}, ("failed", "ConnectionConfigError")),
        ("", None, {"expected_files": 4}, ("retry", "TaskNotReadyError")),
        ("", None, {"expected_files": 2}, ("failed", "IntegrityError")),
        ("", None, {"expected_files": ["c.tif"]}, ("retry", "TaskNotReadyError")),
    ],
)
@pytest.mark.usefixtures("patient")
def test_an_error_is_retried_exactly_if_a_retry_can_help(
    taskdl_emulator: Emulator, tmp_path: Path, where: str, fault: Fault | None, settings: dict[str, Any],
    expected: tuple[str, str],
) -> None:  # fmt: skip
    task = taskdl_emulator.eo_task(FILES, checksums=True)
    if fault is not None:
        taskdl_emulator.fault(where, fault)
    kind, cause = _result(_operator(tmp_path, task.id, **settings))
    assert (kind, type(cause).__name__) == expected
    assert isinstance(cause, TaskDownloadError)
    assert cause.remote_task_id == task.id
    assert not (tmp_path / "_taskdl" / f"{task.id}.json").exists()
    assert taskdl_emulator.count() > 0


@pytest.mark.parametrize("conn_id", ["eo_analysis_default", "baidu_bls_default"])
@pytest.mark.parametrize(("ends", "words"), [("failed", "no scene"), ("expired", "has expired")])
def test_a_task_that_is_over_is_not_waited_for(
    taskdl_emulator: Emulator, tmp_path: Path, conn_id: str, ends: Any, words: str
) -> None:
    course: dict[str, Any] = {"ends": ends, "reason": "no scene" if ends == "failed" else None}
    is_bls = conn_id == "baidu_bls_default"
    task = taskdl_emulator.bls_task(b"1", **course) if is_bls else taskdl_emulator.eo_task({"a": b"1"}, **course)
    kind, cause = _result(_operator(tmp_path, task.id, conn_id=conn_id))
    assert (kind, type(cause).__name__, cause.remote_task_id) == ("failed", "TaskFailedError", task.id)
    assert words in str(cause)


@pytest.mark.parametrize(("extra", "fault"), [({"check_status": False}, None), ({}, Status(404)), ({}, Body())])
def test_where_no_state_is_known_a_task_without_links_may_still_get_some(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any],
    fault: Fault | None,
) -> None:  # fmt: skip
    connection = {**json.loads(os.environ["AIRFLOW_CONN_EO_ANALYSIS_DEFAULT"]), "extra": json.dumps(extra)}
    monkeypatch.setenv("AIRFLOW_CONN_EO_ANALYSIS_DEFAULT", json.dumps(connection))
    task = taskdl_emulator.eo_task({"a": b"1"}, ends="failed")
    if fault is not None:
        taskdl_emulator.fault("eo.status", fault)
    kind, cause = _result(_operator(tmp_path, task.id))
    assert (kind, type(cause).__name__) == ("retry", "TaskNotReadyError")
    assert taskdl_emulator.count("eo.status") == (fault is not None)


def test_a_task_that_expires_on_the_way_ends_the_download_at_once(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = taskdl_emulator.eo_task({"a": b"1", "b": b"2"})
    really = TaskApiHook.list_files

    def last_time(hook: TaskApiHook, remote_task_id: str) -> FileListing:
        listing = really(hook, remote_task_id)
        task.finish("expired")
        return listing

    monkeypatch.setattr(TaskApiHook, "list_files", last_time)
    kind, cause = _result(_operator(tmp_path, task.id, concurrency=1))
    assert (kind, {type(error).__name__ for error in cause.errors}) == ("failed", {"TaskFailedError"})
    assert taskdl_emulator.count("eo.link") == 2


@pytest.mark.parametrize(
    "settings",
    [{"file_pattern": "['b.*', '*.pdf']", "expected_files": 2}, {"expected_files": "['a.pdf', 'b.tif']"},
     {"file_pattern": '["b.*", "a.pdf"]', "expected_files": '["a.pdf"]'}],
)  # fmt: skip
def test_a_list_that_a_template_made_text_of_is_a_list(
    taskdl_emulator: Emulator, tmp_path: Path, settings: dict[str, Any]
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    assert len(run(_operator(tmp_path, task.id, **settings), make_context())) >= 2


def test_a_link_into_the_private_network_is_refused_for_good(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    taskdl_emulator.link_origin = "http://169.254.169.254"
    task = taskdl_emulator.eo_task({"a": b"1"})
    kind, cause = _result(_operator(tmp_path, task.id))
    assert (kind, type(cause).__name__) == ("failed", "UnsafeLinkError")


def test_two_files_of_one_name_are_refused_for_good(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task({"a": b"1"})
    taskdl_emulator.add_file(task, "a", b"2")
    kind, cause = _result(_operator(tmp_path, task.id))
    assert (kind, type(cause).__name__) == ("failed", "UnsafeFileNameError")
    assert (cause.remote_task_id, cause.file) == (task.id, "a")


def test_several_failures_are_one_error_with_all_reasons(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task(FILES)
    taskdl_emulator.fault("file:[ab].*", Status(403))
    kind, error = _result(_operator(tmp_path, task.id))
    assert (kind, type(error)) == ("retry", DownloadFailedError)
    assert "2 of 3 files" in str(error)
    assert {failed.file for failed in error.errors} == {"b.tif", "a.pdf"}
    assert _names(tmp_path) == {"ü 100%.csv"}


def test_fail_fast_stops_at_the_first_failure(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task({f"{number:02}": b"1" for number in range(20)})
    taskdl_emulator.fault("file:00", Status(403))
    kind, _ = _result(_operator(tmp_path, task.id, on_error="fail_fast", concurrency=1))
    assert kind == "retry"
    assert taskdl_emulator.count("file", "19") == 0


@pytest.mark.parametrize(("fault", "failed"), [(None, 0), ("file:b.tif status 403", 1)])
def test_good_and_bad_transfers_are_measured(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None, failed: int
) -> None:
    measured: list[Any] = []
    monkeypatch.setattr("airflow_provider_taskdl.operators.metrics.report", lambda totals, **_: measured.append(totals))
    task = taskdl_emulator.eo_task(FILES)
    if fault:
        taskdl_emulator.fault(fault)
    _result(_operator(tmp_path, task.id))
    [totals] = measured
    assert (totals.fetched, totals.failed, totals.renewals) == (len(FILES) - failed, failed, failed)
    assert totals.bytes == sum(len(data) for name, data in FILES.items() if not (fault and name == "b.tif"))


@pytest.mark.parametrize("has_state_store", [True, False])
def test_the_next_try_fetches_only_the_rest(taskdl_emulator: Emulator, tmp_path: Path, has_state_store: bool) -> None:
    task, context = taskdl_emulator.eo_task(FILES), make_context()
    if not has_state_store:
        del context["task_state_store"]
    taskdl_emulator.fault("file:b.tif", Status(403))
    assert _result(_operator(tmp_path, task.id), context)[0] == "retry"
    beside = [path.name for path in (tmp_path / "_taskdl").iterdir()]
    assert beside == ([] if has_state_store else [f"{task.id}.partial.json"])
    taskdl_emulator.clear_faults()
    before = {name: taskdl_emulator.count("file", name) for name in FILES}
    assert _result(_operator(tmp_path, task.id), context)[0] == "success"
    assert {name: taskdl_emulator.count("file", name) - before[name] for name in FILES} == {
        "b.tif": 1, "a.pdf": 0, "ü 100%.csv": 0,
    }  # fmt: skip
    assert context["ti"].xcom["summary"]["skipped"] == 2
    assert not context.get("task_state_store")
    assert [path.name for path in (tmp_path / "_taskdl").iterdir()] == [f"{task.id}.json"]


@pytest.mark.parametrize(
    ("overwrite", "second", "gets"), [("verified", "success", 0), ("always", "success", 3), ("never", "failed", 0)]
)
def test_what_is_there_already_is_treated_as_told(
    taskdl_emulator: Emulator, tmp_path: Path, overwrite: str, second: str, gets: int
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    operator = _operator(tmp_path, task.id, overwrite=overwrite)
    kind, paths = _result(operator)
    assert (kind, taskdl_emulator.count("file")) == ("success", 3)
    kind, again = _result(operator)
    assert (kind, taskdl_emulator.count("file")) == (second, 3 + gets)
    assert type(again).__name__ == "DestinationExistsError" if second == "failed" else again == paths


@pytest.mark.parametrize(
    ("expected", "kind"),
    [(3, "success"), ("3", "success"), (" 3 ", "success"), ("b.tif", "success"), (["b.tif", "a.pdf"], "success"),
     ({"a.pdf"}, "success"), (None, "success"), ("4", "retry"), ("2", "failed"), ("c.tif", "retry"), ("²", "retry"),
     ("", "failed"), (" ", "failed"), (True, "failed"), (3.0, "failed"), ([3], "failed")],
)  # fmt: skip
def test_expected_files_may_be_what_a_template_gives(
    taskdl_emulator: Emulator, tmp_path: Path, expected: Any, kind: str
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    assert _result(_operator(tmp_path, task.id, expected_files=expected))[0] == kind


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.tif", {"b.tif"}), (["*.pdf", "*.csv"], {"a.pdf", "ü 100%.csv"}), (None, set(FILES)), ("b.*", {"b.tif"})],
)
def test_only_what_matches_is_fetched(taskdl_emulator: Emulator, tmp_path: Path, pattern: Any, names: set[str]) -> None:
    task = taskdl_emulator.eo_task(FILES)
    paths = run(_operator(tmp_path, task.id, file_pattern=pattern), make_context())
    assert _names(tmp_path) == names
    assert [path.rpartition("/")[2] for path in paths] == [name for name in FILES if name in names]


MIB = 1024 * 1024
WRONG = [
    {"part_size": MIB - 1}, {"part_size": 1024 * MIB + 1}, {"concurrency": 0}, {"concurrency": 257},
    {"overwrite": "yes"}, {"on_error": "ignore"}, {"destination": ""}, {"destination": "s3://"},
    {"destination": "s3:///prefix"}, {"destination": "s3://missing_conn@bucket/p"}, {"destination": "nope://bucket"},
    {"destination": "file://host/p"}, {"conn_id": "other"}, {"expected_files": ""}, {"remote_task_id": "{{ x }}"},
]  # fmt: skip


@pytest.mark.parametrize("settings", WRONG, ids=str)
@pytest.mark.parametrize("wait", [False, True])
def test_a_parameter_that_is_wrong_fails_before_anything_is_asked(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], wait: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http", "host": "h"}))
    task = taskdl_emulator.eo_task(FILES, ready_after=60)
    facts = {"destination": tmp_path, "remote_task_id": task.id, "wait_for_link": wait, **settings}
    kind, cause = _result(_operator(**facts))
    assert (kind, type(cause).__name__) == ("failed", "ConnectionConfigError")
    assert taskdl_emulator.count() == 0


@pytest.mark.parametrize("settings", [{"part_size": MIB}, {"part_size": 1024 * MIB}, {"concurrency": 1},
                                      {"concurrency": 256}])  # fmt: skip
def test_the_bounds_themselves_are_fine(taskdl_emulator: Emulator, tmp_path: Path, settings: dict[str, Any]) -> None:
    assert _result(_operator(tmp_path, taskdl_emulator.eo_task(FILES).id, **settings))[0] == "success"


def test_a_disk_that_refuses_is_left_to_airflows_retries(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kind, error = _result(_operator(tmp_path / "file" / "out", taskdl_emulator.eo_task(FILES).id))
    assert (kind, type(error).__name__) == ("retry", "DestinationError")


def test_the_hook_is_closed_however_it_ends(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[TaskApiHook] = []
    close = TaskApiHook.close

    def spy(hook: TaskApiHook) -> None:
        close(hook)
        closed.append(hook)

    monkeypatch.setattr(TaskApiHook, "close", spy)
    good, slow = taskdl_emulator.eo_task(FILES), taskdl_emulator.eo_task(FILES, ready_after=60)
    _result(_operator(tmp_path, good.id))
    _result(_operator("", good.id))
    _result(_operator(tmp_path, slow.id, wait_for_link=True, wait_timeout=0.0))
    assert len(closed) == 3


@since(3, 0, "it runs operators in the main thread only")
def test_a_kill_ends_the_transfer_and_shows_nothing_half_written(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task({"small": b"1", "big": b"x" * 3_000_000})
    taskdl_emulator.fault("file:big", Drip(rate=100_000))
    operator, results = _operator(tmp_path, task.id), []
    thread = threading.Thread(target=lambda: results.append(outcome(lambda: operator.execute(make_context()))))
    thread.daemon = True
    thread.start()
    until(lambda: "small" in _names(tmp_path) and taskdl_emulator.bytes_sent(name="big") > 0)
    operator.on_kill()
    thread.join(10)
    assert not thread.is_alive()
    assert [(kind, type(error).__name__) for kind, error in results] == [("retry", "DownloadFailedError")]
    assert _names(tmp_path) == {"small"}
    assert not [path for path in tmp_path.rglob("*.part") if path.is_file()]


def test_a_kill_before_or_after_the_run_is_no_error(tmp_path: Path) -> None:
    _operator(tmp_path).on_kill()


def test_every_text_and_the_connection_are_templates(tmp_path: Path) -> None:
    texts = ("conn_id", "remote_task_id", "destination", "file_pattern", "overwrite", "expected_files", "on_error")
    operator = _operator(**{name: f"{{{{ params.{name} }}}}" for name in texts if name != "remote_task_id"},
                         task_id="{{ params.remote_task_id }}")  # fmt: skip
    operator.render_template_fields({"params": {name: f"its {name}" for name in texts}})
    assert {name: getattr(operator, name) for name in texts} == {name: f"its {name}" for name in texts}


def test_patterns_and_names_in_lists_are_rendered_too() -> None:
    operator = _operator("/x", "7", file_pattern=["{{ params.p }}"], expected_files=["{{ params.n }}"])
    operator.render_template_fields({"params": {"p": "*.tif", "n": "a.tif"}})
    assert (operator.file_pattern, operator.expected_files) == (["*.tif"], ["a.tif"])


def test_a_path_object_is_a_destination_and_survives_rendering(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    operator = _operator(ObjectStoragePath(f"file://{tmp_path}/a b"), taskdl_emulator.eo_task({"x": b"1"}).id)
    operator.render_template_fields({})
    assert run(operator, make_context()) == [f"file://{tmp_path}/a b/x"]


def test_the_constructor_only_assigns() -> None:
    own = inspect.signature(DownloadToObjectStorageOperator.__init__).parameters
    values = {name: f"{{{{ {name} }}}}" for name in own if name not in ("self", "kwargs")}
    operator = DownloadToObjectStorageOperator(task_id="download", **values)  # type: ignore[arg-type]
    assert {name: getattr(operator, name) for name in values} == values
    assert set(operator.template_fields) <= set(values)
