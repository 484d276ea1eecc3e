"""The shards of a task and the operator that joins them give what one task would have given."""

from __future__ import annotations

import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.sdk import Asset, AssetAlias, HookLineageCollector, ObjectStoragePath

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.get_provider_info import get_provider_info
from airflow_provider_taskdl.operators import lineage
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator, shards
from airflow_provider_taskdl.operators.join import JoinManifestsOperator
from airflow_provider_taskdl.testing import Emulator, Status
from tests.airflow_versions import since
from tests.running import AllOutletEvents, make_context, outcome, run

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

FILES = {"b.tif": b"\x00\x01" * 5000, "a.pdf": b"", "ü 100%.csv": b"x;y\n"}


def download(destination: Any, task_id: str, shard: Any, **more: Any) -> DownloadToObjectStorageOperator:
    return DownloadToObjectStorageOperator(
        task_id="download", conn_id="eo_analysis_default", remote_task_id=task_id, destination=destination,
        shard=shard, **more,
    )  # fmt: skip


def join(destination: Any, task_id: Any, count: Any, **more: Any) -> JoinManifestsOperator:
    return JoinManifestsOperator(task_id="join", remote_task_id=task_id, destination=destination, shards=count, **more)


def fetch(destination: Any, task_id: str, count: int) -> list[Any]:
    """Run all shards and return their contexts."""
    contexts = []
    for shard in shards(count):
        context = make_context()
        context["paths"] = run(download(destination, task_id, list(shard)), context)
        contexts.append(context)
    return contexts


