"""Parts of files that are not joined yet, and how a later process finds them again: by their names alone."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER
from airflow_provider_taskdl.transfer.sinks.gcs_requests import GcsRequests

_FOLDER = f"{OWN_FOLDER}/parts/"


@dataclass(slots=True)
class Group:
    """The parts of one version of a file, as one process or several after each other send them.

    :param folder: Where they are; its last part stands for the file.
    :param version: Stands for its version.
    :param part_size: Bytes of a part.
    :param mark: Tells the groups of two processes apart.
    :param sizes: Number → bytes of each part that is there.
    """

    folder: str
    version: str
    part_size: int
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    sizes: dict[int, int] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What the names of all its parts begin with."""
        return f"{self.folder}/{self.version}-{self.part_size:x}-{self.mark}/"

    def name_of(self, number: int) -> str:
        """Return a part's name."""
        return f"{self.place}{number:06d}"

    @staticmethod
    def collect(groups: dict[str, Group], name: str, size: int) -> None:
        """Put a part that is there into its group.

        :param groups: All that were seen, by place.
        :param name: The part's name.
        :param size: Its bytes.
        """
        folder, _, rest = name.rpartition("/")
        folder, _, facts = folder.rpartition("/")
        try:
            version, length, mark = facts.split("-")
            group = Group(folder, version, int(length, 16), mark)
            number = int(rest) if rest.isdecimal() else 0  # 0: of some parts that were joined already
        except ValueError:
            return
        if group.part_size > 0 and name.startswith(group.place):
            group = groups.setdefault(group.place, group)
            if number:
                group.sizes[number] = size


class Parts:
    """The parts that lie at one destination.

    :param requests: The bucket.
    """

    def __init__(self, requests: GcsRequests) -> None:
        self._requests = requests
        self._left: dict[str, list[Group]] | None = None  # by folder
        self._uncleared: set[str] = set()

    def look(self) -> None:
        """List once what earlier processes have left, so that a file of which there is nothing costs no request.

        :raises DestinationError: The store refused.
        """
        groups: dict[str, Group] = {}
        for name, size in self._requests.sizes(_FOLDER).items():
            Group.collect(groups, name, size)
        self._left = {}
        for group in groups.values():
            self._left.setdefault(group.folder, []).append(group)

    def resume(self, name: str, version: str, part_size: int, longest: int) -> tuple[Group, list[Group]]:
        """Return the most that an earlier process has left of this version of a file, or a new group; and the others.

        :param name: The file.
        :param version: Stands for its version.
        :param part_size: Bytes of a part of a new group.
        :param longest: Bytes of the longest part that may be held in memory.
        :raises DestinationError: The store refused.
        """
        folder = f"{_FOLDER}{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        if self._left is None:
            self.look()
        known = (self._left or {}).get(folder, [])
        usable = [one for one in known if one.sizes and one.version == version and one.part_size <= longest]
        best = max(usable, key=lambda group: len(group.sizes), default=None)
        return best or Group(folder, version, part_size), [other for other in known if other is not best]

    def clear(self, place: str) -> None:
        """Remove the parts of a try that is over.

        :param place: What their names begin with.
        :raises DestinationError: The store refused; :meth:`settle` tries once more.
        """
        try:
            self._requests.remove(self._requests.sizes(place))
        except DestinationError:
            self._uncleared.add(place)
            raise

    def clear_abandoned(self, group: Group) -> None:
        """Remove what nobody goes on with: to which no part has come since it was found.

        :param group: The parts, as they were found.
        :raises DestinationError: As for :meth:`clear`.
        """
        there = self._requests.sizes(group.place)
        if {name: size for name, size in there.items() if "/joined-" not in name} == {
            group.name_of(number): size for number, size in group.sizes.items()
        }:
            self.clear(group.place)

    def settle(self) -> None:
        """Try once more to remove parts that could not be removed when they were joined or given up. Never raises."""
        for place in tuple(self._uncleared):
            self._uncleared.discard(place)
            with suppress(DestinationError):  # a rule of the bucket is for what stays
                self._requests.remove(self._requests.sizes(place))
