"""Whatever the package says when something is wrong, the page on troubleshooting knows."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_taskdl
from airflow_provider_taskdl import exceptions
from airflow_provider_taskdl.exceptions import TaskDownloadError

PACKAGE = Path(airflow_provider_taskdl.__path__[0])
PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
ERRORS = {name: kind for name, kind in vars(exceptions).items() if inspect.isclass(kind) and
          issubclass(kind, TaskDownloadError)}  # fmt: skip
# Functions that make one.
MAKERS = {*ERRORS, "refuse", "_failure"}
# Shorter pieces of a message say nothing.
_SHORTEST = 12


def plain(text: str) -> str:
    return re.sub(r"[\s`]+", " ", text)


def messages() -> Iterator[tuple[str, str]]:
    """Where in the package an error of ours is made, and its longest piece of text that does not differ."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS and node.args:
                longest = max(pieces(node.args[0]), key=len, default="")
                if len(longest) >= _SHORTEST:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", longest


def pieces(text: ast.expr) -> Iterator[str]:
    for part in ast.walk(text):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield plain(part.value).strip(" ;:,()[]'")


def test_messages_are_found_at_all() -> None:
    found = dict(messages())
    assert len(found) > 80
    assert "which is not a public host; if it is right, add it to the connection's extra 'allowed_link_hosts" in (
        found.values()
    )


def test_every_message_is_on_the_page() -> None:
    page = plain(PAGE.read_text(encoding="utf-8"))
    missing = [f"{where}: {message}" for where, message in messages() if message not in page]
    assert missing == []


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_its_heading(name: str) -> None:
    assert re.search(rf"^## .*\b{name}\b", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(name for name, kind in ERRORS.items() if not kind.__subclasses__()))
def test_the_page_says_truly_what_is_retried(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (own,) = [part for part in section if re.match(rf"(.*\W)?{name}\b", part.partition("\n")[0])]
    introduction = own.partition("| message")[0]
    if name != "DownloadFailedError":  # as its errors are
        assert ("Not retried" in introduction) != ERRORS[name].default_retryable
    assert "etried" in introduction