def test_the_join_hands_on_what_one_task_would(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task, context, alone = taskdl_emulator.eo_task(FILES), make_context(), make_context()
    one = run(download(tmp_path / "alone", task.id, None), alone)
    parts = fetch(tmp_path, task.id, 2)
    paths = run(join(str(tmp_path), task.id, 2), context)
    assert paths == [path.replace("/alone/", "/") for path in one] == [f"file://{tmp_path}/{name}" for name in FILES]
    assert [ObjectStoragePath(path).read_bytes() for path in paths] == list(FILES.values())
    assert sorted(path for part in parts for path in part["paths"]) == sorted(paths)
    assert context["ti"].xcom["manifest"] == f"file://{tmp_path}/_taskdl/{task.id}.json"
    assert context["ti"].xcom.keys() == alone["ti"].xcom.keys()
    summaries = [each["ti"].xcom["summary"] for each in (context, alone)]
    slowest = max(part["ti"].xcom["summary"]["seconds"] for part in parts)
    assert [{**summary, "seconds": 0} for summary in summaries] == [{"files": 3, "bytes": 10_004, "skipped": 0,
                                                                     "seconds": 0}] * 2  # fmt: skip
    assert summaries[0]["seconds"] == slowest
    manifests = [
        json.loads((root / "_taskdl" / f"{task.id}.json").read_bytes()) for root in (tmp_path, tmp_path / "alone")
    ]
    assert [[file["sha256"] for file in manifest["files"]] for manifest in manifests] == [
        [file.content.sha256 for file in task.files]
    ] * 2


def test_a_shard_hands_on_its_own(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task(FILES)
    for index, context in enumerate(fetch(tmp_path, task.id, 5)):
        manifest = f"file://{tmp_path}/_taskdl/{task.id}.shard-{index}-of-5.json"
        assert context["ti"].xcom["manifest"] == manifest
        assert context["ti"].xcom["summary"]["files"] == len(context["paths"]) == (1 if index < 3 else 0)
        assert json.loads(ObjectStoragePath(manifest).read_bytes())["listed"] == 3


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), "x", (0,), [0, 0], "{{ unset }}", True])
@pytest.mark.parametrize("wait", [False, True])
def test_a_wrong_shard_fails_before_anything_is_asked(
    taskdl_emulator: Emulator, tmp_path: Path, shard: Any, wait: bool
) -> None:
    task = taskdl_emulator.eo_task(FILES, ready_after=60)
    kind, cause = outcome(lambda: run(download(tmp_path, task.id, shard, wait_for_link=wait), make_context()))
    assert (kind, type(cause).__name__) == ("failed", "ConnectionConfigError")
    assert "shard" in str(cause)
    assert taskdl_emulator.count() == 0


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({"count": 0}, "ConnectionConfigError"), ({"count": "x"}, "ConnectionConfigError"),
     ({"destination": ""}, "ConnectionConfigError"), ({"destination": "s3://none@b/p"}, "ConnectionConfigError"),
     ({"task_id": "../x"}, "ConnectionConfigError"), ({"task_id": "{{ x }}"}, "ConnectionConfigError"),
     ({"count": 3}, "IntegrityError"), ({"task_id": "7"}, "IntegrityError")],
)  # fmt: skip
def test_what_no_retry_mends_fails_for_good(
    taskdl_emulator: Emulator, tmp_path: Path, settings: dict[str, Any], kind: str
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    fetch(tmp_path, task.id, 2)
    facts = {"destination": tmp_path, "task_id": task.id, "count": 2, **settings}
    how, cause = outcome(lambda: run(join(**facts), make_context()))
    assert (how, type(cause).__name__) == ("failed", kind)
    assert isinstance(cause, TaskDownloadError)
    assert cause.remote_task_id == facts["task_id"]


def test_a_store_that_refuses_is_left_to_airflows_retries(tmp_path: Path) -> None:
    (tmp_path / "_taskdl" / "7.shard-0-of-1.json").mkdir(parents=True)
    kind, error = outcome(lambda: run(join(tmp_path, "7", 1), make_context()))
    assert (kind, type(error).__name__) == ("retry", "DestinationError")


def test_after_a_failed_shard_only_that_one_and_the_join_have_to_run_again(
    taskdl_emulator: Emulator, tmp_path: Path
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    taskdl_emulator.fault("file:b.tif", Status(403))
    context = make_context()
    kinds = [outcome(partial(run, download(tmp_path, task.id, shard), context))[0] for shard in shards(2)]
    assert sorted(kinds) == ["retry", "success"]
    bad = kinds.index("retry")
    kind, cause = outcome(lambda: run(join(tmp_path, task.id, 2), make_context()))
    assert kind == "failed"
    assert f"no manifest of shard {bad}:" in str(cause)
    taskdl_emulator.clear_faults()
    taskdl_emulator.requests.clear()
    run(download(tmp_path, task.id, (bad, 2)), context)
    assert taskdl_emulator.count("file") == 1
    assert len(run(join(tmp_path, task.id, 2), make_context())) == 3


def test_the_join_reports_all_files_as_assets_and_leaves_lineage_to_the_shards(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = HookLineageCollector()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collector)
    task, events = taskdl_emulator.eo_task(FILES), AllOutletEvents()
    fetch(tmp_path, task.id, 2)
    told = sorted(output.asset.uri for output in collector.collected_assets.outputs)
    assert told == sorted(f"file://{tmp_path}/{name}" for name in ("b.tif", "a.pdf", "%C3%BC%20100%25.csv"))
    outlets = [AssetAlias("files"), Asset("file:///something/else")]
    operator = join(tmp_path, task.id, 2, outlets=outlets)
    run(operator, make_context(outlet_events=events))
    assert sorted(output.asset.uri for output in collector.collected_assets.outputs) == told
    assert set(events) == {"files"}
    assert sorted(asset.uri for asset, _ in events[AssetAlias("files")].added) == told
    assert not hasattr(operator, "get_openlineage_facets_on_complete")
    monkeypatch.setattr(lineage, "MAX_EVENTS", 1)
    events.clear()
    run(operator, make_context(outlet_events=events))
    assert [(asset.uri, extra) for asset, extra in events[AssetAlias("files")].added] == [
        (f"file://{tmp_path}/_taskdl/{task.id}.json", {"files": 3, "size": 10_004})
    ]


def test_every_parameter_is_a_template() -> None:
    operator = join("{{ params.d }}", "{{ params.i }}", "{{ params.n }}")
    operator.render_template_fields({"params": {"d": "/x", "i": "7", "n": 4}})
    assert (operator.destination, operator.remote_task_id, operator.shards) == ("/x", "7", "4")


def test_a_shard_may_come_from_a_template(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task(FILES)
    for form in ("{{ params.shard }}", ("{{ params.shard[0] }}", "{{ params.shard[1] }}")):
        operator = download(tmp_path, task.id, form)
        operator.render_template_fields({"params": {"shard": [1, 2]}})
        context = make_context()
        run(operator, context)
        assert context["ti"].xcom["manifest"].endswith(".shard-1-of-2.json")


def test_the_constructor_only_assigns() -> None:
    own = inspect.signature(JoinManifestsOperator.__init__).parameters
    values = {name: f"{{{{ {name} }}}}" for name in own if name not in ("self", "kwargs")}
    operator = JoinManifestsOperator(task_id="join", **values)
    assert {name: getattr(operator, name) for name in values} == values
    assert set(operator.template_fields) == set(values)


@since(3, 0, "it is the web server that asks for the link")
def test_airflow_knows_the_operator_and_its_link() -> None:
    assert all(
        "airflow_provider_taskdl.operators.join" in one["python-modules"] for one in get_provider_info()["operators"]
    )
    (link,) = JoinManifestsOperator.operator_extra_links
    key: Any = None
    assert link.get_link(join("/data", "7", 2), ti_key=key) == "file:///data"
