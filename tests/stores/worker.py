"""One task in a process of its own: ``python -m tests.stores.worker '{"remote_task_id": …, "destination": …}'``.

The checkpoint lies beside the data, as it does where a worker's memory dies with it. The last line that is written
tells how much memory it took at most, in bytes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from tests.memory import peak
from tests.running import FakeTaskInstance


def main(parameters: dict[str, Any]) -> None:
    """Run the operator."""
    operator = DownloadToObjectStorageOperator(task_id="t", conn_id="eo_analysis_default", **parameters)
    context: Any = {"ti": FakeTaskInstance()}
    operator.execute(context)
    sys.stdout.write(f"\n{peak()}\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
