"""An Airflow that has outgrown one machine: PostgreSQL, Redis and Celery workers, each killable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.services import Postgres, postgres, redis
from tests.deployment.living import Deployment, deployed, until


@dataclass
class Cluster:
    """A running Airflow with Celery workers.

    :param deployment: Its other parts.
    :param database: Its metadata.
    :param broker: Redis.
    """

    deployment: Deployment
    database: Postgres
    broker: str

    def start_workers(self, *names: str) -> None:
        """Start workers, and wait until they take tasks."""
        from celery import Celery

        self.deployment.airflow.start(*names)
        with Celery(broker=self.broker) as app:

            def ready() -> bool:
                answers = app.control.inspect(timeout=1).ping() or {}
                return {f"{name}@localhost" for name in names} <= set(answers)

            until(ready, f"the start of {' and '.join(names)}")


@contextmanager
def cluster(
    home: Path,
    dags: Path,
    connections: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, str],
    *,
    workers: int,
    concurrency: int,
) -> Iterator[Cluster]:
    """Run an Airflow with its services; its workers, ``worker-1`` and so on, are still to be started.

    :param home: Its AIRFLOW_HOME.
    :param dags: Its DAGs.
    :param connections: Its connections.
    :param settings: What else is to stand in its environment.
    :param workers: How many workers can be started.
    :param concurrency: How many tasks each runs at once.
    """
    with postgres() as database, redis() as broker:
        own = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.cluster.hosts.name",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url("postgresql+psycopg2", "postgres"),
            "AIRFLOW__CELERY__BROKER_URL": broker.url("redis", "0"),
            "AIRFLOW__CELERY__RESULT_BACKEND": database.url("db+postgresql+psycopg2", "postgres"),
            **settings,
        }
        more = {name: _worker(home, name, concurrency) for name in (f"worker-{n + 1}" for n in range(workers))}
        with deployed(home, dags, connections, own, more) as running:
            yield Cluster(running, database, broker.url("redis", "0"))


def _worker(home: Path, name: str, concurrency: int) -> tuple[str, ...]:
    # Its log server would listen to the whole network; here all logs are on one disk.
    quiet = ("--skip-serve-logs", "--without-gossip", "--without-mingle")
    own = ("--celery-hostname", f"{name}@localhost", "--pid", str(home / f"{name}.pid"))
    return ("celery", "worker", *quiet, *own, "--concurrency", str(concurrency))
