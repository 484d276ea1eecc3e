"""Run Airflow with its UI, the example DAGs and the emulated services until Ctrl-C.

It is what ``airflow standalone`` starts, but reachable from this machine only. Its home is the directory
``airflow-home``, which stays for the next start; ``make clean`` removes it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from parts import Airflow, free_port
from sandbox import ROOT, exit_on_signals, link_examples, settings

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.testing.__main__ import BLS_TASK, EO_MOSAIC, EO_TASK, MARKET_ORDER, add_example_tasks

REMOTE_TASK_SECONDS = 15.0


def main() -> int:
    """Return the exit code."""
    exit_on_signals()
    home = Path(os.environ.get("TASKDL_HOME", ROOT / "airflow-home")).absolute()
    names = link_examples(home / "dags")
    emulator = Emulator(ready_after=REMOTE_TASK_SECONDS, starts="asked", link_seconds=60)
    add_example_tasks(emulator, ready_after=REMOTE_TASK_SECONDS)
    port = free_port(8099)
    with EmulatorServer(emulator, port) as server:
        env = {
            **settings(home, home / "dags", home / "object-storage", {}),
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        }
        airflow = Airflow(home, env)
        say(f"Preparing {home} ...")
        connections = server.airflow_connections()
        for connection in connections.values():
            connection["port"] = port  # Airflow 3.3.1 and 3.3.2 refuse to test a stored connection without one
        if "bce_auth_with_http_operator" in names:
            connections["bce_http"] = http_connection(connections["baidu_bls_default"])
        airflow.prepare(connections)
        say("Starting Airflow ...")
        try:
            airflow.start()
            say(how_to(airflow.url, names, home, server.base_url))
            while airflow.lives:
                time.sleep(0.5)
            say(f"A part of Airflow ended by itself; see the logs in {home}")
            return 1
        except KeyboardInterrupt:
            say("\nStopping ...")
            return 0
        finally:
            airflow.stop()


def http_connection(bls: dict[str, Any]) -> dict[str, Any]:
    """Return the same service as a connection for Airflow's own HTTP operator."""
    return {"conn_type": "http", **{name: bls[name] for name in ("host", "login", "password")}}


def how_to(ui: str, names: list[str], home: Path, services: str) -> str:
    """Return what to do now."""
    pages = "\n".join(f"  {ui}/dags/{name}" for name in names)
    return f"""
Airflow is ready: {ui} (no login)

"Trigger" on the page of a DAG starts it; its sensor then waits without a worker. (The first one runs daily and has
begun by itself.)

{pages}

The connections and their forms, with a button that tests them: {ui}/connections
Files arrive in {home / "object-storage"}; logs of Airflow itself are in {home}

The emulated services are at {services}; their tasks take {REMOTE_TASK_SECONDS:.0f} s.
  BLS task {BLS_TASK} · EO tasks {EO_TASK}, {EO_MOSAIC} · EO order {MARKET_ORDER}

Ctrl-C ends all of it."""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
