"""However big a file is, the memory it takes is that of a few of its parts.

Emulator and transfer run in processes of their own, so that what is measured is the transfer alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_taskdl.testing import Synthetic
from tests.s3 import S3Server

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
MAX_GROWTH = 100 * 1000 * 1000

HOST = """
import sys
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Synthetic
emulator = Emulator()
for size in map(int, sys.argv[1:]):
    emulator.eo_task({"big.bin": Synthetic(size)}, id=str(size))
with EmulatorServer(emulator) as server:
    print(server.base_url, flush=True)
    sys.stdin.read()
"""
TRANSFER = """
import json, pathlib, sys, types
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from airflow_provider_taskdl.testing import Emulator
from tests.memory import peak
from tests.transfer.harness import job, lists
url, task, to, options = sys.argv[1:]
if options == "local":
    store = LocalStore(pathlib.Path(to))
else:
    import fsspec
    store = ObjectStore(fsspec.filesystem(**json.loads(options)), to)
server = types.SimpleNamespace(base_url=url, emulator=Emulator())
result = job(lists(server, types.SimpleNamespace(id=task, service="eo")), store, timeout=60.0).run()
print(json.dumps([result.entries[0].sha256, peak()]))
"""


@contextmanager
def emulator_process(*sizes: int) -> Iterator[str]:
    """Serve one task per size, whose id is the size; gives the address."""
    arguments = [sys.executable, "-c", HOST, *map(str, sizes)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def transfer(url: str, task: int, to: str, options: str) -> tuple[str, int]:
    """Fetch a task's files in a new process; gives the first one's digest and the process's peak of memory in bytes."""
    arguments = [sys.executable, "-c", TRANSFER, url, str(task), to, options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=200, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    digest, peak = json.loads(done.stdout.splitlines()[-1])
    return digest, peak


def grows(url: str, small: int, big: int, to: str, options: str) -> int:
    """Return how much more memory the big file took; both must have arrived whole."""
    first, second = transfer(url, small, to, options), transfer(url, big, to, options)
    assert first[0] == Synthetic(small).sha256
    assert second[0] == Synthetic(big).sha256
    return second[1] - first[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
class TestMemory:
    def test_a_big_file_on_a_disk_takes_no_more_than_a_small_one(self, tmp_path: Path) -> None:
        with emulator_process(64 * MIB, 2048 * MIB) as url:
            assert grows(url, 64 * MIB, 2048 * MIB, str(tmp_path), "local") < MAX_GROWTH
        digest = hashlib.sha256()
        with (tmp_path / "big.bin").open("rb") as file:
            while block := file.read(MIB):
                digest.update(block)
        assert digest.hexdigest() == Synthetic(2048 * MIB).sha256
        (tmp_path / "big.bin").unlink()

    @pytest.mark.s3
    def test_a_big_object_takes_no_more_than_a_small_one(self, s3_server: S3Server) -> None:
        to = f"{s3_server.bucket()}/x"
        with emulator_process(64 * MIB, 512 * MIB) as url:
            options = json.dumps({"protocol": "s3", **s3_server.options})
            assert grows(url, 64 * MIB, 512 * MIB, to, options) < MAX_GROWTH
