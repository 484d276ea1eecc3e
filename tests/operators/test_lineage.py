from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.sdk import Asset, AssetAlias, HookLineageCollector

from airflow_provider_taskdl.operators import lineage, metrics
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Stall, Status
from airflow_provider_taskdl.transfer.job import Totals
from airflow_provider_taskdl.transfer.progress import Progress
from tests import needs
from tests.running import AllOutletEvents, make_context, outcome, run

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

FILES = {"b.tif": b"123", "a b#1.csv": b""}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> HookLineageCollector:
    """A collector that collects; Airflow's own does so only while something reads it."""
    collector = HookLineageCollector()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collector)
    return collector


def _operator(destination: Path, task_id: str, **settings: Any) -> DownloadToObjectStorageOperator:
    return DownloadToObjectStorageOperator(
        task_id="download",
        conn_id="eo_analysis_default",
        remote_task_id=task_id,
        destination=destination,  # type: ignore[arg-type]
        **settings,
    )


def test_each_file_is_an_event_of_each_alias(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task, events = taskdl_emulator.eo_task(FILES), AllOutletEvents()
    aliases = [AssetAlias("files"), AssetAlias("all")]
    operator = _operator(tmp_path, task.id, outlets=[*aliases, Asset("file:///something/else")])
    run(operator, make_context(outlet_events=events))
    assert set(events) == {alias.name for alias in aliases}
    for alias in aliases:
        assert [(asset.uri, extra) for asset, extra in events[alias].added] == [
            (f"file://{tmp_path}/{name}", {"size": file.content.size, "sha256": file.content.sha256,
                                           "outcome": "fetched"})
            for name, file in zip(["b.tif", "a%20b%231.csv"], task.files, strict=True)
        ]  # fmt: skip


def test_too_many_files_for_airflow_are_one_event(
    taskdl_emulator: Emulator, tmp_path: Path, collector: HookLineageCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "MAX_EVENTS", 1)
    task, events = taskdl_emulator.eo_task(FILES), AllOutletEvents()
    run(_operator(tmp_path / "a b", task.id, outlets=[AssetAlias("files")]), make_context(outlet_events=events))
    assert [(asset.uri, extra) for asset, extra in events[AssetAlias("files")].added] == [
        (f"file://{tmp_path}/a%20b/_taskdl/{task.id}.json", {"files": 2, "size": 3})
    ]
    assert len(collector.collected_assets.outputs) == 2


def test_a_name_that_is_too_long_for_an_asset_does_not_fail_the_task_after_its_work(
    taskdl_emulator: Emulator, tmp_path: Path, collector: HookLineageCollector
) -> None:
    task, events = taskdl_emulator.eo_task({"雪" * 84: b"1", "b.tif": b"23"}), AllOutletEvents()
    # Each letter is nine characters of a URI.
    run(_operator(tmp_path / ("雨" * 84), task.id, outlets=[AssetAlias("files")]), make_context(outlet_events=events))
    added = [extra for _, extra in events[AssetAlias("files")].added]
    assert added == [{"files": 2, "size": 3}]
    assert len(collector.collected_assets.outputs) == 1


@pytest.mark.parametrize(("aliases", "each"), [(2, 2), (3, 1)])
def test_what_counts_is_the_events_of_all_aliases_together(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aliases: int, each: int
) -> None:
    monkeypatch.setattr(lineage, "MAX_EVENTS", 4)
    task, events = taskdl_emulator.eo_task(FILES), AllOutletEvents()
    outlets = [AssetAlias(f"files {number}") for number in range(aliases)]
    run(_operator(tmp_path, task.id, outlets=outlets), make_context(outlet_events=events))
    assert [len(events[alias].added) for alias in outlets] == [each] * aliases


def test_a_download_that_fails_tells_nobody(
    taskdl_emulator: Emulator, tmp_path: Path, collector: HookLineageCollector
) -> None:
    task, events = taskdl_emulator.eo_task(FILES), AllOutletEvents()
    taskdl_emulator.fault("file:b.tif", Status(403))
    operator = _operator(tmp_path, task.id, outlets=[AssetAlias("files")])
    assert outcome(lambda: run(operator, make_context(outlet_events=events)))[0] == "retry"
    assert not events
    assert not collector.collected_assets.outputs


def test_the_lineage_of_hooks_hears_of_each_file(
    taskdl_emulator: Emulator, tmp_path: Path, collector: HookLineageCollector
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    run(_operator(tmp_path, task.id), make_context())
    outputs = collector.collected_assets.outputs
    assert [output.asset.uri for output in outputs] == [
        f"file://{tmp_path}/b.tif", f"file://{tmp_path}/a%20b%231.csv",
    ]  # fmt: skip
    assert all("?" not in output.asset.uri for output in outputs)
    assert [output.asset.extra["sha256"] for output in outputs] == [file.content.sha256 for file in task.files]


def _openlineage(operator: DownloadToObjectStorageOperator) -> Any:
    return operator.get_openlineage_facets_on_complete(None)


def test_openlineage_leads_from_the_remote_task_to_the_stored_files(
    taskdl_server: EmulatorServer, taskdl_emulator: Emulator, tmp_path: Path
) -> None:
    task = taskdl_emulator.eo_task(FILES)
    operator = _operator(tmp_path, task.id)
    operator.execute(make_context())
    found = _openlineage(operator)
    assert [(dataset.namespace, dataset.name) for dataset in found.inputs] == [(taskdl_server.base_url, task.id)]
    assert [(dataset.namespace, dataset.name) for dataset in found.outputs] == [
        ("file", f"{tmp_path}/{name}") for name in FILES
    ]
    for dataset, file in zip(found.outputs, task.files, strict=True):
        assert dataset.outputFacets["outputStatistics"].size == file.content.size
        assert dataset.facets["version"].datasetVersion == file.content.sha256


def test_openlineage_hears_of_a_failed_download_what_is_there(taskdl_emulator: Emulator, tmp_path: Path) -> None:
    task = taskdl_emulator.eo_task(FILES)
    refusal = taskdl_emulator.fault("file:b.tif", Status(403))
    operator = _operator(tmp_path, task.id)
    assert outcome(lambda: operator.execute(make_context()))[0] == "retry"
    found = _openlineage(operator)
    assert [dataset.name for dataset in found.inputs] == [task.id]
    assert [dataset.name for dataset in found.outputs] == [f"{tmp_path}/a b#1.csv"]
    refusal.times = 0
    operator.execute(make_context())
    assert len(_openlineage(operator).outputs) == 2


def test_openlineage_hears_of_a_download_that_was_stopped_what_is_there(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timeout(BaseException):
        pass

    def arrived(_: object) -> str | None:
        if (tmp_path / "a b#1.csv").exists():
            raise Timeout
        return None

    task = taskdl_emulator.eo_task({**FILES, "a b#1.csv": b"12"})
    taskdl_emulator.fault("file:b.tif", Stall(3600))
    monkeypatch.setattr(Progress, "due_line", arrived)  # asked in the main thread, where Airflow's time-out strikes
    measured: list[Totals] = []
    monkeypatch.setattr(metrics, "report", lambda totals, **_: measured.append(totals))
    operator = _operator(tmp_path, task.id)
    with pytest.raises(Timeout):
        operator.execute(make_context())
    assert [dataset.name for dataset in _openlineage(operator).outputs] == [f"{tmp_path}/a b#1.csv"]
    assert [(totals.fetched, totals.bytes, totals.seconds > 0) for totals in measured] == [(1, 2, True)]


def test_openlineage_hears_of_a_task_without_files_that_it_was_asked_for(
    taskdl_emulator: Emulator, tmp_path: Path
) -> None:
    task = taskdl_emulator.eo_task(FILES, ends="failed")
    operator = _operator(tmp_path, task.id)
    assert outcome(lambda: operator.execute(make_context()))[0] == "failed"
    found = _openlineage(operator)
    assert ([dataset.name for dataset in found.inputs], found.outputs) == ([task.id], [])


def test_openlineage_hears_of_too_many_files_their_manifest(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "MAX_EVENTS", 1)
    task = taskdl_emulator.eo_task(FILES)
    operator = _operator(tmp_path, task.id)
    operator.execute(make_context())
    (dataset,) = _openlineage(operator).outputs
    assert dataset.name == f"{tmp_path}/_taskdl/{task.id}.json"
    assert dataset.outputFacets["outputStatistics"].size == 3
    assert lineage.openlineage("https://api", "7", {f"file:///{n}": None for n in "ab"}, manifest=None).outputs == []  # type: ignore[misc]


@pytest.mark.parametrize(
    ("uri", "account", "namespace", "name"),
    [
        ("file:///in/a%20b.tif", None, "file", "/in/a b.tif"),
        ("s3://bucket/in/a%20b.tif", None, "s3://bucket", "in/a b.tif"),
        ("s3a://bucket/in/a.tif", None, "s3://bucket", "in/a.tif"),
        ("gs://bucket/in/a%3Fb.tif", None, "gs://bucket", "in/a?b.tif"),
        ("gcs://bucket/in/a.tif", None, "gs://bucket", "in/a.tif"),
        ("abfs://box/in/a.tif", "acct", "abfss://box@acct.dfs.core.windows.net", "in/a.tif"),
        ("abfs://box/in/a.tif", None, "abfss://box", "in/a.tif"),
        ("memory://x/in/a.tif", None, "memory://x", "in/a.tif"),
    ],
)
def test_openlineage_has_one_name_for_a_file(uri: str, account: str | None, namespace: str, name: str) -> None:
    assert lineage.dataset_name(uri, account) == (namespace, name)


@pytest.mark.parametrize(
    "extra",
    [
        {"account_name": "acct"},
        {"connection_string": "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5;"},
    ],
)
def test_the_account_is_the_azure_connections(monkeypatch: pytest.MonkeyPatch, extra: dict[str, str]) -> None:
    needs.package("airflow.providers.microsoft.azure")
    connection = {"conn_type": "wasb", "login": "acct", "password": "a2V5", "extra": extra}
    conn_id = f"azure_{next(iter(extra))}"  # Airflow keeps a connection's file system for the life of the process
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
    assert Destination(f"abfs://{conn_id}@box/in").account == "acct"
    assert Destination("/tmp/in").account is None
