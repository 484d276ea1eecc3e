"""The standalone Airflow runs the examples with its real scheduler and triggerer, and ends with all it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "standalone.py"
TRIGGER = "airflow_provider_taskdl.triggers.download_link.DownloadLinkTrigger"

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, SCRIPT],
        env={**os.environ, "TASKDL_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        yield process
        process.terminate()


def test_two_runs_over_the_triggerer_and_an_end_without_orphans(
    standalone: subprocess.Popen[str], tmp_path: Path
) -> None:
    output = ""
    for line in standalone.stdout or ():
        output += line
        if line.startswith("Ctrl-C"):
            break
    ready = re.search(r"Airflow is ready: (\S+)", output)
    assert ready, output
    with httpx.Client(base_url=ready[1], timeout=30, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {client.get('/auth/token').json()['access_token']}"
        for conn_id in ("baidu_bls_default", "eo_analysis_default"):
            form = client.get(f"/api/v2/connections/{conn_id}").raise_for_status().json()
            sent = ("connection_id", "conn_type", "description", "extra", "host", "login", "password", "port", "schema")
            as_the_page_does = {name: form[name] or (0 if name == "port" else "") for name in sent}
            tested = client.post("/api/v2/connections/test", json=as_the_page_does).raise_for_status().json()
            assert tested["status"], tested
        runs = {dag_id: trigger(client, dag_id) for dag_id in ("bls_log_export", "eo_analysis_results")}
        assert follow(client, runs) == dict.fromkeys(runs, TRIGGER)
    assert {path.name for path in tmp_path.glob("object-storage/eo-analysis/12345/*.*")} == {
        "ndvi_result.tif",
        "analysis_report.pdf",
    }

    assert processes_of(tmp_path)
    standalone.send_signal(signal.SIGINT)
    assert standalone.wait(30) == 0
    assert not processes_of(tmp_path)


def trigger(client: httpx.Client, dag_id: str) -> str:
    """Start a run and return its address."""
    for _ in range(120):
        started = client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None})
        # Airflow's own: a DAG may not be read yet, and two writers at once are one too many for SQLite.
        if started.status_code != 404 and started.status_code < 500:
            break
        time.sleep(0.5)
    return f"/api/v2/dags/{dag_id}/dagRuns/{started.raise_for_status().json()['dag_run_id']}"


def follow(client: httpx.Client, runs: dict[str, str]) -> dict[str, str]:
    """Wait until all runs have succeeded and return the triggers that waited for them."""
    triggers = {}
    until = time.monotonic() + 240
    while time.monotonic() < until:
        for dag_id, run in runs.items():
            for task in client.get(f"{run}/taskInstances").raise_for_status().json()["task_instances"]:
                if task["state"] == "deferred" and task["trigger"]:
                    triggers[dag_id] = task["trigger"]["classpath"]
        states = {client.get(run).raise_for_status().json()["state"] for run in runs.values()}
        assert "failed" not in states
        if states == {"success"}:
            return triggers
        time.sleep(0.5)
    raise AssertionError("the runs do not end")


def processes_of(home: Path) -> list[str]:
    """Return the command lines of the processes with this AIRFLOW_HOME."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"AIRFLOW_HOME={home}\0" in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text(errors="replace").replace("\0", " "))
        except OSError:  # it has just ended
            continue
    return found
