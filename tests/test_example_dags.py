"""The example DAGs run as they stand, and what they find out is right."""

from __future__ import annotations

import io
import json
import os
import runpy
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
import rasterio

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.testing.__main__ import BLS_TASK, EO_MOSAIC, EO_TASK, MARKET_ORDER, add_example_tasks
from tests.airflow_versions import AIRFLOW, ASSET, DAG_BAG, since
from tests.database import copy_database

FOLDER = Path(__file__).parent.parent / "example_dags"
# What needs a newer Airflow than others: a timetable of its SDK, a watcher's memory.
LATER = {"bls_log_archive": (3, 2), "bls_on_ready": (3, 3)}
LISTS = {"bce_auth_with_http_operator"}
DAGS = sorted(path.stem for path in FOLDER.glob("*.py") if LATER.get(path.stem, AIRFLOW) <= AIRFLOW)

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Runs:
    """One run of each DAG: its XComs by DAG, task and key, and the asset events."""

    emulator: Emulator
    store: Path
    xcoms: dict[str, dict[str, dict[str, Any]]]
    events: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("examples")
    # One of them lists all exports, which is a question about each: it would begin those of the others too early.
    emulator, listed = Emulator(ready_after=2, starts="asked"), Emulator()
    for each in (emulator, listed):
        add_example_tasks(each, ready_after=2)
    done = Runs(emulator, folder / "store", {}, {})
    if AIRFLOW < (3, 0):  # `dags test` needs what the scheduler would have written down of the DAGs' aliases
        env = {**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER)}
        subprocess.run([sys.executable, "-m", "airflow", "dags", "reserialize"], env=env, check=True)
    with EmulatorServer(emulator) as server, EmulatorServer(listed) as another, ExitStack() as stack:
        # Side by side, each with a database of its own.
        processes = {
            dag_id: stack.enter_context(start(dag_id, folder, another if dag_id in LISTS else server))
            for dag_id in DAGS
        }
        for process in processes.values():  # if one of them fails, the others end as well
            stack.callback(process.kill)
        for dag_id, process in processes.items():
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 0, output
            database = sqlite3.connect(folder / dag_id / "airflow.db")
            for task_id, key, value in database.execute("SELECT task_id, key, CAST(value AS TEXT) FROM xcom"):
                done.xcoms.setdefault(dag_id, {}).setdefault(task_id, {})[key] = json.loads(value)
            events = database.execute(
                f"SELECT {ASSET}.uri, e.extra FROM {ASSET}_event e JOIN {ASSET} ON {ASSET}.id = e.{ASSET}_id "
                "WHERE e.source_dag_id = 'eo_analysis_results'"  # other tests share the database
            )
            ours = done.store.as_uri()  # the database began as a copy of the other tests' own
            done.events |= {uri: json.loads(extra) for uri, extra in events if uri.startswith(ours)}
            database.close()
        yield done


def start(dag_id: str, folder: Path, server: EmulatorServer) -> subprocess.Popen[str]:
    home = folder / dag_id
    home.mkdir()
    copy_database(home)
    bls = server.airflow_connections()["baidu_bls_default"]
    http = {"conn_type": "http", **{name: bls[name] for name in ("host", "login", "password")}}
    env = {
        **os.environ,
        **server.environment(),
        "AIRFLOW_CONN_BCE_HTTP": json.dumps(http),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER),
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "AIRFLOW_VAR_TASKDL_DESTINATION": str(folder / "store"),
        "TASKDL_EXAMPLE_POLL_SECONDS": "1",
    }
    command = [sys.executable, "-m", "airflow", "dags", "test", dag_id]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def original(runs: Runs, service: Any, task_id: str, name: str) -> bytes:
    task = runs.emulator.find(service, task_id)
    assert task is not None
    return b"".join(task.file(name).content.blocks())


def test_all_of_them_parse(airflow_db: None) -> None:
    code = (
        f"import json, sys; from {DAG_BAG} import DagBag; bag = DagBag(sys.argv[1]); "
        "print(json.dumps([sorted(bag.dags), bag.import_errors]))"
    )
    said = subprocess.run([sys.executable, "-c", code, str(FOLDER)], capture_output=True, text=True, check=True)
    dags, errors = json.loads(said.stdout.splitlines()[-1])
    assert dags == DAGS
    assert {Path(path).stem for path in errors} == {name for name in LATER if name not in DAGS}, errors


def test_an_order_that_takes_weeks_is_not_asked_for_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKDL_EXAMPLE_POLL_SECONDS", raising=False)
    dag = runpy.run_path(str(FOLDER / "eo_market_order.py"))["eo_market_order"]()
    assert dag.get_task("download").poll_interval == 300


