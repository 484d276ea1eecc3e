"""The parts of Airflow as processes of their own, reachable from this machine only."""

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

# The log servers would listen to the whole network; here the UI finds all logs on its own disk.
COMPONENTS = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
PART = "TASKDL_PART"  # in each part's environment: its name
START_SECONDS = 180.0
STOP_SECONDS = 5.0


class Airflow:
    """An Airflow of its own: what ``airflow standalone`` starts, each part in a session of its own.

    :param home: Its AIRFLOW_HOME, where the parts' own logs are as well.
    :param env: Its environment, see :func:`sandbox.settings`.
    :param more: Further parts: name to Airflow's command and its arguments.
    :param port: Where its API listens, if that is free; 0 for a port that no other Airflow thinks of.
    """

    def __init__(
        self, home: Path, env: Mapping[str, str], more: Mapping[str, Sequence[str]] | None = None, port: int = 8080
    ) -> None:
        self.home = home
        self.components = {**COMPONENTS, **(more or {})}
        port = free_port(port)
        self.url = f"http://127.0.0.1:{port}"
        self.env = {
            **env,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        }
        self.parts: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self, connections: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the database, with these connections in it, where the UI shows them; the environment would hide them."""
        self.run("db", "migrate")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(connections, file)
            file.flush()
            self.run("connections", "import", "--overwrite", file.name)

    def run(self, *arguments: str) -> None:
        """Run a command of Airflow and show what it says only if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments], env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"airflow {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def start(self, *names: str) -> None:
        """Start these parts, all of them if none is named, and wait until they say that they are well."""
        wanted = names or tuple(self.components)
        for name in wanted:
            if name != "scheduler":
                self._launch(name)
        if "scheduler" in wanted:
            # The first tasks of a scheduler that is there before the API server, which they report to, are lost.
            self._wait_for_health(lambda parts: True)
            self._launch("scheduler")
        self._wait_for_health(lambda parts: all(part["status"] == "healthy" for part in parts.values()))

    def _launch(self, name: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *self.components[name]],
                env={**self.env, PART: name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for_health(self, is_enough: Callable[[dict[str, Any]], bool]) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.lives:
            with contextlib.suppress(OSError, ValueError):
                if is_enough(json.load(opener.open(f"{self.url}/api/v2/monitor/health", timeout=5))):
                    return
            time.sleep(0.5)
        sys.exit(f"Airflow did not start; see the logs in {self.home}")

    @property
    def lives(self) -> bool:
        """Whether all parts that were started still run."""
        return all(part.poll() is None for part in self.parts.values())

    def kill(self, name: str) -> None:
        """End a part without a word, with all that it started."""
        kill([self.parts.pop(name)])

    def stop(self) -> None:
        """End all parts and all that they started, which some of them would leave behind."""
        parts = list(self.parts.values())
        running = family(parts)
        end(running, psutil.Process.terminate)
        psutil.wait_procs(running, timeout=STOP_SECONDS)
        kill(parts)


def kill(parts: Iterable[subprocess.Popen[bytes]]) -> None:
    """End these without a word, with all that they started, up to the moment of their end."""
    while running := family(parts):
        end(running, psutil.Process.kill)
    for part in parts:
        part.wait()


def end(processes: Iterable[psutil.Process], how: Any) -> None:
    """Send each a signal."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            how(process)


def family(parts: Iterable[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    """Return what runs in the sessions of these processes. Tasks have process groups of their own, but not sessions.

    What has ended and was not waited for yet runs no more.
    """
    sessions = {part.pid for part in parts}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def free_port(wanted: int) -> int:
    """Return a port that nothing listens at: this one, or another."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as server:
            return int(server.getsockname()[1])
    raise OSError("there is no free port")
