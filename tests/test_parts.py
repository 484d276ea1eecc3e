"""Airflow's parts end with all that they started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

import parts
import psutil
import pytest


def test_what_is_forked_while_the_family_is_counted_ends_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["sh", "-c", "read go; sleep 600 & echo $!; wait"]
    part = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    children: list[int] = []
    real = parts.family

    def counted(these: Iterable[subprocess.Popen[bytes]]) -> list[psutil.Process]:
        found = real(these)
        if not children:
            assert part.stdin
            assert part.stdout
            part.stdin.write(b"go\n")
            part.stdin.flush()
            children.append(int(part.stdout.readline()))
        return found

    monkeypatch.setattr(parts, "family", counted)
    with part:
        assert [process.pid for process in real([part])] == [part.pid]
        parts.kill([part])
        running = {process.pid for process in real([part])}
        parts.end(real([part]), psutil.Process.kill)  # whatever the test found
    assert children
    assert not running
