"""What is measured: five scenarios, each of one or more tables, each table's rows taken in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks import peers
from benchmarks.measure import Failed, Figures, run
from benchmarks.peers import Job, Way
from benchmarks.servers import MIB, S3, Missing, Servers

Kind = Literal["speed", "connections", "memory"]


@dataclass(frozen=True)
class Size:
    """Files of a scenario.

    :ivar capped: Whether each connection to their host is capped.
    :ivar hollow: Whether they are holes, which take no room.
    """

    name: str
    count: int
    size: int
    capped: bool = False
    hollow: bool = False

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.count * self.size


@dataclass
class Row:
    """A way to do it.

    :ivar files: What it brings, where that differs from the table's.
    """

    name: str
    way: Way
    files: Size | None = None
    runs: list[Figures] = field(default_factory=list)
    problem: str | None = None


@dataclass
class Table:
    """Rows that are measured in turns.

    :ivar key: Its name in results and in the document.
    :ivar reference: The row that the others are compared with.
    :ivar store: The S3 endpoint to write to; a disk without one.
    """

    key: str
    title: str
    kind: Kind
    files: Size
    reference: str
    rows: list[Row]
    store: S3 | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of it."""
        kept = {"key": self.key, "title": self.title, "kind": self.kind, "reference": self.reference}
        return {**kept, "rows": [self._row_as_json(row) for row in self.rows]}

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        files, runs = row.files or self.files, [_rounded(run) for run in row.runs]
        return {"name": row.name, "files": files.count, "bytes": files.total, "problem": row.problem, "runs": runs}


def scenarios(servers: Servers, numbers: Sequence[int], *, quick: bool) -> Iterator[tuple[int, list[Table]]]:
    """Give the tables of each scenario that is wanted."""
    makers = {1: _one_to_disk, 2: _one_to_s3, 3: _many, 4: _capped, 5: _memory}
    for number in numbers:
        yield number, makers[number](servers, quick)


def measure(table: Table, servers: Servers, *, rounds: int) -> None:
    """Run a table's rows in turns, one uncounted round first, in which every byte of the results is compared."""
    warm_up = servers.make_files("warm-up", 1, 1024)
    scratch = servers.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    for number in range(rounds + 1):
        # There and back: whoever goes first meets another machine than whoever goes last.
        for row in table.rows if number % 2 else reversed(table.rows):
            if row.problem is None:
                figures = _run_row(table, row, servers, warm_up, scratch, proof=number == 0)
                if figures is not None and number > 0:
                    row.runs.append(figures)
    for files in {row.files or table.files for row in table.rows}:
        servers.remove_files(files.name)


def _run_row(table: Table, row: Row, servers: Servers, warm_up: str, scratch: Path, *, proof: bool) -> Figures | None:
    files = row.files or table.files
    kept = 0 if table.store and table.store.root is None else files.total
    needed = kept + (0 if files.hollow or (servers.folder / "files" / files.name).is_dir() else files.total)
    if servers.free() < needed * 1.1 + 256 * MIB:
        row.problem = "no room"
        return None
    task = servers.make_files(files.name, files.count, files.size, capped=files.capped, hollow=files.hollow)
    job = Job(servers, task, warm_up, table.store, f"{table.key}-{len(row.runs)}-{int(proof)}-{id(row):x}", scratch)
    job.prepare()
    try:
        command, before = row.way(job), servers.cpu()
        figures = run(command, scratch)
        figures = replace(figures, hosts=servers.cpu() - before)
        job.check(contents=proof)
    except (Failed, Missing) as error:
        row.problem = str(error)
        print(f"    {row.name}: {error}", flush=True)
        return None
    finally:
        job.clean()
    print(f"    {row.name}: {figures.seconds:.2f} s, CPU {figures.cpu:.2f} s, {figures.rss:.0f} MiB, "
          f"the hosts {figures.hosts:.2f} s"
          f"{' (not counted)' if proof else ''}", flush=True)  # fmt: skip
    return figures


