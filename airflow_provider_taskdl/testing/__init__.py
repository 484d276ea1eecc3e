"""The services and their file host on your own machine, to test DAGs without a network.

::

    from airflow_provider_taskdl.testing import Cut, Emulator, EmulatorServer, Synthetic

    emulator = Emulator()
    task = emulator.eo_task({"ndvi.tif": b"...", "big.bin": Synthetic(2**31)}, ready_after=5)
    emulator.fault("file:big.bin", Cut(at=1_000_000), times=2)
    with EmulatorServer(emulator) as server:
        os.environ.update(server.environment())
        ...  # run the DAG with remote_task_id=task.id
    assert not emulator.leaks

As pytest fixtures: ``pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]``; from the command line:
``python -m airflow_provider_taskdl.testing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_taskdl.testing.content import Content, Disk, Memory, Synthetic
from airflow_provider_taskdl.testing.faults import Body, DeclareSize, Fault, Hide, Lose, Redirect, Status
from airflow_provider_taskdl.testing.file_faults import (
    ChangeFile,
    Chunked,
    ContentRange,
    Corrupt,
    Cut,
    Drip,
    Gzip,
    Header,
    IgnoreIfRange,
    IgnoreRange,
    ShiftRange,
    Stall,
    StopRange,
    WrongMd5,
)
from airflow_provider_taskdl.testing.rules import Rule, parse_rule
from airflow_provider_taskdl.testing.samples import access_log, geotiff, pdf_report
from airflow_provider_taskdl.testing.state import Emulator, Seen
from airflow_provider_taskdl.testing.tasks import Task, TaskFile
from airflow_provider_taskdl.testing.wire_faults import Multipart, Raw, Tail

if TYPE_CHECKING:
    from airflow_provider_taskdl.testing.server import EmulatorServer

__all__ = [
    "Body",
    "ChangeFile",
    "Chunked",
    "Content",
    "ContentRange",
    "Corrupt",
    "Cut",
    "DeclareSize",
    "Disk",
    "Drip",
    "Emulator",
    "EmulatorServer",
    "Fault",
    "Gzip",
    "Header",
    "Hide",
    "IgnoreIfRange",
    "IgnoreRange",
    "Lose",
    "Memory",
    "Multipart",
    "Raw",
    "Redirect",
    "Rule",
    "Seen",
    "ShiftRange",
    "Stall",
    "Status",
    "StopRange",
    "Synthetic",
    "Tail",
    "Task",
    "TaskFile",
    "WrongMd5",
    "access_log",
    "geotiff",
    "parse_rule",
    "pdf_report",
]


def __getattr__(name: str) -> Any:
    # The web server is loaded when it is asked for: most of what is here does without.
    if name == "EmulatorServer":
        from airflow_provider_taskdl.testing.server import EmulatorServer

        return EmulatorServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
