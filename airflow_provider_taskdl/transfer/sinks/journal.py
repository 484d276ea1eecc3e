"""What is complete of a file that comes in parts, written down while they come.

One line a part, appended when all parts up to it are on the disk. A line that a kill has cut is ignored, and a journal
of another version of the file counts as none.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_provider_taskdl.transfer.sinks.base import Origin

_VERSION = 1
# A header and 10,000 lines are about 1 MB.
_MAX_BYTES = 16 * 1024 * 1024


class Journal:
    """The journal of one file.

    :param path: Where it lies.
    :param part_size: Bytes of a part.
    :param digests: End of each part that is complete, with all before it, to the digest of the file up to there.
    :param published: The store's mark of the whole file, if that was about to get its name or had got it.
    """

    def __init__(self, path: Path, part_size: int, digests: dict[int, str], published: str | None = None) -> None:
        self._path, self.part_size, self.digests, self.published = path, part_size, digests, published
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)

    @classmethod
    def open(cls, path: Path, origin: Origin, part_size: int, longest: int | None = None) -> Journal:
        """Go on with the journal at ``path`` if it is of this version of the file, else begin a new one.

        :param path: Where it lies.
        :param origin: The file's version.
        :param part_size: Bytes of a part of a new one.
        :param longest: Bytes of a part at most, because parts are held in memory.
        :raises OSError: The disk refused.
        """
        size = origin.size or 0
        found = _read(path, origin)
        if found is not None and (longest is None or found[0] <= longest):
            own, digests, published = found
            # Only an unbroken row of parts from the start on can be read back in order.
            whole: dict[int, str] = {}
            for end in (*range(own, size, own), size):
                if end not in digests:
                    break
                whole[end] = digests[end]
            if whole:
                return cls(path, own, whole, published if size in whole else None)
        path.unlink(missing_ok=True)
        journal = cls(path, part_size, {})
        journal._append({"version": _VERSION, "part_size": part_size, "origin": asdict(origin)})
        return journal

    def add(self, end: int, sha256: str) -> None:
        """Write down a part.

        :param end: The byte after it.
        :param sha256: Digest of the file up to there.
        :raises OSError: The disk refused.
        """
        self._append({"end": end, "sha256": sha256})

    def publish(self, version: str) -> None:
        """Write down that the whole file is about to get its name.

        :param version: The store's mark of it.
        :raises OSError: The disk refused.
        """
        self._append({"published": version})

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def remove(self) -> None:
        """Remove the journal."""
        self._path.unlink(missing_ok=True)

    def _append(self, line: dict[str, Any]) -> None:
        # A new line first: what a kill left of the last one must not spoil this one.
        os.write(self._file, f"\n{json.dumps(line)}".encode())


def _read(path: Path, origin: Origin) -> tuple[int, dict[int, str], str | None] | None:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        lines = [_parse(line) for line in path.read_bytes().splitlines()]
    except OSError:
        return None
    header = next(filter(None, lines), {})
    part_size = header.get("part_size")
    if header.get("version") != _VERSION or header.get("origin") != asdict(origin):
        return None
    if not isinstance(part_size, int) or isinstance(part_size, bool) or part_size <= 0:
        return None
    ends = ((line.get("end"), line.get("sha256")) for line in lines)
    published = [line["published"] for line in lines if isinstance(line.get("published"), str)]
    digests = {end: sha for end, sha in ends if isinstance(end, int) and isinstance(sha, str)}
    return part_size, digests, published[-1] if published else None


def _parse(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
