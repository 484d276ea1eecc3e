"""Virtual environments beside the project's own, made by uv: in seconds, and with the packages of a day if need be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find_python(version: str) -> str | None:
    """Return an interpreter that is on this machine: on PATH, known to uv, or made by pyenv.

    :param version: Such as ``3.12``.
    """
    found = subprocess.run(
        [*uv("python", "find"), "--system", "--no-python-downloads", version],
        cwd=ROOT.anchor,  # or uv would look at the project's own demands as well
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0:
        return found.stdout.strip()
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    mine = [path for path in versions.glob(f"{version}.*/bin/python") if path.parts[-3].replace(".", "").isdecimal()]
    return str(max(mine, key=lambda path: int(path.parts[-3].rpartition(".")[2]))) if mine else None


def make(directory: Path, python: str, packages: Sequence[str]) -> Path:
    """Make an environment, unless it is there and was made in just this way, and return its interpreter.

    :param directory: Where.
    :param python: The interpreter it is made of.
    :param packages: What is installed: arguments of ``uv pip install``.
    :raises subprocess.CalledProcessError: It could not be made; the reason is on standard error.
    """
    inner, stamp = directory / "bin" / "python", directory / "made-of"
    made_of = "\n".join([python, *packages, (ROOT / "pyproject.toml").read_text(encoding="utf-8")])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != made_of:
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([*uv("venv"), "--quiet", "--python", python, str(directory)], cwd=ROOT, check=True)
        install = [*uv("pip", "install"), "--quiet", "--python", str(inner), *packages]
        subprocess.run(install, cwd=ROOT, env={**os.environ, **as_pip()}, check=True)
        stamp.write_text(made_of, encoding="utf-8")
    return inner


def uv(*words: str) -> list[str]:
    """Return the beginning of a command of uv."""
    return [sys.executable, "-m", "uv", *words]


def as_pip() -> dict[str, str]:
    """Return what uv needs in its environment to look where pip does; of pip's settings it reads none."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = dict(re.findall(r"^(?:global|site|user|:env:)\.([\w-]+)='(.*)'$", said, re.MULTILINE))
    found = {}
    if "index-url" in settings and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        found["UV_DEFAULT_INDEX"] = settings["index-url"]
    if "cert" in settings and "SSL_CERT_FILE" not in os.environ:
        found["SSL_CERT_FILE"] = settings["cert"]
    return found


if __name__ == "__main__":
    # uv, with pip's index and certificates: `python scripts/environments.py pip install ...`
    sys.exit(subprocess.run(uv(*sys.argv[1:]), env={**os.environ, **as_pip()}, check=False).returncode)
