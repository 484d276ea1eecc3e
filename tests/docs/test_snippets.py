"""Every code block of the documents does what it says: Python runs, commands exist, connections can be used."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Connection, conf

from airflow_provider_taskdl.cli import main as cli
from airflow_provider_taskdl.get_provider_info import get_provider_info
from airflow_provider_taskdl.hooks.base import task_hook
from airflow_provider_taskdl.testing import EmulatorServer
from airflow_provider_taskdl.testing import __main__ as serving
from tests.docs.snippets import ROOT, Snippet, snippets

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

PARTS = [snippet for snippet in snippets() if snippet.part_of]
ALL = [snippet for snippet in snippets() if not snippet.exempt and not snippet.part_of]
PYTHON = [snippet for snippet in ALL if snippet.language == "python"]
SHELL = [snippet for snippet in ALL if snippet.language in ("console", "bash", "sh", "shell")]
JSON = [snippet for snippet in ALL if snippet.language == "json"]
INI = [snippet for snippet in ALL if snippet.language == "ini"]
RUN = [*PYTHON, *SHELL, *JSON, *INI]
OURS = {form["connection-type"] for form in get_provider_info()["connection-types"]}


def test_no_block_is_left_out() -> None:
    left = [f"{each} ({each.language or 'no language'})" for each in ALL if each not in RUN]
    assert left == [], "say above the block why it is not run: <!-- not run: ... -->"
    assert min(map(len, (PYTHON, SHELL, JSON))) > 1


@pytest.mark.parametrize("snippet", PARTS, ids=str)
def test_what_is_said_to_be_a_part_of_a_file_is_one(snippet: Snippet) -> None:
    def lines(text: str) -> str:
        return "\n".join(line.strip().removesuffix(",") for line in text.strip().splitlines())

    assert lines(snippet.code) in lines((ROOT / str(snippet.part_of)).read_text(encoding="utf-8"))


@pytest.mark.parametrize("snippet", [each for each in PYTHON if not each.file], ids=str)
def test_python_runs(snippet: Snippet, taskdl_server: EmulatorServer) -> None:
    serving.add_example_tasks(taskdl_server.emulator)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet.code, str(snippet), "exec"), names)
    dags = [dag for thing in names.values() if isinstance(dag := getattr(thing, "dag", thing), DAG)]
    assert all(dag.tasks for dag in dags)
    assert dags or "DAG(" not in snippet.code


FILES: dict[str, list[Snippet]] = defaultdict(list)
for each in PYTHON:
    if each.file:
        FILES[each.document].append(each)


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", FILES)
def test_files_with_tests_of_their_own_pass_them(document: str, tmp_path: Path) -> None:
    for snippet in FILES[document]:
        path = tmp_path / str(snippet.file)
        path.parent.mkdir(exist_ok=True)
        path.write_text(snippet.code)
    wanted = sum(code.code.count("\ndef test_") for code in FILES[document])
    path_of_programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], cwd=tmp_path, capture_output=True,
        text=True, check=False, env=environment | {"PYTHONPATH": str(ROOT), "PATH": path_of_programs},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert wanted
    assert f"{wanted} passed" in done.stdout


def commands(snippet: Snippet) -> Iterator[list[str]]:
    text = re.sub(r"\\\n\s*", "", snippet.code)
    lines = text.splitlines()
    prompts = any(line.startswith("$ ") for line in lines)
    for line in lines:
        if not prompts or line.startswith("$ "):  # without a prompt, what a command printed
            words = shlex.split(line.removeprefix("$ "), comments=True)
            for_it = itertools.takewhile(re.compile(r"[A-Z_]+=").match, words)  # variables for this command
            if command := words[len(list(for_it)) :]:
                yield command


@pytest.mark.parametrize("snippet", SHELL, ids=str)
def test_commands_exist(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(commands(snippet))
    assert found
    for words in found:
        check_command(words, monkeypatch)


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    match words:
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert [target for target in targets if "=" not in target and target not in known] == []
        case ["pip", "install", "-c", constraints, *what]:
            assert (ROOT / constraints).exists()
            check_command(["pip", "install", *what], monkeypatch)
        case ["pip", "install", *what]:
            assert {word for word in what if not word.startswith("-")} <= installable(), what
        case ["export", setting]:
            check_setting(setting, monkeypatch)
        case ["airflow", *rest]:
            from airflow.cli.cli_parser import get_parser

            options = get_parser().parse_args(rest)  # ends the process if it is wrong
            if rest[:2] == ["connections", "add"] and str(options.conn_type) in OURS:
                check_connection({
                    "conn_type": options.conn_type, "host": options.conn_host, "login": options.conn_login,
                    "password": options.conn_password, "extra": json.loads(options.conn_extra or "{}"),
                }, monkeypatch)  # fmt: skip
        case ["python", "-m", "airflow_provider_taskdl", *rest]:
            if rest[0] == "emulator":
                serving.parser("").parse_args(rest[1:])
            else:
                cli.parser().parse_args(rest)
        case ["python", "-m", "pytest", *_] | ["pytest", *_]:
            pass
        case _:
            pytest.fail(f"nobody knows how to check: {shlex.join(words)}")


def installable() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"^(\w+) = \[\"apache-airflow-providers", text, re.MULTILINE)
    return {"airflow-provider-taskdl", *(f"airflow-provider-taskdl[{extra}]" for extra in extras)}


def check_setting(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = setting.partition("=")
    if name.startswith("AIRFLOW_CONN_"):
        monkeypatch.setenv(name, value)
        conn_id = name.removeprefix("AIRFLOW_CONN_").lower()
        if Connection.get(conn_id).conn_type in OURS:
            assert task_hook(conn_id).access.base_url


def check_connection(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OF_A_DOCUMENT", json.dumps({k: v for k, v in fields.items() if v is not None}))
    hook = task_hook("of_a_document")
    assert hook.access.base_url
    assert hook.unknown_extras == []


@pytest.mark.parametrize("snippet", JSON, ids=str)
def test_json_can_be_read_and_connections_can_be_used(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.loads(snippet.code)
    for connection in (value, *(value.values() if isinstance(value, dict) else ())):
        if isinstance(connection, dict) and connection.get("conn_type") in OURS:
            check_connection(connection, monkeypatch)


@pytest.mark.parametrize("snippet", INI, ids=str)
def test_airflow_knows_the_settings(snippet: Snippet) -> None:
    settings = ConfigParser()
    settings.read_string(snippet.code)
    known = conf.as_dict(display_sensitive=True)
    assert settings.sections()
    for section in settings.sections():
        assert set(settings[section]) <= set(known[section]), section
