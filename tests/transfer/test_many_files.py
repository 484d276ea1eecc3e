"""A task of ten thousand files: all arrive, in bounded memory, and a stop half-way costs nothing."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from airflow_provider_taskdl.exceptions import DownloadFailedError
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Task
from airflow_provider_taskdl.transfer.manifest import Manifest
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from tests.transfer.harness import checkpoint, fetched, job, leftovers, lists, published
from tests.transfer.test_memory import MAX_GROWTH, transfer

COUNT = 10_000


def make_task(emulator: Emulator, count: int) -> Task:
    """Add a task of so many files; its id is the number."""
    return emulator.eo_task({f"{number:05}.json": b"%d" % number for number in range(count)}, id=count)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("options", ["local", json.dumps({"protocol": "file"})], ids=["disk", "fsspec"])
def test_ten_thousand_files(server: EmulatorServer, emulator: Emulator, tmp_path: Path, options: str) -> None:
    few, many = make_task(emulator, 10), make_task(emulator, COUNT)
    to = tmp_path / "many"
    store = LocalStore(to) if options == "local" else ObjectStore(fsspec.filesystem("file"), str(to))
    running = job(lists(server, many), store, timeout=60.0)
    over = threading.Event()

    def cancel_half_way() -> None:
        while not over.wait(0.05):
            if emulator.count("file") > COUNT // 2:
                running.cancel()

    watcher = threading.Thread(target=cancel_half_way)
    watcher.start()
    with pytest.raises(DownloadFailedError, match="cancelled"):
        running.run()
    over.set()
    watcher.join()
    half = published(to)
    assert set(checkpoint(to, many) or ()) == half
    assert 0 < len(half) < COUNT
    emulator.requests.clear()

    _, small = transfer(server.base_url, 10, str(tmp_path / "few"), options)
    _, peak = transfer(server.base_url, COUNT, str(to), options)
    assert peak - small < MAX_GROWTH
    gets = fetched(emulator)
    names = {file.name for file in many.files}
    assert gets == dict.fromkeys([*(file.name for file in few.files), *(names - half)], 1)
    assert {path.name: path.read_bytes() for path in to.iterdir() if path.is_file()} == {
        file.name: file.content.read(0, 9) for file in many.files
    }
    manifest = Manifest.model_validate_json((to / "_taskdl" / f"{COUNT}.json").read_bytes())
    assert [entry.name for entry in manifest.files] == [file.name for file in many.files]
    assert sum(entry.outcome == "skipped" for entry in manifest.files) == len(half)
    assert leftovers(to) == set()
    assert checkpoint(to, many) is None
