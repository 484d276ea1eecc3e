"""What to know of a task and how to get its files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_taskdl.cli.screen import Screen
from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.base import TaskApiHook, task_hook
from airflow_provider_taskdl.listing import RemoteFile, TaskState, TaskStatus
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.operators.job import make_job
from airflow_provider_taskdl.redaction import printable
from airflow_provider_taskdl.transfer.progress import human_bytes
from airflow_provider_taskdl.transfer.sizes import PART_SIZE


def state(options: argparse.Namespace, write: Callable[[str], object]) -> int:
    """Print a task's state, and beside it why.

    :param options: The command line.
    :param write: Takes the result.
    :returns: The exit code.
    """
    with Screen() as screen, _hook(options.conn_id, screen) as hook:
        call = hook.api.get_status(options.task)
        status = TaskStatus(TaskState.UNKNOWN) if call is None else hook.run(call)
        write(f"{status.state}\n")
        if status.reason:
            screen.say(printable(status.reason))
    if status.state is TaskState.SUCCESS:
        return 0
    return 3 if status.state in (TaskState.FAILED, TaskState.EXPIRED) else 1


def list_(options: argparse.Namespace, write: Callable[[str], object]) -> int:
    """Print a task's files.

    :param options: The command line.
    :param write: Takes the result.
    :returns: The exit code.
    """
    with Screen() as screen, _hook(options.conn_id, screen) as hook:
        listing = hook.list_files(options.task)
        rows = [("size", "link", "name"), *map(_row, listing.files)]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        for size, link, name in rows if listing.files else ():
            write(f"{size:>{widths[0]}}  {link:<{widths[1]}}  {name}\n")
        if not listing.is_ready:
            screen.say("Not all files have a link yet." if listing.files else "No files yet.")
    return 0 if listing.is_ready else 1


def get(options: argparse.Namespace, write: Callable[[str], object]) -> int:
    """Download a task's files and print their paths.

    :param options: The command line.
    :param write: Takes the result.
    :returns: The exit code.
    """
    with Screen() as screen, _hook(options.conn_id, screen) as hook:
        destination = Destination(options.dest)
        job = make_job(
            hook,
            options.task,
            destination,
            pattern=options.pattern,
            overwrite=options.overwrite,
            concurrency=options.concurrency,
            part_size=PART_SIZE,
            progress=screen.progress,
        )
        result = job.run()
    write("".join(f"{entry.path}\n" for entry in result.entries))
    return 0


@contextmanager
def _hook(conn_id: str, screen: Screen) -> Iterator[TaskApiHook]:
    hook = find_hook(conn_id)
    try:
        _ = hook.access
        for remark in hook.remarks:
            screen.say(f"Connection {conn_id}: {remark}")
        yield hook
    finally:
        hook.close()


def find_hook(conn_id: str) -> TaskApiHook:
    """Return the hook of a connection.

    :param conn_id: The Airflow connection.
    :raises ConnectionConfigError: There is no such connection, or it is of another kind.
    """
    try:
        return task_hook(conn_id)
    except AirflowNotFoundException:
        pass
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if variable in os.environ:
        raise ConnectionConfigError(f"{variable} is set, but it is neither a connection's JSON nor its URI")
    raise ConnectionConfigError(
        f"there is no connection {conn_id!r}: not in a secrets backend, not in the environment ({variable}), not in "
        "Airflow's database; or one of them cannot be asked"
    )


def _row(file: RemoteFile) -> tuple[str, str, str]:
    return "-" if file.size is None else human_bytes(file.size), _life(file), printable(file.name)


def _life(file: RemoteFile) -> str:
    if file.link is None:
        return "none yet"
    if file.link.expires_at is None:
        return "end not known"
    left = int((file.link.expires_at - datetime.now(timezone.utc)).total_seconds())
    if left <= 0:
        return "is over"
    minutes, seconds = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    return "lives " + (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )
