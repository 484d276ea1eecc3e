"""Blocks of blobs that are not finished, and how a later process finds them again.

A block's name is ours to choose and Azure lists them, so it tells to which version of the file it belongs, and no
record of ours is needed.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from string import hexdigits

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.azure_requests import MISSING, AzureRequests


@dataclass(frozen=True, slots=True)
class Try:
    """What one process, or several after each other, send of a version of a file.

    A block is called by the file's version, the try's mark, the length of the parts and the part's number. All names of
    one blob's blocks must be equally long; these have the length that adlfs has chosen too.

    :param version: Stands for the file's version.
    :param part_size: Bytes of a part.
    :param mark: Tells the blocks of two tries apart.
    :param sizes: Number → bytes of each part that is there.
    """

    version: str
    part_size: int
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    sizes: dict[int, int] = field(default_factory=dict)

    @property
    def start(self) -> str:
        """What the names of all its blocks begin with."""
        return f"{self.version[:12]}{self.mark}{self.part_size:08x}"

    def name_of(self, number: int) -> str:
        """Return a block's name."""
        return f"{self.start}{number:06d}"

    @staticmethod
    def collect(tries: dict[str, Try], version: str, block: str, size: int) -> None:
        """Put a block that is there to its try, if it is of this version.

        :param tries: All that were seen, by what their blocks' names begin with.
        :param version: The version.
        :param block: The block's name.
        :param size: Its bytes.
        """
        length, number = block[18:26], block[26:]
        if len(block) != 32 or not number.isdecimal() or not set(length) <= set(hexdigits):
            return
        found = Try(version, int(length, 16), block[12:18])
        if found.part_size > 0 and found.name_of(int(number)) == block:
            tries.setdefault(found.start, found).sizes[int(number)] = size


class Blocks:
    """The loose blocks of one destination.

    :param requests: The container.
    """

    def __init__(self, requests: AzureRequests) -> None:
        self._requests = requests
        self._spoiled: set[tuple[str, str]] = set()

    def resume(self, name: str, version: str, longest: int) -> Try | None:
        """Return the most that an earlier process has left of this version of a file.

        :param name: The file.
        :param version: Stands for its version.
        :param longest: Bytes of the longest part that may be held in memory.
        :raises DestinationError: The store refused.
        """
        try:
            _, loose = self._requests.call(name, lambda: self._requests.blob(name).get_block_list("uncommitted"))
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        tries: dict[str, Try] = {}
        for block in loose:
            Try.collect(tries, version, block.id, block.size)
        usable = [
            found
            for start, found in tries.items()
            if found.part_size <= longest and 0 not in found.sizes and (name, start) not in self._spoiled
        ]
        return max(usable, key=lambda found: len(found.sizes), default=None)

    def spoil(self, name: str, blocks: Try) -> None:
        """See that no later try goes on with these blocks, in this process or another: a block numbered 0 says so.

        :raises DestinationError: The store refused; then only this process knows.
        """
        self._spoiled.add((name, blocks.start))
        self._requests.call(name, lambda: self._requests.blob(name).stage_block(blocks.name_of(0), b"-", length=1))
