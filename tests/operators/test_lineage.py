from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias
from airflow.sdk.lineage import HookLineageCollector

from airflow_provider_taskdl.operators import lineage
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.testing import Emulator, Status
from tests.running import OutletEvents, make_context, outcome, run

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

FILES = {"b.tif": b"123", "a b#1.csv": b""}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> HookLineageCollector:
    """A collector that collects; Airflow's own does so only while something reads it."""
    collector = HookLineageCollector()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: collector)
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
    task, events = taskdl_emulator.eo_task(FILES), defaultdict[Any, OutletEvents](OutletEvents)
    aliases = [AssetAlias("files"), AssetAlias("all")]
    operator = _operator(tmp_path, task.id, outlets=[*aliases, Asset("file:///something/else")])
    run(operator, make_context(outlet_events=events))
    assert set(events) == set(aliases)
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
    task, events = taskdl_emulator.eo_task(FILES), defaultdict[Any, OutletEvents](OutletEvents)
    run(_operator(tmp_path / "a b", task.id, outlets=[AssetAlias("files")]), make_context(outlet_events=events))
    assert [(asset.uri, extra) for asset, extra in events[AssetAlias("files")].added] == [
        (f"file://{tmp_path}/a%20b/_taskdl/{task.id}.json", {"files": 2, "size": 3})
    ]
    assert len(collector.collected_assets.outputs) == 2


@pytest.mark.parametrize(("aliases", "each"), [(2, 2), (3, 1)])
def test_what_counts_is_the_events_of_all_aliases_together(
    taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aliases: int, each: int
) -> None:
    monkeypatch.setattr(lineage, "MAX_EVENTS", 4)
    task, events = taskdl_emulator.eo_task(FILES), defaultdict[Any, OutletEvents](OutletEvents)
    outlets = [AssetAlias(f"files {number}") for number in range(aliases)]
    run(_operator(tmp_path, task.id, outlets=outlets), make_context(outlet_events=events))
    assert [len(events[alias].added) for alias in outlets] == [each] * aliases


def test_a_download_that_fails_tells_nobody(
    taskdl_emulator: Emulator, tmp_path: Path, collector: HookLineageCollector
) -> None:
    task, events = taskdl_emulator.eo_task(FILES), defaultdict[Any, OutletEvents](OutletEvents)
    taskdl_emulator.fault("file:b.tif", Status(403))
    operator = _operator(tmp_path, task.id, outlets=[AssetAlias("files")])
    assert outcome(lambda: run(operator, make_context(outlet_events=events)))[0] == "retry"
    assert not events
    assert not collector.collected_assets.outputs
    assert operator.get_openlineage_facets_on_complete(None) is None


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


def test_openlineage_leads_from_the_services_files_to_the_stored_ones(
    taskdl_emulator: Emulator, tmp_path: Path
) -> None:
    pytest.importorskip("airflow.providers.openlineage")
    task = taskdl_emulator.eo_task(FILES)
    operator = _operator(tmp_path, task.id)
    operator.execute(make_context())
    facets = operator.get_openlineage_facets_on_complete(None)
    (service,) = {dataset.namespace for dataset in facets.inputs}
    assert service.startswith("http://127.0.0.1:")
    assert [dataset.name for dataset in facets.inputs] == [f"{task.id}/{name}" for name in FILES]
    assert [(dataset.namespace, dataset.name) for dataset in facets.outputs] == [
        ("file", f"{tmp_path}/{name}") for name in FILES
    ]


def test_openlineage_names_a_bucket_and_the_key_as_it_is() -> None:
    pytest.importorskip("airflow.providers.openlineage")
    entry: Any = type("Entry", (), {"name": "a b.tif"})
    facets = lineage.openlineage("https://api", "7", {"s3://bucket/in/a%20b.tif": entry})
    assert [(dataset.namespace, dataset.name) for dataset in facets.outputs] == [("s3://bucket", "in/a b.tif")]
    assert "?" not in json.dumps([dataset.name for dataset in (*facets.inputs, *facets.outputs)])
