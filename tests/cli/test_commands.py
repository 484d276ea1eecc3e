"""What the commands print, give back and leave, over real sockets."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_taskdl.testing import Emulator, Stall, Status, Synthetic
from tests.cli.conftest import Command, start
from tests.running import until

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

MIB = 1024 * 1024
EO = "eo_analysis_default"


def _kept(destination: Path) -> int:
    """Return how many bytes of a file a later process would not fetch again."""
    lines = [line for path in destination.glob("_taskdl/*.journal") for line in path.read_text().splitlines()]
    return max((json.loads(line).get("end", 0) for line in lines if line), default=0)


class TestState:
    @pytest.mark.parametrize(
        ("course", "word", "code"),
        [
            ({}, "success", 0),
            ({"ready_after": 1000.0}, "running", 1),
            ({"ends": "failed", "reason": "no scene"}, "failed", 3),
        ],
    )
    def test_it_is_one_word_and_an_exit_code(
        self, command: Command, taskdl_emulator: Emulator, course: dict[str, Any], word: str, code: int
    ) -> None:
        task = taskdl_emulator.eo_task({"a": b"1"}, **course)
        said = command("state", EO, task.id)
        assert (said.code, said.out) == (code, f"{word}\n")
        assert said.err.strip().endswith(course.get("reason", ""))
        assert bool(said.err) == ("reason" in course)

    def test_a_task_that_the_service_does_not_know(self, command: Command, taskdl_emulator: Emulator) -> None:
        said = command("state", EO, "4711")
        assert (said.code, said.out) == (3, "")
        assert said.err.startswith("TaskNotFoundError: ")


class TestList:
    def test_names_sizes_and_the_life_of_links(self, command: Command, taskdl_emulator: Emulator) -> None:
        task = taskdl_emulator.eo_task({"ndvi.tif": Synthetic(4_200_000), "report.pdf": b"%PDF"})
        said = command("list", EO, task.id)
        assert said.code == 0
        head, *rows = said.out.splitlines()
        assert head.split() == ["size", "link", "name"]
        assert re.fullmatch(r"4\.2 MB  lives \d min \d+ s +ndvi\.tif", rows[0])
        assert re.fullmatch(r" +4 B  lives \d min \d+ s +report\.pdf", rows[1])

    def test_no_files_yet(self, command: Command, taskdl_emulator: Emulator) -> None:
        task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=1000)
        said = command("list", EO, task.id)
        assert (said.code, said.out, said.err) == (1, "", "No files yet.\n")

    def test_a_name_cannot_forge_lines(self, command: Command, taskdl_emulator: Emulator) -> None:
        task = taskdl_emulator.eo_task({"a\nb": b"1"})
        assert command("list", EO, task.id).out.splitlines()[1].endswith(r"a\nb")

    def test_a_service_that_is_down_may_be_asked_later(self, command: Command, taskdl_emulator: Emulator) -> None:
        taskdl_emulator.fault("eo.*", Status(503))
        said = command("list", EO, "1")
        assert said.code == 1
        assert said.err.startswith("ServiceUnavailableError: EO analysis platform is not available")


class TestGet:
    def test_files_arrive_and_standard_output_has_their_paths(
        self, command: Command, taskdl_emulator: Emulator, tmp_path: Path
    ) -> None:
        task = taskdl_emulator.eo_task({"a.tif": b"raster", "b.pdf": b"text"})
        said = command("get", EO, task.id, str(tmp_path))
        assert said.code == 0
        assert said.out.splitlines() == [(tmp_path / name).as_uri() for name in ("a.tif", "b.pdf")]
        assert (tmp_path / "a.tif").read_bytes() == b"raster"
        assert "2 of 2 files, 10 B of 10 B (100%)" in said.err
        assert "\x1b" not in said.err

        again = command("get", EO, task.id, str(tmp_path))
        assert (again.code, again.out) == (0, said.out)
        assert taskdl_emulator.count("file") == 2

    def test_only_what_matches(self, command: Command, taskdl_emulator: Emulator, tmp_path: Path) -> None:
        task = taskdl_emulator.eo_task({"a.tif": b"raster", "b.pdf": b"text", "c.xml": b"<a/>"})
        said = command("get", EO, task.id, str(tmp_path), "--pattern", "*.tif", "--pattern", "*.pdf")
        assert [Path(line).name for line in said.out.splitlines()] == ["a.tif", "b.pdf"]

    def test_what_is_there_is_not_replaced_with_never(
        self, command: Command, taskdl_emulator: Emulator, tmp_path: Path
    ) -> None:
        task = taskdl_emulator.eo_task({"a.tif": b"raster"})
        (tmp_path / "a.tif").write_bytes(b"mine")
        said = command("get", EO, task.id, str(tmp_path), "--overwrite", "never")
        assert said.code == 3
        assert said.err.startswith("DestinationExistsError: overwrite='never', and 1 of the files are there already")
        assert (tmp_path / "a.tif").read_bytes() == b"mine"

    def test_files_that_are_not_there_yet_may_be_got_later(
        self, command: Command, taskdl_emulator: Emulator, tmp_path: Path
    ) -> None:
        task = taskdl_emulator.eo_task({"a": b"1"}, ready_after=1000)
        said = command("get", EO, task.id, str(tmp_path))
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("TaskNotReadyError: the task has no links yet")

    def test_files_of_a_task_that_failed_will_never_be_there(
        self, command: Command, taskdl_emulator: Emulator, tmp_path: Path
    ) -> None:
        task = taskdl_emulator.eo_task({"a": b"1"}, ends="failed", reason="no scene")
        said = command("get", EO, task.id, str(tmp_path))
        assert (said.code, said.out) == (3, "")
        assert said.err.startswith("TaskFailedError: the task failed at the service: ")

    @pytest.mark.parametrize("words", [["list"], ["get"]])
    def test_a_name_that_the_terminal_cannot_write_is_written_otherwise(
        self, taskdl_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
    ) -> None:
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        task = taskdl_emulator.eo_task({"日本.tif": b"1", "z.tif": b"2"})
        process = start(*words, EO, task.id, *([str(tmp_path)] if words == ["get"] else []))
        out, err = process.communicate(timeout=60)
        assert (process.returncode, "\\u65e5\\u672c.tif" in out, "z.tif" in out) == (0, True, True), err

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stopped_it_leaves_nothing_half_and_the_same_command_goes_on(
        self, command: Command, taskdl_emulator: Emulator, tmp_path: Path, number: signal.Signals
    ) -> None:
        size = 40 * MIB
        task = taskdl_emulator.eo_task({"big.bin": Synthetic(size), "small.txt": b"here"}, checksums=True)
        taskdl_emulator.fault("file:big.bin", Stall(600, at=36 * MIB))
        process = start("get", EO, task.id, str(tmp_path), "--concurrency", "2")
        try:
            until(lambda: _kept(tmp_path) >= size // 2, 60)
            until((tmp_path / "small.txt").exists, 60)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert (process.returncode, out) == (128 + number, "")
        assert err.rstrip().endswith(
            "Stopped. What had arrived is kept; the same command goes on from there:\n"
            f"  python -m airflow_provider_taskdl get {EO} {task.id} {tmp_path} --concurrency 2"
        )
        assert "Traceback" not in err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["_taskdl", "small.txt"]

        taskdl_emulator.clear_faults()
        before = taskdl_emulator.bytes_sent()
        assert command("get", EO, task.id, str(tmp_path)).code == 0
        assert taskdl_emulator.bytes_sent() - before <= size // 2, "what had arrived did not come again"
        assert (tmp_path / "big.bin").read_bytes() == b"".join(task.file("big.bin").content.blocks())

    @pytest.mark.slow
    def test_a_terminal_shows_a_bar(self, taskdl_emulator: Emulator, tmp_path: Path) -> None:
        task = taskdl_emulator.eo_task({"big.bin": Synthetic(8 * MIB), "b.txt": b"here"})
        taskdl_emulator.fault("file:big.bin", Stall(1.5, at=4 * MIB), times=1)
        screen, terminal = pty.openpty()
        with os.fdopen(screen, "rb", buffering=0) as shown:
            process = start("get", EO, task.id, str(tmp_path), stderr=terminal, stdin=subprocess.DEVNULL)
            os.close(terminal)
            text = ""
            while True:
                try:
                    text += shown.read(65536).decode()
                except OSError:  # the other side is closed
                    break
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert [Path(line).name for line in out.splitlines()] == ["big.bin", "b.txt"]
        assert re.search(r"\r\x1b\[K\[#+ *\] 1 of 2 files, \d\.\d MB of 8\.4 MB \(\d+%\), ", text), text
        assert re.search(r"\r\x1b\[Koutcome +size +sha256 +file\r\n", text), "the table stands on lines of its own"


def test_the_emulator_serves_what_the_other_commands_ask(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("emulator", "--port", "0")
    try:
        said = ""
        assert process.stdout is not None
        while "airflow connections import" not in said:
            line = process.stdout.readline()
            assert line, "the emulator ended"
            said += line
        for name, value in re.findall(r"^export (\w+)='(.*)'$", said, re.MULTILINE):
            monkeypatch.setenv(name, value)
        assert command("check", EO).code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
