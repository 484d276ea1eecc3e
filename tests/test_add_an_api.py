"""The page on new APIs shows what is in the repository, and following it in a package of one's own works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add-an-api.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^`([\w/.]+)`:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
API, HOOK, INFO, TEST = (
    "airflow_provider_taskdl/apis/eo_market.py",
    "airflow_provider_taskdl/hooks/eo_market.py",
    "airflow_provider_taskdl/get_provider_info.py",
    "tests/hooks/test_eo_market_contract.py",
)


def test_the_page_has_all_there_is() -> None:
    assert set(BLOCKS) == {API, HOOK, INFO, TEST}


@pytest.mark.parametrize("path", BLOCKS)
def test_the_page_shows_what_is_in_the_repository(path: str) -> None:
    there = (ROOT / path).read_text(encoding="utf-8")
    if path == INFO:
        assert f"{textwrap.indent(BLOCKS[path].rstrip(), ' ' * 12)},\n" in there
    else:
        assert BLOCKS[path] == there


@pytest.mark.parametrize(
    ("path", "most"),
    re.findall(r"^\| `(apis|hooks|get_provider_info)[/.].*?\| (?:\d+ to )?(\d+) \|$", PAGE, re.MULTILINE),
)
def test_it_is_as_little_as_the_page_says(path: str, most: str) -> None:
    (block,) = [block for name, block in BLOCKS.items() if name.startswith(f"airflow_provider_taskdl/{path}")]
    assert len(block.splitlines()) <= int(most)


# What a newcomer changes of the page's blocks, for a service of another name in a package of another one.
RENAMED = {
    "airflow_provider_taskdl.apis.eo_market": "acme_tiles.api",
    "airflow_provider_taskdl.hooks.eo_market": "acme_tiles.hook",
    "EoMarket": "AcmeTiles",
    "eo_market": "acme_tiles",
    "EO market orders": "Acme tiles",
    "/market/order/downloadLinks": "/v1/tiles",
}
(INFO_MODULE,) = re.findall(r"^```python\n# acme_tiles/info.py\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(PROJECT,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_a_fourth_api_made_by_the_page_keeps_the_contract(tmp_path: Path) -> None:
    def renamed(block: str) -> str:
        for old, new in RENAMED.items():
            block = block.replace(old, new)
        return block

    (point,) = re.findall("^provider_info = .*", PROJECT.replace('"', ""), re.MULTILINE)
    package, about = tmp_path / "acme_tiles", tmp_path / "acme_tiles-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    files = {
        package / "__init__.py": "",
        package / "api.py": renamed(BLOCKS[API]),
        package / "hook.py": renamed(BLOCKS[HOOK]),
        package / "info.py": INFO_MODULE,
        tmp_path / "test_acme_tiles.py": renamed(BLOCKS[TEST]),
        about / "METADATA": "Metadata-Version: 2.1\nName: acme-tiles\nVersion: 1.0\n",
        about / "entry_points.txt": f"[apache_airflow_provider]\n{point}\n",
    }
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, "test_acme_tiles.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "12 passed" in done.stdout
