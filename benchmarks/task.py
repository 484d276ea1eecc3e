"""One Airflow task, in a process of its own as a worker's: ``python -m benchmarks.task KIND PARAMETERS REPORT``.

A tiny transfer goes first, so that all code is imported; it is counted as the start. Connections come from the
environment, as users may give them. The process reports what the work itself took.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[dict[str, Any]], None]


class TaskInstance:
    """What an operator is given of the running task, without an Airflow that runs it."""

    try_number = 1
    task_id = "bench"

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps(value)


class _StateStore(dict[str, Any]):
    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


def ours(parameters: dict[str, Any]) -> None:
    """Run this package's operator: the one place here that knows how it is called."""
    from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator

    operator = DownloadToObjectStorageOperator(
        task_id="bench",
        conn_id="bench_api",
        remote_task_id=parameters["task"],
        destination=parameters["destination"],
        concurrency=parameters["concurrency"],
    )
    context: Any = {"ti": TaskInstance(), "task_state_store": _StateStore()}
    operator.execute(context)


def http_to_s3(parameters: dict[str, Any]) -> None:
    """Run the operator that comes with Airflow, once per file."""
    from airflow.providers.amazon.aws.transfers.http_to_s3 import HttpToS3Operator

    for endpoint, key in parameters["files"]:
        operator = HttpToS3Operator(
            task_id="bench",
            http_conn_id="bench_files",
            endpoint=endpoint,
            extra_options={"verify": parameters["certificate"]},
            s3_bucket=parameters["bucket"],
            s3_key=key,
            aws_conn_id="bench_store",
            replace=True,
        )
        context: Any = {}
        operator.execute(context)


def presign(parameters: dict[str, Any]) -> None:
    """Write a URL that a PUT may be sent to."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", region_name="us-east-1", config=Config(signature_version="s3v4"))
    place = {"Bucket": parameters["bucket"], "Key": parameters["key"]}
    Path(parameters["to"]).write_text(client.generate_presigned_url("put_object", place, ExpiresIn=3600))


def main(kind: str, parameters: str, report: str) -> None:
    """Do the work and report it."""
    work: Work = {"ours": ours, "http_to_s3": http_to_s3, "presign": presign}[kind]
    given = json.loads(Path(parameters).read_text())
    if given.get("warm_up"):
        work(given["warm_up"])
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu, start = _cpu(), time.perf_counter()
    work(given)
    figures = {"seconds": time.perf_counter() - start, "cpu": _cpu() - cpu, "base": base}
    Path(report).write_text(json.dumps(figures))
    sys.stdout.flush()
    os._exit(0)  # Airflow's own tidying up at exit is not what is measured


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main(*sys.argv[1:])
