"""An Airflow of its own, with the example DAGs: what the demo and the standalone Airflow have in common."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent


def settings(home: Path, dags: Path, store: Path, connections: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this Airflow's processes, free of what another Airflow may have set.

    :param home: Its AIRFLOW_HOME.
    :param dags: Its DAGs folder.
    :param store: Where the examples put files.
    :param connections: Environment variables with connections.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("AIRFLOW_")}
    return {
        **kept,
        **connections,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_VAR_TASKDL_DESTINATION": store.as_uri(),
        "TASKDL_EXAMPLE_POLL_SECONDS": "5",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # The emulated services are on this machine, which no proxy reaches.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def link_examples(folder: Path) -> list[str]:
    """Link the example DAGs that can be imported here into a DAGs folder, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["bls_log_export", "eo_analysis_results", "eo_mosaic_in_shards", "eo_market_order"]
    with suppress(PackageNotFoundError):  # not by importing it: that would set up the caller's own Airflow
        version("apache-airflow-providers-http")
        names.append("bce_auth_with_http_operator")
    for name in names:
        link = folder / f"{name}.py"
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / "example_dags" / link.name)
    return names


def exit_on_signals() -> None:
    """Let Ctrl-C, being terminated and losing the terminal end this program in order, once."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, frame: FrameType | None) -> None:
        for each in numbers:  # a second one would interrupt the cleaning up
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    for number in numbers:
        signal.signal(number, leave)
