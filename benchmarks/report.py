"""Turns results into tables and the document."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import plots

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).resolve().parent / "performance.md.in"
DOCUMENT = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
_MARK = re.compile(r"\{\{(\w+)(?: ([^{}]*))?\}\}")

Results = Mapping[str, Any]


def write(results: Path) -> None:
    """Write the document and its plots.

    :param results: The folder with what was measured.
    """
    kept = [json.loads(path.read_text()) for path in sorted(results.glob("[0-9].json"))]
    tables = {table["key"]: table for each in kept for table in each["tables"]}
    PLOTS.mkdir(exist_ok=True)
    for key, table in tables.items():
        (PLOTS / f"{key}.svg").write_text(plots.draw(table))

    def fill(mark: re.Match[str]) -> str:
        what, rest = mark[1], mark[2] or ""
        if what == "machine":
            return machine_of(kept)
        if what == "versions":
            return versions_of(kept)
        if what == "ratio":
            key, row, reference = (part.strip() for part in rest.split(";"))
            return f"{ratio(tables[key], row, reference)[0]:.2f}" if key in tables else "?"
        if what == "median":
            key, row, name = (part.strip() for part in rest.split(";"))
            return f"{_median(_row(tables[key], row), name):.3g}" if key in tables else "?"
        if what == "above":
            key, row = (part.strip() for part in rest.split(";"))
            return f"{_above(_row(tables[key], row)):.0f}" if key in tables else "?"
        if rest not in tables:
            return "Not measured yet."
        if what == "plot":
            return f"![{tables[rest]['title']}]({PLOTS.name}/{rest}.svg)"
        return table_of(tables[rest])

    DOCUMENT.write_text(_MARK.sub(fill, TEMPLATE.read_text()))


def table_of(table: Results) -> str:
    """Return a table in Markdown."""
    memory = table["kind"] == "memory"
    if memory:
        head = ["", "peak, MiB", "over the imported code, MiB", "seconds"]
    else:
        head = [
            "",
            "seconds: median (min–max)",
            f"speed, × {table['reference']} (min–max)",
            "CPU s",
            "peak MiB (over imports)",
        ]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row in table["rows"]:
        if row["problem"] or not row["runs"]:
            lines.append(_line([row["name"], (row["problem"] or "not run")[:120], *[""] * (len(head) - 2)]))
        elif memory:
            lines.append(_line([row["name"], f"{_median(row, 'rss'):.0f}", f"{_above(row):.0f}", _spread(row)]))
        else:
            middle, low, high = ratio(table, row["name"], table["reference"])
            times = f"{middle:.2f} ({low:.2f}–{high:.2f})" if middle else "–"
            peak = f"{_median(row, 'rss'):.0f}" + (f" ({_above(row):.0f})" if "base" in row["runs"][0] else "")
            lines.append(_line([row["name"], _spread(row), times, f"{_median(row, 'cpu'):.2f}", peak]))
    return "\n".join(lines)


def ratio(table: Results, name: str, reference: str) -> tuple[float, float, float]:
    """Return how many times as fast, in bytes per second, a row is as another: median, least and most.

    Pair by pair: each run is compared with the other row's of the same round, so that what slows the machine down for a
    while slows both.
    """
    runs, others = _row(table, name)["runs"], _row(table, reference)["runs"]
    share = _row(table, name)["bytes"] / _row(table, reference)["bytes"]
    pairs = [share * other["seconds"] / run["seconds"] for run, other in zip(runs, others, strict=False)]
    return (median(pairs), min(pairs), max(pairs)) if pairs else (0.0, 0.0, 0.0)


def machine_of(kept: list[Results]) -> str:
    """Return what was measured on."""
    said = {
        f"{each['cores']} cores ({each['processor']}), {each['memory_gib']} GiB of memory, files on {each['disk']}, "
        f"counted rounds: {each['runs']}, {each['when']}"
        for each in kept
    }
    return "; ".join(sorted(said)) or "not measured yet"


def versions_of(kept: list[Results]) -> str:
    """Return what was measured with."""
    found: dict[str, set[str]] = {}
    for each in kept:
        for name, number in each["versions"].items():
            found.setdefault(name, set()).add(number)
    return ", ".join(f"{name} {' and '.join(sorted(numbers))}" for name, numbers in found.items())


def _row(table: Results, name: str) -> Results:
    row: Results = next(row for row in table["rows"] if row["name"] == name)
    return row


def _median(row: Results, name: str) -> float:
    return float(median([run[name] for run in row["runs"]] or [0.0]))


def _above(row: Results) -> float:
    return float(median([run["rss"] - run["base"] for run in row["runs"]] or [0.0]))


def _spread(row: Results) -> str:
    seconds = [run["seconds"] for run in row["runs"]]
    return f"{median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
