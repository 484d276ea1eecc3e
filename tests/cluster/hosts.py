"""What Airflow's parts are called: each as if it were on a machine of its own."""

import os


def name() -> str:
    """Return the name of the part that this process belongs to."""
    return os.environ.get("TASKDL_PART", "localhost")
