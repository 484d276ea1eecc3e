"""Airflow's parts start in an order and end with all that they started."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

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


def test_the_scheduler_starts_when_the_api_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(parts.Airflow, "_launch", lambda self, name: order.append(name))
    monkeypatch.setattr(parts.Airflow, "_wait_for_health", lambda self, is_enough: order.append("an answer"))
    parts.Airflow(tmp_path, {}, port=0).start()
    assert order.index("api-server") < order.index("an answer") < order.index("scheduler")
    assert order[-1] == "an answer"
