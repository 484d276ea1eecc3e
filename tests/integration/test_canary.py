"""Runs of DAGs, good and bad, leave no secret anywhere: not in logs, database, XCom or beside the data."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.testing import Cut, Emulator, EmulatorServer, Fault, Redirect
from airflow_provider_taskdl.testing.content import Memory
from airflow_provider_taskdl.testing.exchange import Reply, Request
from airflow_provider_taskdl.testing.faults import InsteadFault
from tests.canary import assert_canary_free, recorded_links
from tests.database import copy_database
from tests.integration.conftest import DAGS
from tests.s3 import SECRET, S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(600)]

SECRETS = {
    "secret_access_key": "CANARYsecretAccessKey0000000/+==",
    "security_token": "CANARYstsToken11111111111111/+==",
    "token": "CANARYapiToken2222222222222222/+",
}
ELSEWHERE = "http://169.254.169.254/x?token=CANARYredirectTarget3333333333"
FILES = {"b.tif": b"123" * 1000, "a.csv": b"x;y\n"}


class Echo(InsteadFault):
    """Answers with all that was sent: the URL with its query, and every header field.

    :param status: HTTP status.
    """

    def __init__(self, status: int) -> None:
        self.status = status

    def reply(self, request: Request) -> Reply:
        said = f"GET {request.origin}{request.path}?{request.query} " + " ".join(request.headers.values())
        body = {"code": self.status, "message": said, "error": said, "data": said, "result": said, "requestId": said}
        fields = {"Content-Type": "application/json", "x-bce-request-id": said, "Retry-After": "0"}
        return Reply(self.status, fields, Memory(json.dumps(body).encode()))


@dataclass
class Traces:
    """What a process that ran DAGs left behind.

    :ivar states: How the runs ended.
    :ivar output: All it wrote, every logger at DEBUG.
    :ivar home: Airflow's directory: its log files, its database.
    :ivar rows: Every text in every table of the database.
    """

    states: list[str]
    output: str
    home: Path
    rows: dict[str, list[tuple[str, ...]]]


def _run(home: Path, env: dict[str, str], runs: list[tuple[str, dict[str, str]]]) -> Traces:
    home.mkdir()
    copy_database(home)
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
    }
    command = [sys.executable, str(DAGS.with_name("run_dags.py")), json.dumps(runs)]
    done = subprocess.run(
        command, env={**os.environ, **env, **own}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output[-3000:]
    (states,) = [line.removeprefix("STATES ") for line in output.splitlines() if line.startswith("STATES ")]
    return Traces(json.loads(states), output, home, _rows(home / "airflow.db"))


def _rows(database: Path) -> dict[str, list[tuple[str, ...]]]:
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {table: connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in tables}
    return {table: [tuple(map(_text, row)) for row in found] for table, found in rows.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _sent_credentials(emulator: Emulator) -> set[str]:
    """Every ``Authorization`` that an API saw, and the signature within."""
    values = {seen.headers["authorization"] for seen in emulator.seen() if "authorization" in seen.headers}
    return values | {value.rpartition("/")[2] for value in values if value.startswith("bce-auth")}


Case = tuple[str, str, Fault | None, str]
CASES: list[Case] = [
    # DAG, where it goes wrong, what goes wrong, how the run ends
    ("eo_deferrable", "", None, "success"),
    ("bls_poke", "", None, "success"),
    ("eo_one_task_waits_in_triggerer", "", None, "success"),
    ("eo_shards_of_a_task", "", None, "success"),
    ("eo_shards_of_a_task", "file", Echo(403), "failed"),
    ("eo_poke", "file", Echo(403), "failed"),
    ("bls_poke", "file", Echo(403), "failed"),
    ("bls_one_task_waits_in_triggerer", "file", Echo(400), "failed"),
    ("eo_one_task_waits_in_worker", "file", Echo(503), "failed"),
    ("eo_poke", "file", Redirect(ELSEWHERE), "failed"),
    ("bls_poke", "file", Cut(sent=0), "failed"),
    ("eo_poke", "eo.*", Echo(401), "failed"),
    ("bls_poke", "bls.*", Echo(403), "failed"),
    ("eo_deferrable", "eo.link", Echo(401), "failed"),
    ("bls_deferrable", "bls.link", Echo(403), "failed"),
    ("eo_one_task_waits_in_triggerer", "eo.link", Echo(400), "failed"),
    ("bls_reschedule", "bls.link", Echo(400), "failed"),
    ("eo_one_task_waits_in_worker", "eo.link", Echo(200), "failed"),
    ("market_deferrable", "", None, "success"),
    ("market_poke", "file", Echo(403), "failed"),
    ("market_one_task_waits_in_triggerer", "market.link", Echo(400), "failed"),
]


def _give(emulator: Emulator, case: Case) -> str:
    """Add the case's task, and let requests about it (and about nothing else) go wrong; return its id."""
    dag_id, where, fault, _ = case
    waits = "shards" not in dag_id and (fault is None or "link" in where)
    late: Any = {"ready_after": 0.5, "starts": "asked"} if waits else {}
    # A short id: it stands in the links' queries and is no secret.
    number = len(emulator.tasks) + 100
    if dag_id.startswith("bls"):
        task = emulator.bls_task(b"[1]", **late)
    else:
        make = emulator.eo_task if dag_id.startswith("eo") else emulator.market_order
        task = make(FILES, id=number, **late)
    if fault is not None:
        for pattern in [file.path for file in task.files] if where == "file" else [task.id]:
            emulator.fault(f"{where}:{pattern}", fault)
    return task.id


