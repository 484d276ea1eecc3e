"""Two promises at the size in which they are given."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_provider_taskdl.exceptions import TransferError
from airflow_provider_taskdl.testing import Drip, Emulator, EmulatorServer, Status, Synthetic
from tests.transfer.harness import fetched, job, lists, split_finely

PART = 64 * 1024


def test_links_that_live_two_seconds_serve_sixteen_connections_for_half_a_minute(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_finely(monkeypatch, PART)
    content = Synthetic(16 * 30 * PART, seed=1)
    emulator.link_seconds = 2
    task = emulator.eo_task({"big.bin": content})
    emulator.fault("file:*", Drip(rate=PART))
    began = time.monotonic()
    running = job(lists(server, task), tmp_path, concurrency=16, part_size=PART)
    (entry,) = running.run().entries
    seconds = time.monotonic() - began
    assert entry.sha256 == content.sha256
    assert seconds > 20
    # On a slow machine a link can end on its way to the host.
    assert {206} <= {seen.status for seen in emulator.seen("file")} <= {206, 403}
    # A link is replaced when four fifths of its life are over, by one call for all connections. It ends on a whole
    # second, so that its life depends on when it was made.
    calls = [seen.time for seen in emulator.seen("eo.link")]
    assert len(calls) == running.totals.renewals + 1 > 6
    for made, renewed in pairwise(calls):
        ends = int(made) + emulator.link_seconds
        assert renewed >= ends - 0.2 * (ends - made)


def test_a_task_of_a_thousand_files_fetches_the_one_that_failed(
    server: EmulatorServer, emulator: Emulator, tmp_path: Path
) -> None:
    task = emulator.eo_task({f"{number:04}.csv": f"file {number}".encode() for number in range(1000)})
    emulator.fault("file:0500.csv", Status(404))
    with pytest.raises(TransferError, match="404"):
        job(lists(server, task), tmp_path).run()
    emulator.clear_faults()
    assert len(fetched(emulator)) == 1000
    assert len(job(lists(server, task), tmp_path).run().entries) == 1000
    assert fetched(emulator) == {"0500.csv": 1}
