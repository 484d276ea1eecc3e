"""What a test needs and not every machine has: without it the test is skipped, but in CI it fails."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

# Where `make services` puts what comes from npm.
_NPM = Path(__file__).parents[1] / ".services/node_modules/.bin"


def missing(reason: str) -> NoReturn:
    """End a test without a part that it needs.

    :param reason: What is missing, and how it is installed.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def package(name: str, remedy: str = "dependency group test") -> None:
    """End a test whose package is not there; only an environment that is meant to lack it skips the test in CI, too.

    :param name: The package, as it is imported.
    :param remedy: What installs it.
    """
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and broken
    else:
        return
    if name in os.environ.get("TASKDL_WITHOUT", "").split(","):
        pytest.skip(f"{name} is not in this environment (scripts/compat.py)")
    missing(f"{name} is not installed ({remedy})")


def program(name: str, *directories: Path | str, remedy: str = "make services") -> str:
    """Return a program's path, or end the test.

    :param name: The program.
    :param directories: Where it may be besides PATH, looked at first.
    :param remedy: What installs it.
    """
    path = os.pathsep.join([*map(str, directories), str(_NPM), os.environ.get("PATH", os.defpath)])
    if found := shutil.which(name, path=path):
        return found
    missing(f"{name} is not installed ({remedy})")
