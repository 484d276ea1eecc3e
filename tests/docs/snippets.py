"""The code blocks of the documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
# Above a block that is not run stands why: <!-- not run: what the command prints -->
_EXEMPT = re.compile(r"<!-- not run: (\S.+?) -->\s*\Z")
# Above a block that is a part of a file stands which: `airflow_provider_taskdl/x.py`:
_PART_OF = re.compile(r"^`([\w/.]+\.\w+)`:\s*\Z", re.MULTILINE)
_BLOCK = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^ *\2`* *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A code block.

    :ivar document: The document's file name.
    :ivar line: Where it begins.
    :ivar language: What stands behind the back-ticks.
    :ivar code: Its text.
    :ivar exempt: Why it is not run, if it is not.
    :ivar part_of: The file of the repository that it is a part of, if it is said to be one.
    """

    document: str
    line: int
    language: str
    code: str
    exempt: str | None
    part_of: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it is the content of, if its first line says so."""
        match = re.match(r"# ((?:dags|tests)/\w+\.py)\n", self.code)
        return match.group(1) if match else None


def snippets() -> list[Snippet]:
    """Return all code blocks of all documents; directives of the site are none."""
    return [
        Snippet(
            path.name, text.count("\n", 0, block.start()) + 1, block[3].strip(), block[4],
            *(found[1] if (found := what.search(text, 0, block.start())) else None for what in (_EXEMPT, _PART_OF)),
        )
        for path in DOCUMENTS
        for text in [path.read_text(encoding="utf-8")]
        for block in _BLOCK.finditer(text)
        if not block[3].startswith("{")
    ]  # fmt: skip
