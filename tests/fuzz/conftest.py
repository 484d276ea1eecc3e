"""Says what was fuzzed, and from which seed."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import SEED, done


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if done:
        terminalreporter.section(f"fuzzed from seed {SEED}")
    for name, (count, seconds) in done.items():
        terminalreporter.line(f"{count:>8} inputs in {seconds:>6.0f} s  {name.removeprefix('test_')}")