def test_bls_log_export(runs: Runs) -> None:
    tasks = runs.xcoms["bls_log_export"]
    (path,) = tasks["download"]["return_value"]
    export, name = tasks["start_export"]["return_value"], path.rpartition("/")[2]
    content = original(runs, "bls", export, name)
    assert Path(path.removeprefix("file://")).read_bytes() == content

    records = [json.loads(line) for line in content.splitlines()]
    report = tasks["report"]["return_value"]
    assert report["requests"] == len(records) == 100_000
    assert report["requests_per_hour"] == Counter(f"{record['time']:.13}"[11:] for record in records)
    assert report["error_rate"] == round(np.mean([record["status"] // 100 == 5 for record in records]), 4)
    assert len({record["time"][:10] for record in records}) == 1, "one day, as it was asked for"
    for route, value in report["slowest_p95_ms"].items():
        before, _, after = route.partition("…")
        times = [
            record["duration_ms"]
            for record in records
            if record["path"].startswith(before)
            and record["path"].endswith(after)
            and (record["path"][len(before) :].isdigit() if "…" in route else record["path"] == route)
        ]
        assert abs(value - np.percentile(times, 95)) <= 1


@since(3, 2, "its timetable is not in the SDK")
def test_bls_log_archive(runs: Runs) -> None:
    tasks = runs.xcoms["bls_log_archive"]
    (path,) = tasks["download"]["return_value"]
    hour = "-".join(Path(path).parts[-5:-1])  # of the run's data interval
    records = [json.loads(line) for line in Path(path.removeprefix("file://")).read_bytes().splitlines()]
    assert len(records) == 6000
    assert {f"{record['time']:.13}".replace("T", "-") for record in records} == {hour}
    export = tasks["create"]["return_value"]
    assert runs.emulator.find("bls", export) is None
    assert runs.emulator.count("bls.delete", export) == 1


def test_the_export_is_waited_for_without_a_worker(runs: Runs) -> None:
    task_id = runs.xcoms["bls_log_export"]["start_export"]["return_value"]
    assert runs.emulator.count("bls.status", task_id) >= 2
    assert runs.emulator.count("eo.status", EO_TASK) >= 2


def test_eo_analysis_results(runs: Runs) -> None:
    tasks = runs.xcoms["eo_analysis_results"]
    raster = original(runs, "eo", EO_TASK, "ndvi_result.tif")
    with rasterio.open(io.BytesIO(raster)) as image:
        ndvi = image.read(1, masked=True)
        corner = [image.bounds.left, image.bounds.top]
    found = tasks["vegetation"]["return_value"]
    assert found["pixels"] == f"{ndvi.shape[1]} x {ndvi.shape[0]}"
    assert found["upper_left"] == pytest.approx(corner)
    assert found["mean_ndvi"] == pytest.approx(float(ndvi.astype("f8").mean()), abs=1e-4)
    assert found["no_data_share"] == pytest.approx(float(ndvi.mask.mean()), abs=1e-4)
    assert found["dense_vegetation_share"] == pytest.approx(float((ndvi > 0.5).mean()), abs=1e-4)

    pdf = original(runs, "eo", EO_TASK, "analysis_report.pdf")
    pages = len(pypdf.PdfReader(io.BytesIO(pdf)).pages)
    assert tasks["report"]["return_value"] == {"bytes": len(pdf), "pages": pages}


def test_each_file_of_the_analysis_is_an_asset_event(runs: Runs) -> None:
    folder = runs.store / "eo-analysis" / EO_TASK
    task = runs.emulator.find("eo", EO_TASK)
    assert task is not None
    assert {uri: extra["sha256"] for uri, extra in runs.events.items()} == {
        (folder / file.name).as_uri(): file.content.sha256 for file in task.files
    }


def test_eo_mosaic_in_shards(runs: Runs) -> None:
    folder, tasks = runs.store / "eo-mosaic" / EO_MOSAIC, runs.xcoms["eo_mosaic_in_shards"]
    mosaic = runs.emulator.find("eo", EO_MOSAIC)
    assert mosaic is not None
    assert tasks["join"]["return_value"] == [f"file://{folder}/{file.name}" for file in mosaic.files]
    for file in mosaic.files:
        assert (folder / file.name).read_bytes() == original(runs, "eo", EO_MOSAIC, file.name)
    size = sum(file.content.size for file in mosaic.files)
    assert tasks["verify"]["return_value"] == {"tiles": 24, "bytes": size, "wrong": []}
    portions = [json.loads(path.read_bytes())["files"] for path in sorted((folder / "_taskdl").glob("*.shard-*.json"))]
    assert [len(portion) for portion in portions] == [6, 6, 6, 6]
    assert runs.emulator.count("eo.link", EO_MOSAIC) >= 4, "each shard asks for itself"
    assert [runs.emulator.count("file", file.path) for file in mosaic.files] == [1] * 24


def test_eo_market_order(runs: Runs) -> None:
    order, tasks = runs.emulator.find("market", MARKET_ORDER), runs.xcoms["eo_market_order"]
    assert order is not None
    assert tasks["sizes"]["return_value"] == {file.name: file.content.size for file in order.files}
    for file in order.files:
        there = runs.store / "eo-market" / MARKET_ORDER / file.name
        assert there.read_bytes() == original(runs, "market", MARKET_ORDER, file.name)
    assert runs.emulator.count("market.link", MARKET_ORDER) >= 3


def test_bce_auth_with_http_operator(runs: Runs) -> None:
    listed = runs.xcoms["bce_auth_with_http_operator"]["list_exports"]["return_value"]
    assert BLS_TASK in listed
    assert set(listed.values()) <= {"RUNNING", "SUCCESS"}


def test_no_credential_left_for_the_file_host(runs: Runs) -> None:
    assert runs.emulator.count("file") >= 3
    assert not runs.emulator.leaks
