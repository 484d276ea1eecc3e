"""Run Airflow with its UI, the example DAGs and the emulated services until Ctrl-C.

It is what ``airflow standalone`` starts, but reachable from this machine only. Its home is the directory
``airflow-home``, which stays for the next start; ``make clean`` removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from sandbox import ROOT, exit_on_signals, link_examples, settings

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.testing.__main__ import BLS_TASK, EO_TASK, add_example_tasks

# The log servers would listen to the whole network; here the UI finds all logs on its own disk.
COMPONENTS = (["api-server"], ["dag-processor"], ["scheduler", "--skip-serve-logs"], ["triggerer", "--skip-serve-logs"])
REMOTE_TASK_SECONDS = 15.0
START_SECONDS = 180.0
STOP_SECONDS = 5.0


def main() -> int:
    """Return the exit code."""
    exit_on_signals()
    home = Path(os.environ.get("TASKDL_HOME", ROOT / "airflow-home")).absolute()
    names = link_examples(home / "dags")
    emulator = Emulator(ready_after=REMOTE_TASK_SECONDS, link_seconds=60)
    add_example_tasks(emulator, ready_after=REMOTE_TASK_SECONDS)
    ui = free_port(8080)
    with EmulatorServer(emulator, port=free_port(8099)) as server:
        env = {
            **settings(home, home / "dags", home / "object-storage", {}),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(ui),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{ui}",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{ui}/execution/",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        }
        say(f"Preparing {home} ...")
        airflow(env, "db", "migrate")
        connections = server.airflow_connections()
        if "bce_auth_with_http_operator" in names:
            connections["bce_http"] = http_connection(connections["baidu_bls_default"])
        import_connections(env, connections)
        say("Starting Airflow ...")
        processes: list[subprocess.Popen[bytes]] = []
        try:
            processes.extend(start(component, env, home) for component in COMPONENTS)
            await_health(processes, f"http://127.0.0.1:{ui}")
            say(how_to(ui, names, home, server.base_url))
            while all(process.poll() is None for process in processes):
                time.sleep(0.5)
            say(f"A part of Airflow ended by itself; see the logs in {home}")
            return 1
        except KeyboardInterrupt:
            say("\nStopping ...")
            return 0
        finally:
            stop(processes)


def start(component: list[str], env: dict[str, str], home: Path) -> subprocess.Popen[bytes]:
    """Start a part of Airflow in a session of its own, and its log anew."""
    with (home / f"{component[0]}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", *component],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End the parts of Airflow and all that they started, which some of them would leave behind."""
    running = family(processes)
    for process in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(running, timeout=STOP_SECONDS)
    for process in family(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for part in processes:
        part.wait()


def family(processes: list[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    """Return what runs in the sessions of these processes. Tasks have process groups of their own, but not sessions."""
    sessions = {process.pid for process in processes}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return found


def http_connection(bls: dict[str, Any]) -> dict[str, Any]:
    """Return the same service as a connection for Airflow's own HTTP operator."""
    return {"conn_type": "http", **{name: bls[name] for name in ("host", "login", "password")}}


def import_connections(env: dict[str, str], connections: dict[str, dict[str, Any]]) -> None:
    """Put connections into Airflow's database, where the UI shows them; the environment would hide them."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(connections, file)
        file.flush()
        airflow(env, "connections", "import", "--overwrite", file.name)


def airflow(env: dict[str, str], *arguments: str) -> None:
    """Run a command of Airflow and show what it says only if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"airflow {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def free_port(wanted: int) -> int:
    """Return a port that nothing listens at: this one, or another."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as server:
            return int(server.getsockname()[1])
    raise OSError("there is no free port")


def await_health(processes: list[subprocess.Popen[bytes]], url: str) -> None:
    """Wait until all parts of Airflow say that they are well."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        with contextlib.suppress(OSError, ValueError):
            parts = json.load(opener.open(f"{url}/api/v2/monitor/health", timeout=5))
            if all(part["status"] == "healthy" for part in parts.values()):
                return
        time.sleep(0.5)
    sys.exit("Airflow did not start; see its logs.")


def how_to(port: int, names: list[str], home: Path, services: str) -> str:
    """Return what to do now."""
    ui = f"http://127.0.0.1:{port}"
    pages = "\n".join(f"  {ui}/dags/{name}" for name in names)
    return f"""
Airflow is ready: {ui} (no login)

"Trigger" on the page of a DAG starts it; its sensor then waits without a worker. (The first one runs daily and has
begun by itself.)

{pages}

The connections and their forms, with a button that tests them: {ui}/connections
Files arrive in {home / "object-storage"}; logs of Airflow itself are in {home}

The emulated services are at {services}; their tasks take {REMOTE_TASK_SECONDS:.0f} s.
  BLS task {BLS_TASK} · EO task {EO_TASK}

Ctrl-C ends all of it."""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
