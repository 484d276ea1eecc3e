"""Draws a table as bars, as SVG: a few shapes, for which a plotting library would be a heavy thing to install."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _BAR, _STEP, _TOP = 760, 270, 120, 18, 28, 44
_OURS, _OTHERS, _INK, _FAINT = "#2f6fdb", "#9aa5b1", "#1f2933", "#7b8794"


def draw(table: Mapping[str, Any]) -> str:
    """Return a table's plot: medians as bars, least to most as whiskers.

    :param table: The table, as results keep it.
    """
    name, unit = ("rss", "MiB") if table["kind"] == "memory" else ("seconds", "s")
    rows = [(row["name"], [run[name] for run in row["runs"]]) for row in table["rows"] if row["runs"]]
    most = max((max(values) for _, values in rows), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    height = _TOP + _STEP * len(rows) + 8
    shapes = [
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 26, f"{table['title']}: {'peak memory, MiB' if unit == 'MiB' else 'seconds'}, less is better",
              size=15, weight="600"),
    ]  # fmt: skip
    for number, (label, values) in enumerate(rows):
        shapes += _bar(label, values, _TOP + number * _STEP, scale, unit)
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" role="img">\n<title>{escape(table["title"])}</title>\n{body}\n</svg>\n'
    )


def _bar(label: str, values: list[float], top: int, scale: float, unit: str) -> list[str]:
    middle = median(values)
    low, high = _LEFT + min(values) * scale, _LEFT + max(values) * scale
    line = top + _BAR / 2
    whisker = f"M{low:.1f} {line:.1f}H{high:.1f}M{low:.1f} {line - 4:.1f}v8M{high:.1f} {line - 4:.1f}v8"
    colour = _OURS if label.startswith("ours") else _OTHERS
    number = f"{middle:.0f}" if unit == "MiB" or middle >= 100 else f"{middle:.2f}"
    return [
        _text(_LEFT - 10, top + 14, label, anchor="end"),
        f'<rect x="{_LEFT}" y="{top}" width="{max(1.0, middle * scale):.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
        f'<path d="{whisker}" stroke="{_INK}" fill="none"/>',
        _text(high + 8, top + 14, f"{number} {unit}", colour=_FAINT),
    ]


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: str = "400", colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
