"""Runs DAGs with every logger at DEBUG: ``python run_dags.py '[[dag_id, run_conf], ...]'``.

One line that it writes is ``STATES`` and how the runs ended, as JSON.
"""

from __future__ import annotations

import json
import logging
import random
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("dags")


def main(runs: list[tuple[str, dict[str, str]]]) -> list[str]:
    """Run the DAGs one after the other and return how each ended."""
    from airflow.dag_processing.dagbag import DagBag

    dags = DagBag(FOLDER).dags
    random.uniform = lambda low, high: low  # type: ignore[assignment]  # back-off without waiting
    root = logging.getLogger()
    root.addHandler(logging.StreamHandler(sys.stdout))
    states = []
    for dag_id, conf in runs:
        root.setLevel(logging.DEBUG)
        for name in tuple(logging.root.manager.loggerDict):
            logging.getLogger(name).setLevel(logging.NOTSET)
        states.append(str(dags[dag_id].test(run_conf=conf).state))
    return states


if __name__ == "__main__":
    sys.stdout.write(f"\nSTATES {json.dumps(main(json.loads(sys.argv[1])))}\n")