def _check(traces: Traces, emulator: Emulator, secrets: set[str], *destinations: Path) -> None:
    wanted = {*secrets, *SECRETS.values(), *_sent_credentials(emulator), ELSEWHERE.partition("?")[2]}
    # How dag.test() itself, in the place of a supervisor, notes that a secret is to be masked from now on.
    output = "\n".join(line for line in traces.output.splitlines() if "msg=MaskSecret(" not in line)
    beside = [path for place in destinations for path in place.rglob("_taskdl/*") if path.is_file()]
    assert_canary_free(output, traces.home, traces.rows, beside, secrets=wanted)


def _sees_something(traces: Traces, ids: list[str]) -> None:
    """Without this the search would prove nothing."""
    for task_id in ids:
        assert task_id in traces.output
    texts = {table: "\n".join(map("\n".join, rows)) for table, rows in traces.rows.items()}
    assert all(task_id in texts["rendered_task_instance_fields"] for task_id in ids)
    assert "b.tif" in texts["xcom"]
    assert "[debug" in traces.output
    assert "HTTP Request: GET" in traces.output, "the HTTP client's own log is not there"


@pytest.fixture
def emulator() -> Emulator:
    return Emulator(**SECRETS)  # type: ignore[arg-type]


def test_no_secret_is_left_on_disk_in_logs_or_in_the_database(
    airflow_db: None, emulator: Emulator, tmp_path: Path
) -> None:
    with recorded_links() as secrets, EmulatorServer(emulator) as server:
        ids = [_give(emulator, case) for case in CASES]
        runs = [
            (case[0], {"remote_task_id": task_id, "destination": str(tmp_path / "out" / task_id)})
            for case, task_id in zip(CASES, ids, strict=True)
        ]
        traces = _run(tmp_path / "home", server.environment(), runs)
    states = {f"{case[0]} {case[1]}": (state, case[3]) for case, state in zip(CASES, traces.states, strict=True)}
    assert {name: found for name, (found, _) in states.items()} == {name: due for name, (_, due) in states.items()}
    assert len(secrets) > 20
    assert len(_sent_credentials(emulator)) > 5
    assert all(rule.fired for rule in emulator.rules)
    _sees_something(traces, ids)
    assert list((tmp_path / "out").rglob("*.shard-2-of-3.json")), "the shards' manifests are not there"
    _check(traces, emulator, secrets, tmp_path / "out")


@pytest.mark.s3
def test_no_secret_is_left_by_a_store_and_its_client(
    airflow_db: None, emulator: Emulator, tmp_path: Path, s3: S3Server, bucket: str
) -> None:
    store = {"AIRFLOW_CONN_LIVE_STORE": os.environ["AIRFLOW_CONN_LIVE_STORE"]}
    cases: list[Case] = [("eo_poke", "", None, "success"), ("eo_poke", "file", Echo(403), "failed")]
    with recorded_links() as secrets, EmulatorServer(emulator) as server:
        ids = [_give(emulator, case) for case in cases]
        runs = [
            (case[0], {"remote_task_id": task_id, "destination": f"s3://live_store@{bucket}/{task_id}"})
            for case, task_id in zip(cases, ids, strict=True)
        ]
        traces = _run(tmp_path / "home", {**server.environment(), **store}, runs)
    assert traces.states == ["success", "failed"]
    _sees_something(traces, ids)
    assert "botocore" in traces.output
    _check(traces, emulator, {*secrets, SECRET}, s3.directory / bucket)


def test_the_search_finds_a_secret_in_every_place(tmp_path: Path) -> None:
    home, out, secret = tmp_path / "home", tmp_path / "out" / "_taskdl", SECRETS["token"]
    home.mkdir()
    out.mkdir(parents=True)
    clean = Traces([], "", home, {})
    _check(clean, Emulator(), set(), tmp_path)
    with pytest.raises(AssertionError):
        _check(Traces([], f"Bearer {secret}", home, {}), Emulator(), set(), tmp_path)
    with pytest.raises(AssertionError):
        _check(Traces([], "", home, {"xcom": [("key", secret)]}), Emulator(), set(), tmp_path)
    (out / "7.json").write_text(json.dumps({"note": secret}))
    with pytest.raises(AssertionError):
        _check(clean, Emulator(), set(), tmp_path)
    (out / "7.json").unlink()
    (home / "task.log").write_text(secret)
    with pytest.raises(AssertionError):
        _check(clean, Emulator(), set(), tmp_path)
