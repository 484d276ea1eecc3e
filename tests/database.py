"""Airflow's database of the tests, for processes that want one of their own."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path


def copy_database(home: Path) -> None:
    """Copy it, whoever has it open: a copy of the file alone lacks what lies in its write-ahead log.

    :param home: The AIRFLOW_HOME that gets the copy.
    """
    source = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    with closing(sqlite3.connect(source)) as origin, closing(sqlite3.connect(home / "airflow.db")) as copy:
        origin.backup(copy)
