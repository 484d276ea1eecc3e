"""The documentation builds without a warning, and a reader's browser fetches nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_taskdl.get_provider_info import get_provider_info
from tests.docs.snippets import snippets
from tests.needs import missing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
# What a browser fetches by itself when it shows a page; links that a reader may follow are no such thing.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//""",
    re.IGNORECASE,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    if sys.version_info < (3, 11):
        pytest.skip("the documentation is built on Python 3.11 and later")
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None:
        missing("sphinx is not installed (dependency group docs)")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", f"{target}.doctrees", DOCS, target]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return target


def test_every_page_is_there_and_says_something(site: Path) -> None:
    for page in PAGES:
        assert "<h1>" in (site / f"{page}.html").read_text(encoding="utf-8"), page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assert FETCHED.search('<script defer src="https://cdn.example/x.js">')
    assert FETCHED.search("@font-face { src: url(//fonts.example/x.woff2) }")
    found = {
        path.name: match.group()
        for path in site.rglob("*")
        if path.suffix in (".html", ".css", ".js", ".svg") and (match := FETCHED.search(path.read_text("utf-8")))
    }
    assert found == {}


def test_the_reference_has_what_airflow_is_told_of(site: Path) -> None:
    info = get_provider_info()
    groups = ("hooks", "sensors", "operators", "triggers")
    modules = {module for group in groups for entry in info.get(group, ()) for module in entry["python-modules"]}
    text = (site / "reference.html").read_text(encoding="utf-8")
    assert {module for module in modules if f'id="module-{module}"' not in text} == set()


def test_the_reference_has_what_an_api_of_ones_own_imports(site: Path) -> None:
    own = [each for each in snippets() if each.document == "add-an-api.md" and each.language == "python"]
    imported = re.compile(r"^from (airflow_provider_taskdl\S*) import", re.MULTILINE)
    used = {name for each in own for name in imported.findall(each.code)}
    assert len(used) > 6
    made = {str(each.part_of).removesuffix(".py").replace("/", ".") for each in own}
    text = (site / "reference.html").read_text(encoding="utf-8")
    assert {module for module in used - made if f'id="module-{module}"' not in text} == set()


def test_parameters_of_the_operator_are_explained(site: Path) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", (site / "reference.html").read_text(encoding="utf-8"))
    assert re.search("At most *concurrency *parts are in memory", text)
    assert ":param" not in text
