"""What a test needs beyond Python packages: without it the test is skipped, but in CI it fails."""

from __future__ import annotations

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
