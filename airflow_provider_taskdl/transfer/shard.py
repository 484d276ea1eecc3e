"""A task's files in portions of about the same work, so that several workers can bring them side by side.

Who gets which file follows from the listing alone: the same names and sizes give the same portions to every worker and
every try, in whatever order the service lists them.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.listing import RemoteFile

# What a file costs besides its bytes (a request, a commit), in bytes that would have come meanwhile. Without it, all
# empty files would be one shard's.
_PER_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shard:
    """Which portion of the files.

    :param index: Its number, from 0 on.
    :param count: How many there are.
    :raises ConnectionConfigError: There is no such portion.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConnectionConfigError(
                f"there is no shard {self.index} of {self.count}: they are counted from 0 to one less than their number"
            )

    def __str__(self) -> str:
        return f"shard {self.index} of {self.count}"

    @property
    def label(self) -> str:
        """Its name within the names of its records."""
        return f"shard-{self.index}-of-{self.count}"

    def of(self, files: Sequence[RemoteFile]) -> Portion:
        """Return this shard's files.

        :param files: All files that are wanted, each of another name.
        """
        mine = {file.name for file in _spread(files, self.count)[self.index]}
        places = tuple(place for place, file in enumerate(files) if file.name in mine)
        return Portion(self, tuple(files[place] for place in places), places, fingerprint(files), len(files))


@dataclass(frozen=True, slots=True)
class Portion:
    """A shard's files, and what shows later that the other shards were portions of the same whole.

    :param shard: Which shard.
    :param files: Its files, in the service's order.
    :param places: Where each of them stands in the whole listing, from 0 on.
    :param listing: The whole listing's fingerprint.
    :param listed: How many files that has.
    """

    shard: Shard
    files: tuple[RemoteFile, ...]
    places: tuple[int, ...]
    listing: str
    listed: int


def fingerprint(files: Sequence[RemoteFile]) -> str:
    """Return what tells one listing from another: a digest of names and sizes, whatever their order."""
    facts = sorted((file.name, -1 if file.size is None else file.size) for file in files)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _spread(files: Sequence[RemoteFile], count: int) -> list[list[RemoteFile]]:
    """Give the longest file that is left to the shard that has the least, until none is left.

    So no shard has more than the average and one file.
    """
    known = [file.size for file in files if file.size is not None]
    usual = sum(known) // len(known) if known else 0

    def work(file: RemoteFile) -> int:
        return _PER_FILE + (usual if file.size is None else file.size)

    shards: list[list[RemoteFile]] = [[] for _ in range(count)]
    least = [(0, index) for index in range(count)]
    for file in sorted(files, key=lambda file: (-work(file), file.name)):
        load, index = least[0]
        shards[index].append(file)
        heapq.heapreplace(least, (load + work(file), index))
    return shards
