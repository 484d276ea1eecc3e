"""Every file is in exactly one shard, the same one for every worker, and no shard has much more than another."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.listing import RemoteFile
from airflow_provider_taskdl.transfer.shard import Portion, Shard, fingerprint

GIB = 1024**3
SIZES = st.none() | st.just(0) | st.integers(0, 100) | st.integers(0, 200 * GIB)


def listed(sizes: Sequence[int | None]) -> list[RemoteFile]:
    return [RemoteFile(f"{number}.tif", None, size) for number, size in enumerate(sizes)]


def portions(files: Sequence[RemoteFile], count: int) -> list[Portion]:
    return [Shard(index, count).of(files) for index in range(count)]


def work(portion: Portion, usual: int = 0) -> int:
    """What a shard has to do: bytes, and a MiB for each file."""
    return sum((usual if file.size is None else file.size) + 1024 * 1024 for file in portion.files)


FILES = st.lists(SIZES, max_size=40).map(listed)
COUNTS = st.integers(1, 12)


@given(FILES, COUNTS)
def test_every_file_is_in_exactly_one_shard_at_its_place_of_the_listing(files: list[RemoteFile], count: int) -> None:
    found = portions(files, count)
    assert sorted(place for portion in found for place in portion.places) == list(range(len(files)))
    for portion in found:
        assert portion.files == tuple(files[place] for place in sorted(portion.places))
        assert portion.listed == len(files)
    assert {portion.listing for portion in found} == {fingerprint(files)}


@given(FILES, COUNTS, st.randoms(use_true_random=False))
def test_the_services_order_does_not_matter(files: list[RemoteFile], count: int, chance: random.Random) -> None:
    mixed = chance.sample(files, len(files))
    assert fingerprint(mixed) == fingerprint(files)
    for before, after in zip(portions(files, count), portions(mixed, count), strict=True):
        assert {file.name for file in before.files} == {file.name for file in after.files}


@given(FILES, COUNTS)
def test_no_shard_has_more_than_another_by_more_than_one_file(files: list[RemoteFile], count: int) -> None:
    known = [file.size for file in files if file.size is not None]
    usual = sum(known) // len(known) if known else 0
    found = portions(files, count)
    loads = [work(portion, usual) for portion in found]
    longest = max((work(portion_of_one(file), usual) for file in files), default=0)
    assert max(loads) - min(loads) <= longest
    assert max(loads) <= sum(loads) / count + longest


def portion_of_one(file: RemoteFile) -> Portion:
    return Shard(0, 1).of([file])


@given(st.integers(0, 60), COUNTS, st.none() | st.integers(0, 5 * GIB))
def test_equal_and_unknown_sizes_are_spread_by_number(files: int, count: int, size: int | None) -> None:
    numbers = [len(portion.files) for portion in portions(listed([size] * files), count)]
    assert max(numbers) - min(numbers) <= 1


@pytest.mark.parametrize("longest", [[], [60 * GIB, 60 * GIB], [100 * GIB, 60 * GIB, 60 * GIB]])
def test_a_few_long_files_and_many_short_ones_are_balanced(longest: list[int]) -> None:
    files = listed([*longest, *[1 * GIB] * 100, *[20_000] * 5_000])
    loads = [work(portion) for portion in portions(files, 4)]
    assert (
        max(loads) <= 1.01 * max(*longest, sum(loads) / 4) if longest else max(loads) - min(loads) <= 1024**2 + 20_000
    )


def test_more_shards_than_files_leaves_some_with_nothing() -> None:
    found = portions(listed([5, 3]), 4)
    assert [len(portion.files) for portion in found] == [1, 1, 0, 0]
    assert {portion.listed for portion in found} == {2}
    assert [portion.files for portion in portions([], 2)] == [(), ()]


def test_files_are_divided_as_in_earlier_versions() -> None:
    """Or, after an update between two tries, a worker would bring files that are another's."""
    found = portions(listed([None if number % 9 == 0 else number * 7919 * 4093 % GIB for number in range(1000)]), 7)
    assert [len(portion.files) for portion in found] == [143, 143, 143, 142, 143, 143, 143]
    assert found[3].places[:5] == (3, 6, 7, 10, 18)
    assert found[3].listing[:16] == "2b7946d3f17d3e67"


def test_another_interpreter_divides_alike() -> None:
    """Hashes of texts, which differ from process to process, have no say."""
    program = (
        "from tests.transfer.test_shard import *; "
        "print([p.places for p in portions(listed([None, 3, 3, 0, 7 * GIB, *range(50)]), 3)])"
    )
    env = {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout == f"{[p.places for p in portions(listed([None, 3, 3, 0, 7 * GIB, *range(50)]), 3)]}\n"


@pytest.mark.parametrize("change", [[3, 4], [3, 4, 6], [3, 4, None], [4, 3, 5], [3, 4, 5, 0], [], [None, 4, 5]])
def test_another_listing_has_another_fingerprint(change: list[int | None]) -> None:
    assert fingerprint(listed(change)) != fingerprint(listed([3, 4, 5]))


@pytest.mark.parametrize("pair", [(-1, 2), (2, 2), (3, 2), (0, 0), (0, -1)])
def test_a_shard_that_cannot_be_is_a_wrong_parameter(pair: tuple[int, int]) -> None:
    with pytest.raises(ConnectionConfigError, match="counted from 0"):
        Shard(*pair)
