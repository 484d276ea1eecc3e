"""DAGs run by Airflow itself, in this process, with its own database."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_versions import AIRFLOW, ASSET, DAG_BAG
from tests.s3 import KEY, SECRET, S3Server

DAGS = Path(__file__).with_name("dags")


@dataclass
class Run:
    """A run of a DAG: its state, XComs by task and key, and the tasks' states and tries; ``task[2]`` if mapped."""

    run_id: str
    state: str
    xcom: dict[str, dict[str, Any]]
    tasks: dict[str, tuple[str, int]]
    assets: dict[str, Any]


@pytest.fixture
def run_dag(airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run a DAG of ``dags/`` with ``dag.test()``: ``run_dag(dag_id, remote_task_id=..., destination=...)``."""
    from airflow import settings

    monkeypatch.setattr(settings, "DAGS_FOLDER", str(DAGS))  # which was read when Airflow was imported

    def run(dag_id: str, **conf: Any) -> Run:
        bag = importlib.import_module(DAG_BAG).DagBag(DAGS)
        assert bag.import_errors == {}
        if AIRFLOW < (3, 0):
            bag.sync_to_db()  # as the scheduler does; asset events need it
        dag_run = bag.dags[dag_id].test(run_conf=conf)
        return _look_up(dag_id, dag_run.run_id, str(dag_run.state))

    return run


def link_of(dag_id: str, run: Run, task_id: str, name: str) -> str:
    """Return where a button on a task's page leads."""
    if AIRFLOW >= (3, 0):
        return str(run.xcom[task_id]["_link_DestinationLink"])
    # As the web server has it.
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(dag_id=dag_id, run_id=run.run_id, task_id=task_id).one()
        dag = importlib.import_module(DAG_BAG).DagBag(DAGS, read_dags_from_db=True).get_dag(dag_id)
        return str(dag.get_task(task_id).get_extra_links(ti, name))


def _look_up(dag_id: str, run_id: str, state: str) -> Run:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    events = importlib.import_module(f"airflow.models.{ASSET}")
    xcoms = importlib.import_module("airflow.models.xcom")
    AssetEvent = getattr(events, f"{ASSET.title()}Event")  # noqa: N806
    XComModel = xcoms.XComModel if AIRFLOW >= (3, 0) else xcoms.BaseXCom  # noqa: N806
    run = Run(run_id, state, {}, {}, {})
    with create_session() as session:
        of_run = {"dag_id": dag_id, "run_id": run_id}
        for row in session.scalars(select(XComModel).filter_by(**of_run)):
            value = XComModel.deserialize_value(row) if AIRFLOW >= (3, 0) else row.value
            run.xcom.setdefault(_mapped(row), {})[row.key] = value
        for ti in session.scalars(select(TaskInstance).filter_by(**of_run)):
            run.tasks[_mapped(ti)] = (str(ti.state), ti.try_number)
        for event in session.scalars(select(AssetEvent).filter_by(source_dag_id=dag_id, source_run_id=run_id)):
            uri = getattr(event, ASSET).uri
            assert uri not in run.assets, "told twice"
            run.assets[uri] = event.extra
    return run


def _mapped(of: Any) -> str:
    return str(of.task_id if of.map_index < 0 else f"{of.task_id}[{of.map_index}]")


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A running S3 server; the connection ``live_store`` leads there, and no other test may use that name.

    Airflow keeps a connection's file system for the life of the process.
    """
    facts = {"conn_type": "aws", "login": KEY, "password": SECRET}
    extra = {"endpoint_url": s3_server.url, "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_LIVE_STORE", json.dumps({**facts, "extra": extra}))
    return s3_server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """A new bucket."""
    return s3.bucket()
