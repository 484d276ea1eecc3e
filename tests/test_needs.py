"""The helper itself: what is silently skipped in CI would be tested nowhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import needs

ABSENT = "no_such_package.part"


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("TASKDL_WITHOUT", raising=False)


def test_what_is_there_ends_no_test() -> None:
    needs.package("pytest")
    assert Path(needs.program("sh")).is_file()


@pytest.mark.parametrize(("need", "name"), [(needs.package, ABSENT), (needs.program, "no-such-program")])
def test_what_is_missing_skips_on_a_laptop_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, need: object, name: str
) -> None:
    assert callable(need)
    with pytest.raises(pytest.skip.Exception, match=f"{name} is not installed"):
        need(name)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{name} is not installed"):
        need(name)


def test_an_environment_may_say_what_it_lacks_and_skips_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("TASKDL_WITHOUT", f"other,{ABSENT}")
    with pytest.raises(pytest.skip.Exception, match="not in this environment"):
        needs.package(ABSENT)
    with pytest.raises(pytest.fail.Exception):
        needs.package("no_such_package")
    needs.package("pytest")


def test_a_package_that_is_there_and_broken_is_not_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        needs.package("broken_package")
    assert "broken_package" not in sys.modules
