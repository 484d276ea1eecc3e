"""What a row of the fault matrix says, and the words that it is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import TYPE_CHECKING, Literal

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.testing import Content, Synthetic, Task
from airflow_provider_taskdl.testing.exchange import Request
from airflow_provider_taskdl.testing.faults import RequestFault

if TYPE_CHECKING:
    from tests.faults.worlds import World

PART = 16 * 1024
PARTS = 6
# The big one comes first. Noise, which is no text and no page.
FILES: Mapping[str, Content] = {
    "big.bin": Synthetic((PARTS - 1) * PART + 77, seed=4),
    "small.bin": Synthetic(1000, seed=5),
}

Sink = Literal["disk", "s3", "fsspec"]
SINKS: tuple[Sink, ...] = ("disk", "s3", "fsspec")


@dataclass(frozen=True)
class Fails:
    """A file that must not arrive.

    :param error: The very class of its error.
    :param words: A pattern of what the error says.
    """

    error: type[TaskDownloadError]
    words: str


# "either" is for what depends on which file is faster.
Outcome = Literal["arrives", "either"] | Fails
Preparation = Callable[["World"], None]
Script = str | Preparation


@dataclass(frozen=True)
class Row:
    """One fault, and what must come of it.

    The task has two files, one that comes in parts and one that comes at once; each suffers the fault for itself.

    :param name: What happens.
    :param script: The fault: lines of the emulator's fault language, each for each of the files (``$mid``, ``$last``
        and ``$size`` are places in it, ``$port`` is the emulator's), or functions that prepare the world.
    :param then: What becomes of the files: of both, or of the big one and the small one.
    :param requests: How many requests may be made for the big file and for the small one.
    :param listings: How many times the task's links may be asked for.
    :param waits: Seconds longer than a moment that are waited for each of the files, in any order.
    :param happens: To which of the files the fault must have happened; the row would prove nothing otherwise.
    :param sized: Whether the service names the files' sizes.
    :param old: Whether other files of these names are there already; they stay until they are replaced.
    :param failures: How many failures in a row are mended.
    :param timeout: Seconds for the next bytes to arrive.
    :param store: What is wrong with the destination.
    :param store_requests: How many requests may be made to an S3 server: 19 are what it takes when nothing goes wrong,
        and these when the big file is read twice.
    :param sinks: The destinations it is for.
    :param files: The files, the big one first.
    """

    name: str
    script: tuple[Script, ...]
    then: Outcome | tuple[Outcome, Outcome] = "arrives"
    requests: tuple[int, int] = (PARTS, 1)
    listings: int = 1
    waits: tuple[float, ...] = ()
    happens: Literal["both", "big", "small", "neither"] = "both"
    sized: bool = True
    old: bool = False
    failures: int = 4
    timeout: float = 5.0
    store: str = ""
    store_requests: int = 30
    sinks: tuple[Sink, ...] = SINKS
    files: Mapping[str, Content] = field(default_factory=lambda: FILES)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What must become of each file."""
        big, small = self.then if isinstance(self.then, tuple) else (self.then, self.then)
        return dict(zip(self.files, (big, small), strict=True))

    @property
    def victims(self) -> set[str]:
        """The files that the fault must have happened to."""
        big, small = self.files
        return {"both": {big, small}, "big": {big}, "small": {small}, "neither": set[str]()}[self.happens]


@dataclass
class Do(RequestFault):
    """Let something else happen when a request comes, such as that all links end.

    :param what: What happens.
    """

    what: Callable[[Request], None]

    def change(self, request: Request) -> None:
        self.what(request)


def line(text: str, name: str, content: Content, **facts: object) -> str:
    """Return a line of a row's script as it is for one file."""
    size = content.size
    text = Template(text).safe_substitute(size=size, mid=size // 2, last=size - 1, name=name, **facts)
    return text.replace("file ", f"file:{name} ", 1) if text.startswith("file ") else text


# What lines of the fault language cannot say.


def links_end(*, after: int = 0, times: int | None = 1) -> Preparation:
    """All links that were given end when the request after so many comes (before it is judged)."""

    def prepare(world: World) -> None:
        world.happens("file", Do(lambda _: world.emulator.expire_links()), *world.row.files, times=times, after=after)

    return prepare


def new_bytes(*, after: int = 0, times: int | None = 1) -> Preparation:
    """The file at the host is replaced by other bytes of the same length."""

    def prepare(world: World) -> None:
        def change(request: Request) -> None:
            assert request.file is not None
            world.change(request.file)

        for name in world.row.files:
            world.happens(f"file:{name}", Do(change), name, times=times, after=after)

    return prepare


def relisted(change: Callable[[Task], None]) -> Preparation:
    """The links end at the first request, and the next listing is another one."""

    def prepare(world: World) -> None:
        links_end()(world)
        world.emulator.fault("eo.link", Do(lambda _: change(world.task)), times=1, after=1)

    return prepare


def fewer(task: Task) -> None:
    """The listing has no file of these names any more, but another one."""
    for file in task.files:
        file.name = f"not-{file.name}"


def other_sizes(task: Task) -> None:
    """The listing has other sizes."""
    for file in task.files:
        file.declared_size = (file.declared_size or 0) + 1


def reordered(task: Task) -> None:
    """The listing has its files in another order."""
    task.files.reverse()


def with_checksums(world: World) -> None:
    """The host announces digests."""
    for file in world.task.files:
        file.checksums = True


def links_to(origin: str, *, tls: bool = False) -> Preparation:
    """The links point to another host (``$port`` as in a script's line)."""

    def prepare(world: World) -> None:
        world.links_to(origin, tls=tls)

    return prepare
