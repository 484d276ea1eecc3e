"""On a disk a file shows only when all of it is there, and what is there is replaced only if that was asked for."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.sinks import local
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.stop import Cancelled
from tests.transfer.harness import GoOn, leftovers, published

MIB = 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "deep" / "down")


def put(store: LocalStore, name: str, data: bytes, *, replace: bool = True) -> None:
    sink = store.open(name, Origin(len(data)), part_size=MIB, replace=replace)
    try:
        sink.write(0, memoryview(data))
        sink.commit()
    except BaseException:
        sink.abort()
        raise


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 1_000_000], ids=["empty", "one byte", "3 MB"])
def test_a_file_shows_at_the_commit_and_not_before(data: bytes, store: LocalStore) -> None:
    sink = store.open("f.bin", Origin(len(data)), part_size=MIB, replace=True)
    sink.write(0, memoryview(data))
    assert published(store.root) == set()
    stored = sink.commit()
    assert stored.size == len(data)
    assert published(store.root) == {"f.bin"}
    assert (store.root / "f.bin").read_bytes() == data
    assert leftovers(store.root) == set()
    assert store.find(["f.bin", "g"]) == {"f.bin": stored}


def test_a_file_that_is_given_up_leaves_nothing(store: LocalStore) -> None:
    sink = store.open("f", Origin(3), part_size=MIB, replace=True)
    sink.write(0, memoryview(b"abc"))
    assert len(leftovers(store.root)) == 1
    for _ in range(2):
        sink.abort()
    assert published(store.root) == leftovers(store.root) == set()


def test_a_file_replaces_the_old_one_in_one_step(store: LocalStore) -> None:
    put(store, "f", b"old")
    with (store.root / "f").open("rb") as reader:
        put(store, "f", b"new")
        assert reader.read() == b"old"
    assert (store.root / "f").read_bytes() == b"new"


def test_what_a_link_points_to_is_not_written_through(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    store.prepare(0)
    (store.root / "f").symlink_to(outside)
    put(store, "f", b"new")
    assert outside.read_bytes() == b"precious"
    assert not (store.root / "f").is_symlink()


def test_bytes_may_come_in_any_order(store: LocalStore) -> None:
    sink = store.open("f", Origin(6), part_size=MIB, replace=True)
    sink.write(3, memoryview(b"def"))
    sink.write(0, memoryview(b"abc"))
    sink.commit()
    assert (store.root / "f").read_bytes() == b"abcdef"


class TestNever:
    def test_what_is_there_is_not_replaced(self, store: LocalStore) -> None:
        put(store, "f", b"old")
        with pytest.raises(DestinationExistsError) as caught:
            put(store, "f", b"new", replace=False)
        assert not caught.value.retryable
        assert (store.root / "f").read_bytes() == b"old"
        assert leftovers(store.root) == set()

    def test_what_comes_between_open_and_commit_is_not_replaced(self, store: LocalStore) -> None:
        sink = store.open("f", Origin(3), part_size=MIB, replace=False)
        sink.write(0, memoryview(b"new"))
        (store.root / "f").write_bytes(b"old")
        with pytest.raises(DestinationExistsError):
            sink.commit()
        sink.abort()
        assert (store.root / "f").read_bytes() == b"old"
        assert leftovers(store.root) == set()

    def test_of_many_at_once_exactly_one_wins(self, store: LocalStore) -> None:
        barrier, won, lost = threading.Barrier(8), [], []

        def work(number: int) -> None:
            barrier.wait(5)
            try:
                put(store, "f", bytes([number]), replace=False)
                won.append(number)
            except DestinationExistsError:
                lost.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(lost) == 7
        assert (store.root / "f").read_bytes() == bytes(won)
        assert leftovers(store.root) == set()


class TestTrouble:
    def test_a_full_disk_is_said_before_the_first_byte(self, store: LocalStore) -> None:
        with pytest.raises(DestinationError, match=r"\d+ bytes are to come, the disk has \d+ free"):
            store.prepare(1 << 62)

    @pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
    def test_a_disk_that_refuses_publishes_nothing(
        self, code: int, call: str, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: object) -> None:
            raise OSError(code, os.strerror(code))

        put(store, "f", b"old")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(DestinationError, match=os.strerror(code)) as caught:
                put(store, "f", b"new")
        assert caught.value.target == str(store.root / "f")
        assert (store.root / "f").read_bytes() == b"old"
        assert leftovers(store.root) == set()

    def test_a_disk_that_takes_a_little_at_a_time_gets_it_all(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, data[:7], offset))
        put(store, "f", bytes(range(256)))
        assert (store.root / "f").read_bytes() == bytes(range(256))

    @pytest.mark.parametrize("use", ["prepare", "open"])
    def test_a_file_in_the_directorys_place_is_an_error(self, use: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        store = LocalStore(tmp_path / "file")
        with pytest.raises((DestinationError, DestinationExistsError)):
            store.prepare(0) if use == "prepare" else store.open("f", Origin(0), part_size=MIB, replace=True)
        assert store.find(["f"]) == {}
        assert store.read_small("f") is None
        assert (tmp_path / "file").read_bytes() == b"x"

    def test_a_directory_in_the_files_place_is_an_error(self, store: LocalStore) -> None:
        store.prepare(0)
        (store.root / "f").mkdir()
        with pytest.raises(DestinationError):
            put(store, "f", b"x")
        assert leftovers(store.root) == set()

    def test_a_place_that_takes_no_files_is_an_error(self) -> None:
        # Not a directory without write permission: that stops nobody who runs as root.
        with pytest.raises(DestinationError, match="the disk refused"):
            LocalStore(Path("/proc/self/taskdl")).prepare(0)

    def test_a_disk_that_cannot_sync_a_directory_is_good_enough(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = os.fsync, []

        def fsync(file: int) -> None:
            calls.append(file)
            if len(calls) == 2:
                raise OSError(errno.EINVAL, "invalid")
            real(file)

        monkeypatch.setattr(os, "fsync", fsync)
        put(store, "f", b"x")
        assert len(calls) == 2
        assert published(store.root) == {"f"}


class TestSmall:
    def test_a_small_file_is_written_read_and_removed(self, store: LocalStore) -> None:
        name = "_taskdl/t.json"
        assert store.read_small(name) is None
        for data in (b"{}", b""):
            store.write_small(name, data)
            assert store.read_small(name) == data
        for _ in range(2):
            store.remove_small(name)
        assert store.read_small(name) is None
        assert leftovers(store.root) == set()

    def test_they_are_found_by_their_beginning(self, store: LocalStore) -> None:
        assert list(store.small_names("_taskdl/t.")) == []
        for name in ("_taskdl/t.a.json", "_taskdl/t.b.json", "_taskdl/u.json", "t.c.json"):
            store.write_small(name, b"{}")
        assert sorted(store.small_names("_taskdl/t.")) == ["_taskdl/t.a.json", "_taskdl/t.b.json"]

    def test_one_that_is_absurdly_long_is_not_read(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        store.write_small("x", b"12345")
        monkeypatch.setattr("airflow_provider_taskdl.transfer.sinks.local.MAX_SMALL", 4)
        assert store.read_small("x") is None


@given(
    st.dictionaries(st.text("abä #?%+", min_size=1, max_size=5).filter(str.strip), st.binary(max_size=20), max_size=5)
)
def test_every_file_keeps_its_name_and_bytes(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = LocalStore(Path(directory))
        store.prepare(0)
        for name, data in files.items():
            put(store, name, data)
        assert {path.name: path.read_bytes() for path in store.root.iterdir() if path.is_file()} == files
        assert {name: stored.size for name, stored in store.find(files).items()} == {
            n: len(d) for n, d in files.items()
        }


def test_a_file_that_cannot_be_begun_leaves_nothing(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(local, "reserve", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DestinationError, match="no room"):
        store.open("a", Origin(10_000_000, '"e"'), part_size=1_000_000, replace=True)
    assert list((store.root / "_taskdl").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_in_the_place_of_a_part_file_leads_nowhere(store: LocalStore, tmp_path: Path, dangling: bool) -> None:
    outside = tmp_path / "authorized_keys"
    if not dangling:
        outside.write_bytes(b"0123456789")
    origin = Origin(3 * MIB, etag='"x"')
    own = store.root / "_taskdl"
    own.mkdir(parents=True)
    label = local._label("f")
    for ending in ("part", "journal"):
        (own / f"{label}.{ending}").symlink_to(outside)
    store.prepare(0)
    sink = store.open("f", origin, part_size=MIB, replace=True)
    for part in range(3):
        sink.write(part * MIB, memoryview(bytes(MIB)))
        sink.note((part + 1) * MIB, "0" * 64)
    sink.commit()
    assert outside.exists() is not dangling
    assert dangling or outside.read_bytes() == b"0123456789"
    assert not (store.root / "f").is_symlink()
    assert (store.root / "f").read_bytes() == bytes(3 * MIB)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("taken", [True, False])
def test_where_a_disk_has_no_links_a_name_that_is_taken_is_still_not_replaced(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int, taken: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if taken:
        put(store, "f", b"old")
        with pytest.raises(DestinationExistsError):
            put(store, "f", b"new", replace=False)
    else:
        put(store, "f", b"old", replace=False)
    assert (store.root / "f").read_bytes() == b"old"
    assert leftovers(store.root) == set()


@pytest.mark.parametrize("longest", [None, MIB])
def test_a_file_is_not_split_so_finely_that_its_journal_would_be_too_long(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, longest: int | None
) -> None:
    monkeypatch.setattr(local, "_MAX_PARTS", 5)
    origin = Origin(15 * MIB, etag='"x"')
    first = store.open("f", origin, part_size=MIB, replace=True, longest=longest)
    assert first.part_size == 3 * MIB
    first.write(0, memoryview(bytes(3 * MIB)))
    first.note(3 * MIB, "0" * 64)
    first.abort(keep=True)
    later = store.open("f", origin, part_size=MIB, replace=True, longest=longest)
    assert (later.part_size, later.holds(0, 3 * MIB)) == (3 * MIB, True)
    later.abort()


def test_a_disk_without_locks_is_an_error_and_no_endless_search(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DestinationError, match="No locks available"):
        store.open("a", Origin(3), part_size=10, replace=True)
    assert published(store.root) == set()


def test_what_killed_processes_left_goes_unless_it_can_be_gone_on_with_or_is_alive(store: LocalStore) -> None:
    store.prepare(0)
    own = store.root / "_taskdl"
    alive = store.open("alive", Origin(3), part_size=10, replace=True)
    beside = store.open("alive", Origin(3), part_size=10, replace=True)
    kept = store.open("kept", Origin(30, '"e"'), part_size=10, replace=True)
    kept.write(0, memoryview(b"0123456789"))
    kept.note(10, "0" * 64)
    kept.abort(keep=True)
    dead = own / f"{'0' * 32}.part"
    dead.write_bytes(b"junk")
    LocalStore(store.root).prepare(0)
    assert not dead.exists()
    for sink in (alive, beside):
        sink.write(0, memoryview(b"abc"))
        sink.commit()
    assert store.open("kept", Origin(30, '"e"'), part_size=10, replace=True).holds(0, 10)


def test_a_journal_of_a_living_process_stays(store: LocalStore) -> None:
    mine = store.open("f", Origin(30, '"e"'), part_size=10, replace=True)
    other = LocalStore(store.root)
    other.prepare(0)
    other.settle(["f"])
    mine.write(0, memoryview(b"0123456789"))
    mine.note(10, "0" * 64)
    mine.abort(keep=True)
    assert store.open("f", Origin(30, '"e"'), part_size=10, replace=True).holds(0, 10)


def test_a_file_that_is_read_for_its_digest_is_let_go_when_told_to_stop(store: LocalStore) -> None:
    put(store, "f", bytes(3 * MIB))
    go_on = GoOn()
    with pytest.raises(Cancelled):
        store.sha256("f", go_on=go_on)
    assert go_on.asked == 2
