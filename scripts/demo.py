"""Run two example DAGs on a real Airflow against emulated services, and show what came of it.

Nothing but this machine is asked, and everything lies in a temporary directory that is gone at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox import ROOT, exit_on_signals, link_examples, settings

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.testing.__main__ import add_example_tasks
from airflow_provider_taskdl.transfer.progress import human_bytes

DAGS = ("bls_log_export", "eo_analysis_results")
# Less than the sensors' interval, so that they find the links at their second look, from the triggerer.
REMOTE_TASK_SECONDS = 4.0
DEADLINE_SECONDS = 240.0
STARTED = time.monotonic()
WIDTH = shutil.get_terminal_size(fallback=(130, 24)).columns


class DemoError(Exception):
    """The demo cannot go on."""


class DagTest:
    """``airflow dags test`` as a process, in an Airflow home of its own so that several can run at once.

    Its whole log goes to a file; what a DAG author would read of it goes to the screen.

    :param dag_id: The DAG.
    :param home: Its AIRFLOW_HOME, with a database.
    :param env: Its environment.
    """

    def __init__(self, dag_id: str, home: Path, env: dict[str, str]) -> None:
        self.dag_id = dag_id
        self.log = home / "dag.log"
        self._database = home / "airflow.db"
        self._task = ""
        self._said: set[tuple[str, str]] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "dags", "test", dag_id],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the demo, which then ends this
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> None:
        """Wait for its end.

        :raises DemoError: It failed or takes too long.
        """
        try:
            code = self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.dag_id} is not done after {DEADLINE_SECONDS:.0f} s") from None
        self._reader.join()
        if code:
            raise DemoError(f"{self.dag_id} failed")

    def kill(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def xcoms(self) -> dict[str, dict[str, Any]]:
        """Return what its tasks handed on: task to key to value."""
        found: dict[str, dict[str, Any]] = {}
        database = sqlite3.connect(self._database)
        try:
            for task, key, value in database.execute("SELECT task_id, key, value FROM xcom"):
                found.setdefault(task, {})[key] = json.loads(str(value))
        finally:
            database.close()
        return found

    def _read(self) -> None:
        with self.log.open("w") as log:
            for line in self._process.stdout or ():
                log.write(line)
                for text in self._worth_reading(line):
                    said = f"{time.monotonic() - STARTED:5.1f}  {f'{self.dag_id}.{self._task}':<33}{text}"
                    say(said if len(said) <= WIDTH else f"{said[: WIDTH - 1]}…")

    def _worth_reading(self, line: str) -> Iterator[str]:
        try:
            record = json.loads(line)
            event, logger, level = record["event"].strip(), record.get("logger", ""), record["level"]
        except (ValueError, TypeError, KeyError):
            return
        if event.startswith("[DAG TEST] starting task_id="):
            self._task = event.split("=")[1].split()[0]
        told = event.startswith(("Pausing task", "[DAG TEST] Trigger completed", "Done. Returned value"))
        if not (told or "airflow_provider_taskdl" in logger or level in ("error", "critical")):
            return
        # Each process that opens the connection warns of http://; once is enough here.
        if level == "warning" and (event, self.dag_id) in self._said:
            return
        self._said.add((event, self.dag_id))
        mark = "" if level == "info" else f"{level.upper()}: "
        yield from (f"{mark}{text}" for text in event.removeprefix("[DAG TEST] ").splitlines() if text)
        for error in record.get("exception", [])[-1:]:
            yield f"{error.get('exc_type')}: {error.get('exc_value')}"


def main() -> int:
    """Return the exit code."""
    exit_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="taskdl-demo-") as folder:
            demonstrate(Path(folder))
    except KeyboardInterrupt:
        say("\nInterrupted.")
        return 130
    except DemoError as error:
        say(f"\nThe demo failed: {error}")
        return 1
    return 0


def demonstrate(folder: Path) -> None:
    """Run the DAGs and show their results.

    :param folder: An empty directory.
    :raises DemoError: Something went wrong.
    """
    say(
        "Two example DAGs on a real Airflow. The services that they ask, Baidu Log Service and an image analysis\n"
        "platform, are emulated on this machine; their tasks take a while, and their links come at the end.\n"
    )
    store = folder / "object-storage"
    link_examples(folder / "dags")
    emulator = Emulator(ready_after=REMOTE_TASK_SECONDS, starts="asked")
    with EmulatorServer(emulator) as server:
        homes = {dag_id: folder / dag_id for dag_id in DAGS}
        common = {**server.environment(), "AIRFLOW__LOGGING__JSON_LOGS": "True"}
        envs = {dag_id: settings(home, folder / "dags", store, common) for dag_id, home in homes.items()}
        first, *others = DAGS
        say(f"Making a database for Airflow {version('apache-airflow')} ...")
        migration = subprocess.Popen(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=envs[first],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            add_example_tasks(emulator, ready_after=REMOTE_TASK_SECONDS)
            output, _ = migration.communicate()
        finally:
            migration.kill()
        if migration.returncode:
            raise DemoError(f"airflow db migrate:\n{output}")
        for dag_id in others:
            homes[dag_id].mkdir()
            shutil.copy(homes[first] / "airflow.db", homes[dag_id])

        for dag_id in DAGS:
            say(f"$ airflow dags test {dag_id} &")
        say(f"\n{'s':>5}  {'DAG.task':<33}log")
        tests: list[DagTest] = []
        try:
            tests.extend(DagTest(dag_id, homes[dag_id], envs[dag_id]) for dag_id in DAGS)
            for test in tests:
                test.wait(DEADLINE_SECONDS - (time.monotonic() - STARTED))
        except DemoError as error:
            raise DemoError(f"{error}; the whole log: {keep_logs(tests)}") from None
        finally:
            for test in tests:
                test.kill()
        show_files(store)
        show_results(tests)
        show_proof(emulator, store)


def show_files(store: Path) -> None:
    """Show what is in object storage."""
    say("\nObject storage now holds\n")
    for folder, _, names in sorted(os.walk(store)):
        if names:
            say(f"  {Path(folder).relative_to(store)}/")
        for name in sorted(names):
            say(f"    {name:<58}{human_bytes((Path(folder) / name).stat().st_size):>9}")


def show_results(tests: list[DagTest]) -> None:
    """Show what the tasks handed on and found out."""
    for test in tests:
        xcoms = test.xcoms()
        download = xcoms.pop("download")
        say(f"\nXCom of {test.dag_id}.download\n")
        for key in ("return_value", "manifest", "summary"):
            values = download[key] if isinstance(download[key], list) else [download[key]]
            for number, value in enumerate(values):
                say(f"  {'' if number else key:<14}{value}")
        for task in sorted(set(xcoms) & {"report", "vegetation"}):
            say(f"\nResult of {test.dag_id}.{task}, computed from those files\n")
            for key, value in xcoms[task]["return_value"].items():
                say(f"  {key:<24}{busiest(value) if key == 'requests_per_hour' else value}")


def busiest(per_hour: dict[str, int]) -> str:
    """Return the requests of each hour in short."""
    most, least = max(per_hour, key=per_hour.__getitem__), min(per_hour, key=per_hour.__getitem__)
    return f"from {per_hour[least]} ({least}:00) to {per_hour[most]} ({most}:00), UTC"


def show_proof(emulator: Emulator, store: Path) -> None:
    """Compare each file with what its service has.

    :raises DemoError: One is not the same.
    """
    say("\nSHA-256 of the stored file = of the service's file = in the manifest\n")
    originals = {(task.id, file.name): file.content for task in emulator.tasks.values() for file in task.files}
    for path in sorted(store.rglob("_taskdl/*.json")):
        manifest = json.loads(path.read_text())
        for entry in manifest["files"]:
            stored = hashlib.sha256((path.parent.parent / entry["name"]).read_bytes()).hexdigest()
            original = originals[manifest["remote_task_id"], entry["name"]].sha256
            if not stored == original == entry["sha256"]:
                raise DemoError(f"{entry['name']}: stored {stored}, original {original}, manifest {entry['sha256']}")
            say(f"  {stored}  {entry['name']}")
    if emulator.leaks:
        raise DemoError("a credential went to the file host")
    say(
        f"\nThe file host answered {emulator.count('file')} requests and saw no credential of the services. "
        f"{time.monotonic() - STARTED:.0f} s in all."
    )


def keep_logs(tests: list[DagTest]) -> Path:
    """Save the logs from the directory that is about to go, and return where they are."""
    kept = ROOT / ".demo"
    kept.mkdir(exist_ok=True)
    for test in tests:
        test.kill()
        shutil.copyfile(test.log, kept / f"{test.dag_id}.log")
    return kept


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
