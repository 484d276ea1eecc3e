"""``python -m airflow_provider_taskdl``: connections and tasks from a terminal."""

import sys

from airflow_provider_taskdl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
