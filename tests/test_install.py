"""What a user gets: the wheel, the source archive, and the wheel where there is Airflow and nothing else."""

from __future__ import annotations

import contextlib
import email
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import environments
import pytest
from sandbox import settings

import airflow_provider_taskdl

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_taskdl"
DISTRIBUTION = "airflow-provider-taskdl"
VERSION = airflow_provider_taskdl.__version__
INFO = f"{PACKAGE}-{VERSION}.dist-info"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Built:
    """The files that would be published, and the wheel made without the detour over the source archive."""

    source: Path
    wheel: Path
    direct: Path

    @property
    def names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as wheel:
            return set(wheel.namelist())

    @property
    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as wheel:
            return email.message_from_bytes(wheel.read(f"{INFO}/METADATA"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--installer", "uv", str(ROOT)]
    env = {**os.environ, **environments.as_pip(), "SOURCE_DATE_EPOCH": "1700000000"}
    for options in (["--outdir", str(folder)], ["--wheel", "--outdir", str(folder / "direct")]):
        subprocess.run([*build, *options], env=env, check=True, capture_output=True)
    (source,), (wheel,), (direct,) = folder.glob("*.tar.gz"), folder.glob("*.whl"), folder.glob("direct/*.whl")
    return Built(source, wheel, direct)


def test_the_source_archive_builds_the_same_wheel(built: Built) -> None:
    assert built.wheel.name == built.direct.name == f"{PACKAGE}-{VERSION}-py3-none-any.whl"
    assert built.wheel.read_bytes() == built.direct.read_bytes()


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    package = {path for path in (ROOT / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    about = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert built.names == {path.relative_to(ROOT).as_posix() for path in package} | about
    assert f"{PACKAGE}/py.typed" in built.names


def test_the_source_archive_holds_what_tests_and_examples_need(built: Built) -> None:
    with tarfile.open(built.source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "constraints.txt", "PKG-INFO",
        "docs/design.md", "example_dags/bls_log_export.py", "scripts/demo.py", "tests/conftest.py",
    }  # fmt: skip
    kept_out = (".ci", ".git/", ".venv", ".services", "dist", "airflow-home")
    assert not {name for name in names if "__pycache__" in name or name.startswith(kept_out)}


def test_the_metadata_are_right(built: Built) -> None:
    said = built.metadata
    assert (said["Name"], said["Version"]) == (DISTRIBUTION, VERSION)
    assert (said["Requires-Python"], said["License-Expression"]) == (">=3.10", "Apache-2.0")
    assert said.get_all("License-File") == ["LICENSE"]
    assert set(said.get_all("Provides-Extra") or ()) == {"s3", "gcs", "azure", "testing"}
    assert "Framework :: Apache Airflow :: Provider" in (said.get_all("Classifier") or ())
    assert str(said.get_payload()).startswith("# ")
    needs = {need for need in said.get_all("Requires-Dist") or () if "extra ==" not in need}
    assert {need.partition(">")[0] for need in needs} == {
        "anyio", "apache-airflow", "apache-airflow-providers-common-compat", "httpx", "pydantic", "requests",
    }  # fmt: skip
    with zipfile.ZipFile(built.wheel) as wheel:
        entries = wheel.read(f"{INFO}/entry_points.txt").decode().split("\n")
    assert "[apache_airflow_provider]" in entries
    assert f"provider_info = {PACKAGE}.get_provider_info:get_provider_info" in entries


@pytest.fixture(scope="module")
def bare(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("bare")
    return environments.make(folder / "venv", sys.executable, ["-c", str(ROOT / "constraints.txt"), str(built.wheel)])


@pytest.fixture(scope="module")
def connections(bare: Path) -> Iterator[dict[str, str]]:
    """The environment's own emulator, as a user starts it: its connections as environment variables."""
    command = [str(bare), "-m", f"{PACKAGE}.testing", "--port", "0"]
    with subprocess.Popen(command, cwd=bare.parent, env=_clean({}), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found: dict[str, str] = {}
            while len(found) < 2:
                line = process.stdout.readline()
                assert line, "the emulator ended"
                if line.startswith("export "):
                    name, _, value = shlex.split(line)[1].partition("=")
                    found[name] = value
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=20)
            process.kill()


Airflow = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def airflow(bare: Path, connections: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """Runs the environment's ``airflow``, with a database of its own: ``airflow("providers", "list")``."""
    home = tmp_path_factory.mktemp("home")
    env = _clean(settings(home, ROOT / "example_dags", home / "store", connections))
    env["AIRFLOW__CORE__TEST_CONNECTION"] = "Enabled"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(bare.parent / "airflow"), *words]
        return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)

    assert run("db", "migrate").returncode == 0
    return run


def _clean(env: dict[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds only what is installed."""
    return {name: value for name, value in (env or os.environ).items() if not name.startswith("PYTHON")}


def _rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, str]] = json.loads(done.stdout[done.stdout.index("[{") :])
    return rows


def test_what_is_installed_is_the_wheel(bare: Path) -> None:
    code = (
        f"import {PACKAGE} as p; from importlib.util import find_spec as f; print(p.__file__, f('pytest'), f('s3fs'))"
    )
    command = [str(bare), "-c", code]
    said = subprocess.run(command, cwd=bare.parent, env=_clean({}), capture_output=True, text=True, check=True)
    file, *not_there = said.stdout.split()
    assert Path(file).is_relative_to(bare.parents[1])
    assert not_there == ["None", "None"]


def test_airflow_lists_the_provider(airflow: Airflow) -> None:
    assert (DISTRIBUTION, VERSION) in {
        (row["package_name"], row["version"]) for row in _rows(airflow("providers", "list", "-o", "json"))
    }
    (row,) = _rows(airflow("providers", "get", DISTRIBUTION, "-o", "json"))
    assert (row["Provider"], row["Version"]) == (DISTRIBUTION, VERSION)
    hooks = {row["connection_type"] for row in _rows(airflow("providers", "hooks", "-o", "json"))}
    assert hooks >= {"baidu_bls", "eo_analysis"}


def test_a_connection_is_added_shown_and_tested(airflow: Airflow, connections: dict[str, str]) -> None:
    facts = json.loads(connections["AIRFLOW_CONN_BAIDU_BLS_DEFAULT"])
    for name, secret in (("right", facts["password"]), ("wrong", "not-the-secret-key")):
        add = airflow(
            "connections", "add", name, "--conn-type", "baidu_bls", "--conn-host", facts["host"],
            "--conn-login", facts["login"], "--conn-password", secret, "--conn-extra", '{"region": "gz", "timeout": 5}',
        )  # fmt: skip
        assert add.returncode == 0, add.stderr
    (row,) = _rows(airflow("connections", "get", "right", "-o", "json"))
    assert (row["conn_type"], row["host"], row["login"]) == ("baidu_bls", facts["host"], facts["login"])
    good, bad = airflow("connections", "test", "right"), airflow("connections", "test", "wrong")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Connection success" in good.stdout
    assert bad.returncode == 1
    assert "it refused the credentials" in bad.stdout
    assert not [secret for secret in (facts["password"], "not-the-secret-key") if secret in good.stdout + bad.stdout]


@pytest.mark.parametrize("dag_id", ["bls_log_export", "eo_analysis_results"])
def test_an_example_runs(airflow: Airflow, dag_id: str) -> None:
    done = airflow("dags", "test", dag_id)
    assert done.returncode == 0, done.stdout + done.stderr


DAG_FILE = """
from datetime import datetime

from airflow.sdk import DAG

from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor


def export(hook: BlsHook, day: datetime) -> str:
    return hook.create_download_task(log_store_name="log", query="*", query_start_time=day, query_end_time=day)


def names(hook: BlsHook, task_id: str) -> list[str]:
    return [file.name for file in hook.list_files(task_id).files]


with DAG("mine"):
    wait = DownloadLinkSensor(task_id="wait", conn_id="bls", remote_task_id="7", not_found="wait", timeout=60)
    fetch = DownloadToObjectStorageOperator(
        task_id="fetch", conn_id="bls", remote_task_id="7", destination="s3://b/x", concurrency=4, retries=2
    )
    wait >> fetch
"""
WRONG = {
    'not_found="wait"': 'not_found="ignore"',
    'destination="s3://b/x"': "destination=7",
    "concurrency=4": 'concurrency="4"',
    'log_store_name="log"': "log_store_name=7",
    "list_files(task_id)": "list_files(7)",
}


def test_a_users_type_checker_knows_what_is_right_and_what_is_wrong(bare: Path, tmp_path: Path) -> None:
    wrong = DAG_FILE
    for good, bad in WRONG.items():
        assert good in wrong
        wrong = wrong.replace(good, bad)
    (tmp_path / "good.py").write_text(DAG_FILE)
    (tmp_path / "wrong.py").write_text(wrong)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    options = ["--python-executable", str(bare), "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "good.py", "wrong.py"],
        cwd=tmp_path, env=_clean({}), capture_output=True, text=True, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == len(WRONG), done.stdout + done.stderr
    assert all(line.startswith("wrong.py:") and line.endswith("[arg-type]") for line in errors), errors