def _one_to_disk(servers: Servers, quick: bool) -> list[Table]:
    files = Size("one", 1, (64 if quick else 1024) * MIB)
    rows = [
        Row("curl", peers.curl),
        Row("ours, 1 connection", peers.ours(1)),
        Row("ours, 8 connections", peers.ours(8)),
        Row("aria2c -x8", peers.aria2c(8)),
        Row("rclone copyurl", peers.rclone),
        Row("http.client alone", peers.floor()),
        Row("http.client and sha256 alone", peers.floor("sha256")),
    ]
    return [Table("1", f"{_size(files.total)} to disk", "speed", files, "curl", rows)]


def _one_to_s3(servers: Servers, quick: bool) -> list[Table]:
    files = Size("one", 1, (64 if quick else 1024) * MIB)

    def rows() -> list[Row]:
        return [
            Row("curl | curl PUT", peers.curl_to_s3),
            Row("ours, 1 connection", peers.ours(1)),
            Row("ours, 8 connections", peers.ours(8)),
            Row("rclone copyurl", peers.rclone),
            Row("Airflow's HttpToS3Operator", peers.http_to_s3),
        ]

    return [
        Table(key, f"{_size(files.total)} to {store.name}", "speed", files, "curl | curl PUT", rows(), store)
        for key, store in (("2a", servers.swallow), ("2b", servers.rclone))
    ]


def _many(servers: Servers, quick: bool) -> list[Table]:
    files = Size("many", 50 if quick else 1000, 100 * 1024)
    # It makes a new client for each file, and a thousand times that would say no more.
    few = Size("few", 5 if quick else 50, 100 * 1024)
    title = f"{files.count:,} files of 100 KiB"
    to_disk = [
        Row("curl --parallel, 8 at once", peers.curl),
        Row("ours, 8 connections", peers.ours(8)),
        Row("aria2c -j8 -i", peers.aria2c(8)),
        Row("rclone copyurl --urls", peers.rclone),
    ]

    def to_s3() -> list[Row]:
        return [
            Row("rclone copyurl --urls", peers.rclone),
            Row("ours, 8 connections", peers.ours(8)),
            Row(f"Airflow's HttpToS3Operator, {few.count} of them one by one", peers.http_to_s3, few),
        ]

    tables = [Table("3a", f"{title} to disk", "speed", files, to_disk[0].name, to_disk)]
    for key, store in (("3b", servers.swallow), ("3c", servers.rclone)):
        tables.append(Table(key, f"{title} to {store.name}", "speed", files, "rclone copyurl --urls", to_s3(), store))
    return tables


def _capped(servers: Servers, quick: bool) -> list[Table]:
    files = Size("capped", 1, (32 if quick else 512) * MIB, capped=True)
    counts = (1, 8) if quick else (1, 4, 8, 16)

    def rows() -> list[Row]:
        return [Row(f"ours, {count} connection{'s' * (count > 1)}", peers.ours(count)) for count in counts]

    title = f"{_size(files.total)} at 20 MB/s per connection"
    to_disk = [*rows(), Row("aria2c -x8", peers.aria2c(8))]
    return [
        Table("4a", f"{title} to disk", "connections", files, rows()[0].name, to_disk),
        Table("4b", f"{title} to {servers.swallow.name}", "connections", files, rows()[0].name, rows(),
              servers.swallow),
    ]  # fmt: skip


def _memory(servers: Servers, quick: bool) -> list[Table]:
    sizes = [
        Size(f"hollow-{size}", 1, size * MIB, hollow=True) for size in ((64, 256) if quick else (64, 512, 2048, 8192))
    ]
    in_memory = sizes if quick else sizes[:-1]  # what is whole in memory, twice, would take the machine down

    def rows() -> list[Row]:
        return [Row(f"ours, {_size(files.total)}", peers.ours(8), files) for files in sizes]

    naive = [Row(f"Airflow's HttpToS3Operator, {_size(f.total)}", peers.http_to_s3, f) for f in in_memory]
    return [
        Table("5a", "Peak memory to disk", "memory", sizes[0], rows()[0].name, rows()),
        Table("5b", f"Peak memory to {servers.swallow.name}", "memory", sizes[0], rows()[0].name,
              [*rows(), *naive], servers.swallow),
    ]  # fmt: skip


def _size(size: int) -> str:
    return f"{size // MIB // 1024} GiB" if size >= 1024 * MIB else f"{size // MIB} MiB"


def _rounded(figures: Figures) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(figures).items() if value is not None}
