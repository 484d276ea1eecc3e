"""Every row of the fault matrix at every destination."""

from __future__ import annotations

import hashlib
import re
from typing import get_args

import pytest

from airflow_provider_taskdl.exceptions import DownloadFailedError, TaskDownloadError, TransferError
from airflow_provider_taskdl.testing import EmulatorServer
from airflow_provider_taskdl.transfer.job import Result
from tests.canary import CANARY, assert_canary_free, recorded_links
from tests.faults.conftest import API_TOKEN
from tests.faults.destinations import Destination
from tests.faults.matrix import MATRIX
from tests.faults.rows import Row, Sink
from tests.faults.worlds import OLD, Log, World
from tests.s3 import SECRET
from tests.transfer.conftest import Certificate

_OLD_DIGEST = hashlib.sha256(OLD).hexdigest()
_MARKS = {"s3": [pytest.mark.s3]}
SINKS = [pytest.param(sink, marks=_MARKS.get(sink, [])) for sink in get_args(Sink)]
CASES = [
    pytest.param(row, sink, id=f"{row.name}-{sink}", marks=_MARKS.get(sink, []))
    for row in MATRIX
    for sink in get_args(Sink)
    if sink in row.sinks
]


def test_every_row_has_a_name_of_its_own() -> None:
    names = [row.name for row in MATRIX]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("name", ["big.bin", "other.bin"])
def test_what_is_false_is_seen_even_if_it_goes_again(
    name: str, server: EmulatorServer, destination: Destination, certificate: Certificate
) -> None:
    world = World(MATRIX[0], server, destination, certificate)
    world.prepare()
    with world.watch.polling():
        destination.put(name, b"short")
        world.run()
    assert destination.show()["big.bin"] in world.truth["big.bin"]
    with pytest.raises(AssertionError, match=f"{name} showed, and was not the file"):
        _check_what_showed(world)


@pytest.mark.parametrize(("row", "sink"), CASES)
def test_row(
    row: Row, server: EmulatorServer, destination: Destination, certificate: Certificate, waits: list[float]
) -> None:  # fmt: skip
    world, log = World(row, server, destination, certificate), Log()
    with recorded_links() as secrets, log.listening():
        try:
            world.prepare()
            with world.watch.polling():
                result, error = world.run()
            _check_outcome(world, result, error)
            _check_what_showed(world)
            _check_requests(world)
            _check_waits(world, waits)
            _check_what_is_left(world, result)
            if error is not None:
                _check_that_it_heals(world)
        finally:
            world.close()
    hidden = {*secrets, API_TOKEN, CANARY, SECRET, *destination.signatures()}
    own = {name: data for name, data in destination.contents().items() if name.startswith("_taskdl/")}
    assert len(log.lines) > 3, "nothing was logged: the search would prove nothing"
    assert_canary_free("\n".join(log.lines), error, own, secrets=hidden)


def _check_outcome(world: World, result: Result | None, error: Exception | None) -> None:
    errors: dict[str | None, TaskDownloadError] = {}
    if isinstance(error, DownloadFailedError):
        errors = {one.file: one for one in error.errors}
    elif isinstance(error, TaskDownloadError):
        errors = {error.file: error}
    elif error is not None:
        raise error
    if None in errors:  # before any file was begun: of all of them
        errors = dict.fromkeys(world.row.files, errors[None])
    for name, outcome in world.row.outcomes.items():
        found = errors.get(name)
        if outcome == "arrives":
            assert found is None, f"{name} was to arrive: {found!r}"
        elif outcome == "either":
            assert found is None or isinstance(found, TransferError), repr(found)
        else:
            assert type(found) is outcome.error, f"{name}: {found!r}"
            assert re.search(outcome.words, str(found)), str(found)
    assert (result is None) == bool(errors)


def _check_what_showed(world: World) -> None:
    """Nothing short and nothing false was there at any time; at the end there is what arrived, and nothing else."""
    row, watch = world.row, world.watch
    assert watch.looks
    allowed = {name: digests | ({_OLD_DIGEST} if row.old else set()) for name, digests in world.truth.items()}
    for name, digest in watch.seen:
        assert digest in allowed.get(name, ()), f"{name} showed, and was not the file"
    now, before = world.destination.show(), dict.fromkeys(row.files, _OLD_DIGEST) if row.old else {}
    for name, outcome in row.outcomes.items():
        if outcome == "arrives":
            assert now.pop(name) in world.truth[name]
        elif outcome == "either":
            now.pop(name, None)
        else:
            assert now.pop(name, None) == before.get(name)
    assert not now


def _check_requests(world: World) -> None:
    row, emulator = world.row, world.emulator
    for name, most in zip(row.files, row.requests, strict=True):
        made = emulator.count("file", name)
        assert made <= most, f"{made} requests for {name}, at most {most} are right"
    assert emulator.count("eo.link") <= row.listings
    assert not emulator.leaks
    assert world.destination.requests() <= row.store_requests
    assert bool(world.destination.refusals) == bool(row.store), "the destination did not fail"
    fired: dict[str, int] = {}
    for name, rule in world.rules:
        fired[name] = fired.get(name, 0) + rule.fired
    assert {name for name, count in fired.items() if count} >= row.victims, "the fault did not happen"


def _check_waits(world: World, waits: list[float]) -> None:
    long = sorted(wait for wait in waits if wait > 1)
    expected = sorted([*world.row.waits, *world.row.waits])
    assert len(long) == len(expected), long
    # A date to wait for comes nearer while a slow machine runs the row.
    assert all(-10 < wait - due < 3 for wait, due in zip(long, expected, strict=True)), long


def _check_what_is_left(world: World, result: Result | None) -> None:
    """The manifest says that all is there, and what; nothing unfinished is left by what arrived."""
    manifest, contents = world.manifest(), world.destination.contents()
    if result is not None:
        assert manifest is not None
        now = world.destination.show()
        assert {file["name"]: file["sha256"] for file in manifest["files"]} == now
        assert {name for name in contents if name.startswith("_taskdl/")} == {f"_taskdl/{world.task.id}.json"}
        assert world.destination.uploads() == []
    else:
        assert manifest is None


def _check_that_it_heals(world: World) -> None:
    """A later try, when the fault is over, brings what was missing, whatever the first one left."""
    world.mend()
    result, error = world.run()
    assert error is None, repr(error)
    assert result is not None
    now = world.destination.show()
    assert {entry.name: entry.sha256 for entry in result.entries} == now
    assert now.keys() == world.truth.keys()
    assert all(digest in world.truth[name] for name, digest in now.items())
    _check_what_is_left(world, result)
