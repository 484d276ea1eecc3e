"""The demo works, says so, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "demo.py"

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(300)]


def start(tmp_path: Path) -> subprocess.Popen[str]:
    # Settings of another Airflow must not reach the demo's own.
    foreign = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "nonsense://", "AIRFLOW_CONN_BAIDU_BLS_DEFAULT": "{}"}
    return subprocess.Popen(
        [sys.executable, SCRIPT],
        env={**os.environ, **foreign, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_it_shows_files_and_results(tmp_path: Path) -> None:
    output, _ = start(tmp_path).communicate(timeout=250)
    for text in (
        "bls_log_export.wait              Pausing task as DEFERRED",
        "eo_analysis_results.wait         Pausing task as DEFERRED",
        "  eo-analysis/12345/\n",
        "    ndvi_result.tif",
        "requests                100000",
        "mean_ndvi               0.5",
        "pages                   1",
        "saw no credential",
    ):
        assert text in output
    assert "ERROR" not in output
    assert not list(tmp_path.iterdir())


def test_interrupted_it_cleans_up(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "Pausing task" in line:
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.rstrip().endswith("Interrupted.")
    assert not list(tmp_path.iterdir())
