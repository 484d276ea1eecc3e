"""The walls of the house: who may import whom, what stays out of a DAG file, and what every part must say."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_taskdl

NAME = "airflow_provider_taskdl"
ROOT = Path(airflow_provider_taskdl.__path__[0])
SOURCES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 350

BASE = {"redaction", "backoff", "exceptions", "listing", "wire_log"}
# Part of the package -> the other parts it may import. None but the command line, which starts it, imports `testing`.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "get_provider_info": set(),
    "redaction": set(),
    "backoff": set(),
    "wire_log": set(),
    "exceptions": {"redaction", "backoff"},
    "listing": {"redaction", "backoff", "exceptions"},
    "apis": BASE,
    "auth": BASE,
    "transfer": BASE,
    "testing": BASE | {"apis", "auth", "hooks", "operators"},
    "hooks": BASE | {"apis", "auth"},
    "triggers": BASE | {"apis", "auth", "hooks"},
    "sensors": BASE | {"apis", "auth", "hooks", "triggers"},
    "operators": BASE | {"apis", "auth", "hooks", "triggers", "transfer"},
    "cli": BASE | {"__version__", "apis", "auth", "hooks", "triggers", "transfer", "operators", "testing"},
    "__main__": {"cli"},
}
# Part -> the libraries it must not know. `apis` does no I/O; only the upper floors know Airflow.
MUST_NOT_KNOW: dict[str, set[str]] = {
    **{part: {"airflow", "httpx", "requests", "pydantic"} for part in BASE},
    "apis": {"airflow", "httpx", "requests", "asyncio", "http", "socket", "urllib.request"},
    "auth": {"airflow"},
    "transfer": {"airflow", "requests"},
}
# What a DAG file must not load through us: each costs tens of milliseconds or more at every parse.
HEAVY = {
    "adlfs", "aiobotocore", "aiohttp", "boto3", "botocore", "fastapi", "flask_appbuilder", "gcsfs", "httpx", "numpy",
    "pandas", "requests", "s3fs", "starlette", "uvicorn",
}  # fmt: skip


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import in a file, also those within functions: line and full dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(path)}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_every_part_has_its_place() -> None:
    assert {part_of(path) for path in SOURCES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_imports_run_downwards(path: Path) -> None:
    part = part_of(path)
    allowed = MAY_IMPORT[part] | {part}
    for line, name in imports(path):
        if within(name, NAME):
            imported = name.removeprefix(NAME).lstrip(".").partition(".")[0]
            assert imported in allowed, f"{label(path)}:{line} imports {name}; {part} may import {sorted(allowed)}"


def test_no_two_modules_import_each_other_not_even_for_types() -> None:
    modules = {".".join((NAME, *path.relative_to(ROOT).with_suffix("").parts)): path for path in SOURCES}
    below = {
        module: {name if name in modules else name.rpartition(".")[0] for _, name in imports(path)} & modules.keys()
        for module, path in modules.items()
    }
    while leaves := [module for module, others in below.items() if not others & below.keys()]:
        for module in leaves:
            del below[module]
    assert not below, f"a circle goes through these, or they lead to one: {sorted(below)}"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_lower_floors_know_no_framework(path: Path) -> None:
    part = part_of(path)
    for line, name in imports(path):
        for library in MUST_NOT_KNOW.get(part, ()):
            assert not within(name, library), f"{label(path)}:{line} imports {name}; {part} must not know {library}"


@pytest.mark.parametrize(
    "module",
    ["sensors.download_link", "triggers.task_ready", "operators.download", "operators.bls", "operators.eo_analysis"],
)
def test_a_dag_file_loads_nothing_heavy(module: str, tmp_path: Path) -> None:
    program = f"""
import sys
from airflow.sdk import *
import airflow.triggers.base
before = set(sys.modules)
import {NAME}.{module}
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert NAME in loaded
    assert not loaded & HEAVY, f"{module} loads {sorted(loaded & HEAVY)}; import them where they are used"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_files_stay_readable_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{label(path)} has {lines} lines; split it by what it does"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    bare = [f"{path.name}:{node.lineno} {node.name}" for node in public(tree) if not ast.get_docstring(node)]
    assert not bare
    assert ast.get_docstring(tree)


def public(scope: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_constructors_explain_their_parameters(path: Path) -> None:
    inner = label(path).removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")
    module = importlib.import_module(f"{NAME}.{inner}" if inner else NAME)
    for name, found in vars(module).items():
        if inspect.isclass(found) and found.__module__ == module.__name__ and not name.startswith("_"):
            # What a base class explains holds for its children.
            text = "\n".join(base.__doc__ or "" for base in found.__mro__ if base.__module__.startswith(NAME))
            silent = [parameter for parameter in parameters(found) if not explained(parameter, text)]
            assert not silent, f"{module.__name__}.{name} does not explain {silent}"


def explained(parameter: str, text: str) -> bool:
    return f":param {parameter}:" in text or f":ivar {parameter}:" in text


def parameters(found: type) -> list[str]:
    """The public parameters of a class's own constructor."""
    if "__init__" not in vars(found) and not dataclasses.is_dataclass(found):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    signature = inspect.signature(found.__init__)  # type: ignore[misc]
    wanted = [name for name, parameter in signature.parameters.items() if parameter.kind not in variable]
    return [name for name in wanted[1:] if not name.startswith("_")]


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_test_changes_the_clock_of_the_whole_process(path: Path) -> None:
    """Event loops of servers in other threads read it, and may then sleep for hours."""
    assert not re.search(r"setattr\([^)\n]*\btime(\.|, \")(monotonic|time|sleep)\"", path.read_text(encoding="utf-8"))
