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
    marks = _Marks(results)
    PLOTS.mkdir(exist_ok=True)
    for key, table in marks.tables.items():
        (PLOTS / f"{key}.svg").write_text(plots.draw(table))
    DOCUMENT.write_text(_MARK.sub(marks.fill, TEMPLATE.read_text()))


class _Marks:
    """What stands for the marks of the template: each method for the mark of its name."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._kept = [json.loads(path.read_text()) for path in sorted(results.glob("[0-9].json"))]
        self.tables: dict[str, Results] = {table["key"]: table for each in self._kept for table in each["tables"]}

    def fill(self, mark: re.Match[str]) -> str:
        """Return what stands for a mark."""
        arguments = [part.strip() for part in (mark[2] or "").split(";") if part]
        try:
            return str(getattr(self, mark[1])(*arguments))
        except KeyError:
            return "(not measured yet)"

    def table(self, key: str) -> str:
        return table_of(self.tables[key])

    def plot(self, key: str) -> str:
        return f"![{self.tables[key]['title']}]({PLOTS.name}/{key}.svg)"

    def ratio(self, key: str, row: str, reference: str) -> str:
        return f"{ratio(self.tables[key], row, reference)[0]:.2f}"

    def median(self, key: str, row: str, name: str) -> str:
        return f"{_median(_row(self.tables[key], row), name):.3g}"

    def above(self, key: str, row: str) -> str:
        return f"{_above(_row(self.tables[key], row)):.0f}"

    def least(self, key: str, name: str) -> str:
        """Seconds that the machine needs for what a row and its hosts compute."""
        row = _row(self.tables[key], name)
        return f"{(_median(row, 'cpu') + _median(row, 'hosts')) / self._kept[0]['cores']:.2f}"

    def digest(self) -> str:
        """CPU seconds of a digest of scenario 1's file."""
        names = ("http.client and sha256 alone", "http.client alone")
        more, less = (_median(_row(self.tables["1"], name), "cpu") for name in names)
        return f"{more - less:.2f}"

    def kills(self) -> str:
        return kills_of(self._results / "kills.json")

    def killed(self, fact: str) -> str:
        """A number of MiB that the kills were made with: of the file (``mib``), or that may come twice."""
        path = self._results / "kills.json"
        return f"{json.loads(path.read_text())[fact]} MiB" if path.exists() else "(not measured yet)"

    def machine(self) -> str:
        """What was measured on."""
        said = {
            f"{each['cores']} cores ({each['processor']}), {each['memory_gib']} GiB of memory, "
            f"files on {each['disk']}, counted rounds: {each['runs']}, {each['when']}"
            for each in self._kept
        }
        return "; ".join(sorted(said))

    def versions(self) -> str:
        """What was measured with."""
        found: dict[str, set[str]] = {}
        for each in self._kept:
            for name, number in each["versions"].items():
                found.setdefault(name, set()).add(number)
        return ", ".join(f"{name} {' and '.join(sorted(numbers))}" for name, numbers in found.items())


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
            "hosts' CPU s",
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
            cpu = [f"{_median(row, name):.2f}" for name in ("cpu", "hosts")]
            lines.append(_line([row["name"], _spread(row), times, *cpu, peak]))
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


def kills_of(result: Path) -> str:
    """Return the table of what kills cost."""
    if not result.exists():
        raise KeyError(result.name)
    found = json.loads(result.read_text())
    head = ["to", "kills", "after … s", "before the file showed", "short file seen",
            "fetched again, MiB: median (most)", "uploads left in the end", "true bytes in the end"]  # fmt: skip
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for each in found["kept"]:
        tries = each["tries"]
        again, moments = [one["again_mib"] for one in tries], [one["after"] for one in tries]
        cells = [each["to"], len(tries), f"{min(moments)}–{max(moments)}", sum(one["shown"] is None for one in tries),
                 sum(one["short"] for one in tries), f"{median(again):.0f} ({max(again):.0f})",
                 sum(one["dangling"] for one in tries), sum(not one["problem"] for one in tries)]  # fmt: skip
        lines.append(_line(list(map(str, cells))))
    return "\n".join(lines)


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
