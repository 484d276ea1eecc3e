"""An object shows only when all of it is there, on a real S3 server and where nothing can be deferred."""

from __future__ import annotations

import gc
import hashlib
import os
import time
import traceback
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_taskdl.exceptions import ConnectionConfigError, DestinationError, DestinationExistsError
from airflow_provider_taskdl.testing import Synthetic
from airflow_provider_taskdl.transfer.sinks import object_store
from airflow_provider_taskdl.transfer.sinks.base import Origin, Sink
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectSink, ObjectStore
from airflow_provider_taskdl.transfer.stop import Cancelled
from tests.s3 import S3Server
from tests.transfer.harness import GoOn
from tests.transfer.sinks.conftest import Bucket

PART = 5 * 1024 * 1024
BIG = Synthetic(12 * 1024 * 1024 + 345)
SIZES = {"empty": b"", "one byte": b"x", "small": b"abc" * 1000, "12 MiB": BIG.read(0, BIG.size)}
NAMES = ["a b", "ä.tif", "数据.csv", "a#b", "a?b=c", "a%41b", "a+b", "a&b;c", "a[1]*", ".hidden", "x" * 200]


def store_of(bucket: Bucket) -> ObjectStore:
    store = ObjectStore(bucket.fs, bucket.root)
    store.prepare(0)
    return store


def fill(sink: Sink, data: bytes, chunk: int = 1024 * 1024) -> None:
    for start in range(0, len(data), chunk):
        sink.write(start, memoryview(data)[start : start + chunk])


@pytest.fixture
def store(bucket: Bucket) -> ObjectStore:
    return store_of(bucket)


class TestWriting:
    @pytest.mark.parametrize("data", SIZES.values(), ids=SIZES)
    def test_a_file_shows_at_the_commit_and_not_before(self, data: bytes, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open("file.bin", Origin(len(data)), part_size=PART, replace=True)
        fill(sink, data)
        assert "file.bin" not in bucket.names()
        stored = sink.commit()
        assert stored.size == len(data)
        assert stored.version
        assert hashlib.sha256(bucket.content("file.bin")).digest() == hashlib.sha256(data).digest()
        assert bucket.names() == {"file.bin"}
        assert bucket.uploads() == []
        assert store.find(["file.bin"]) == {"file.bin": stored}

    @pytest.mark.parametrize("size", [None, BIG.size])
    def test_a_file_of_unknown_size_is_no_other(self, size: int | None, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open("file.bin", Origin(size), part_size=PART, replace=True)
        fill(sink, SIZES["12 MiB"], chunk=700_001)
        sink.commit()
        assert hashlib.sha256(bucket.content("file.bin")).hexdigest() == BIG.sha256

    @pytest.mark.parametrize("data", SIZES.values(), ids=SIZES)
    def test_a_file_that_is_given_up_leaves_nothing(self, data: bytes, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open("file.bin", Origin(len(data)), part_size=PART, replace=True)
        fill(sink, data)
        sink.abort()
        sink.abort()
        del sink
        gc.collect()  # a file that counts as open is closed here, and that could begin an upload
        assert bucket.names() == set()
        assert bucket.uploads() == []

    def test_a_file_that_is_given_up_leaves_the_old_one(self, store: ObjectStore, bucket: Bucket) -> None:
        bucket.put("file.bin", b"old")
        sink = store.open("file.bin", Origin(3), part_size=PART, replace=True)
        fill(sink, b"new")
        sink.abort()
        assert bucket.content("file.bin") == b"old"

    def test_a_file_replaces_the_old_one(self, store: ObjectStore, bucket: Bucket) -> None:
        bucket.put("file.bin", b"old")
        before = store.find(["file.bin"])
        time.sleep(0.02)  # a file system may tell times apart by no less
        sink = store.open("file.bin", Origin(3), part_size=PART, replace=True)
        fill(sink, b"new")
        assert bucket.content("file.bin") == b"old"
        sink.commit()
        assert bucket.content("file.bin") == b"new"
        assert store.find(["file.bin"]) != before

    @pytest.mark.parametrize("ends", [ObjectSink.commit, ObjectSink.abort])
    def test_what_is_done_with_is_let_go(self, ends: Callable[[ObjectSink], object], s3: Bucket) -> None:
        sink = store_of(s3).open("file.bin", Origin(3), part_size=PART, replace=True)
        assert isinstance(sink, ObjectSink)
        sink.write(0, memoryview(b"abc"))
        file = weakref.ref(sink._file)
        ends(sink)
        del sink
        gc.collect()
        assert file() is None

    def test_giving_up_after_the_commit_takes_nothing_back(self, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open("file.bin", Origin(1), part_size=PART, replace=True)
        fill(sink, b"x")
        sink.commit()
        sink.abort()
        assert bucket.content("file.bin") == b"x"

    @pytest.mark.parametrize("name", NAMES)
    def test_a_name_is_kept_as_it_is(self, name: str, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open(name, Origin(3), part_size=PART, replace=True)
        fill(sink, b"abc")
        stored = sink.commit()
        assert bucket.names() == {name}
        assert bucket.content(name) == b"abc"
        assert store.find([name]) == {name: stored}

    def test_bytes_out_of_order_are_a_mistake(self, store: ObjectStore) -> None:
        sink = store.open("file.bin", Origin(6), part_size=PART, replace=True)
        sink.write(0, memoryview(b"abc"))
        with pytest.raises(ValueError, match="offset 4 came at 3"):
            sink.write(4, memoryview(b"e"))
        sink.abort()


class TestNever:
    def test_what_is_there_is_not_replaced(self, store: ObjectStore, bucket: Bucket) -> None:
        bucket.put("file.bin", b"old")
        sink = store.open("file.bin", Origin(3), part_size=PART, replace=False)
        fill(sink, b"new")
        with pytest.raises(DestinationExistsError) as caught:
            sink.commit()
        sink.abort()
        assert not caught.value.retryable
        assert bucket.content("file.bin") == b"old"
        assert bucket.names() == {"file.bin"}
        assert bucket.uploads() == []

    def test_what_comes_meanwhile_is_not_replaced(self, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open("file.bin", Origin(3), part_size=PART, replace=False)
        fill(sink, b"new")
        bucket.put("file.bin", b"old")
        with pytest.raises(DestinationExistsError):
            sink.commit()
        sink.abort()
        assert bucket.content("file.bin") == b"old"

    def test_a_free_name_is_taken(self, store: ObjectStore, bucket: Bucket) -> None:
        sink = store.open("file.bin", Origin(3), part_size=PART, replace=False)
        fill(sink, b"new")
        sink.commit()
        assert bucket.content("file.bin") == b"new"


class TestLooking:
    @pytest.mark.parametrize("asked", [3, 40], ids=["one by one", "by a listing"])
    def test_what_is_there_is_found(self, asked: int, store: ObjectStore, bucket: Bucket) -> None:
        for name in ("f1", "f2 ä#?"):
            bucket.put(name, name.encode())
        bucket.put("f3/below", b"x")
        names = [f"f{number}" for number in range(asked)] + ["f2 ä#?", "f3"]
        found = store.find(names)
        assert {name: stored.size for name, stored in found.items()} == {"f1": 2, "f2 ä#?": 7}
        assert all(stored.version for stored in found.values())
        assert found == store.find(["f1", "f2 ä#?"])

    @pytest.mark.parametrize("asked", [0, 1, 40])
    def test_in_an_empty_place_nothing_is_found(self, asked: int, store: ObjectStore) -> None:
        assert store.find([f"f{number}" for number in range(asked)]) == {}

    def test_another_content_of_the_same_size_has_another_version(self, store: ObjectStore, bucket: Bucket) -> None:
        bucket.put("f", b"abc")
        first = store.find(["f"])["f"]
        time.sleep(0.02)  # a file system may tell times apart by no less
        bucket.put("f", b"xyz")
        assert store.find(["f"])["f"].version != first.version


class TestSmall:
    @pytest.mark.parametrize("data", [b"", b"{}", b"x" * 300_000])
    def test_a_small_object_is_written_read_and_removed(self, data: bytes, store: ObjectStore, bucket: Bucket) -> None:
        name = "_taskdl/t-1.json"
        assert store.read_small(name) is None
        store.write_small(name, b"before")
        store.write_small(name, data)
        assert store.read_small(name) == data
        assert bucket.names() == {name}
        for _ in range(2):
            store.remove_small(name)
        assert store.read_small(name) is None

    def test_they_are_found_by_their_beginning(self, store: ObjectStore, bucket: Bucket) -> None:
        assert list(store.small_names("_taskdl/t.")) == []
        for name in ("_taskdl/t.a.json", "_taskdl/t.b.json", "_taskdl/u.json", "_taskdl/uploads/t.d.json", "t.c.json"):
            bucket.put(name, b"{}")
        assert sorted(store.small_names("_taskdl/t.")) == ["_taskdl/t.a.json", "_taskdl/t.b.json"]

    def test_one_that_is_absurdly_long_is_not_read(
        self, store: ObjectStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_taskdl.transfer.sinks.object_store.MAX_SMALL", 10)
        bucket.put("_taskdl/t.json", b"x" * 11)
        assert store.read_small("_taskdl/t.json") is None


class TestLeftovers:
    def test_what_a_killed_process_left_goes_when_nobody_can_be_writing_it_any_more(
        self, memory: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = {"_taskdl/1.part", "_taskdl/2.probe", "_taskdl/t.json", "f.part"}
        for name in names:
            memory.put(name, b"x")
        store_of(memory)
        assert memory.names() == names
        monkeypatch.setattr(object_store, "_OLD", -1.0)  # as if that time had passed
        store_of(memory)
        assert memory.names() == {"_taskdl/t.json", "f.part"}

    def test_who_may_not_look_for_them_may_write_all_the_same(
        self, memory: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(*_: Any, **__: Any) -> None:
            raise PermissionError("list denied")

        monkeypatch.setattr(memory.fs, "ls", denied)
        sink = store_of(memory).open("f", Origin(1), part_size=PART, replace=True)
        fill(sink, b"x")
        assert sink.commit().size == 1

    @pytest.mark.parametrize("mark", "*?[")
    def test_a_place_that_would_be_a_pattern_is_refused(self, memory: Bucket, mark: str) -> None:
        with pytest.raises(ConnectionConfigError, match="for a pattern"):
            store_of(Bucket(memory.fs, f"{memory.root}/a{mark}b"))


@pytest.mark.s3
class TestS3:
    def test_a_bucket_that_is_not_there_is_not_made(self, s3: Bucket, s3_server: S3Server) -> None:
        store = store_of(Bucket(s3.fs, "b-typing-error/prefix"))
        sink = store.open("f", Origin(1), part_size=PART, replace=True)
        fill(sink, b"x")
        with pytest.raises(DestinationError, match="bucket does not exist") as caught:
            sink.commit()
        sink.abort()
        assert caught.value.retryable
        assert not (s3_server.directory / "b-typing-error").exists()

    def test_wrong_keys_are_a_refusal_that_shows_none(self, s3_server: S3Server) -> None:
        options = {**s3_server.options, "secret": "GEHEIM"}
        fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        store = ObjectStore(fs, f"{s3_server.bucket()}/x")
        with pytest.raises(DestinationError, match="the store refused") as caught:
            store.read_small("_taskdl/t.json")
        assert "GEHEIM" not in str(caught.value)
        fs.close_session(fs.loop, fs.s3)

    def test_a_big_file_has_parts_of_the_size_that_was_asked_for(self, s3: Bucket) -> None:
        sink = store_of(s3).open("f", Origin(None), part_size=PART, replace=True)
        fill(sink, SIZES["12 MiB"])
        assert s3.uploads() == ["pre fix/f"]
        assert len(sink._file.parts) == 2
        sink.commit()
        assert len(sink._file.parts) == 3

    @pytest.mark.parametrize(
        ("size", "block"),
        [(None, PART), (10, PART), (40 * 2**30, PART), (100 * 2**30, 42 * 256 * 1024)],
    )
    def test_parts_grow_with_the_file(self, size: int | None, block: int, s3: Bucket) -> None:
        sink = ObjectStore(s3.fs, s3.root).open("f", Origin(size), part_size=PART, replace=True)
        assert sink._file.blocksize == block
        sink.abort()


def rename_if_free(old: str, new: str) -> None:
    if not os.path.exists(new):
        os.rename(old, new)


def refuse_to_rename(old: str, new: str) -> None:
    raise OSError("Failure")


class Server(LocalFileSystem):  # type: ignore[misc]
    """A file server: what is committed later waits in a directory of its own, and is renamed.

    :param spool: That directory.
    :param rename: How the server renames.
    """

    cachable = False

    def __init__(self, spool: Path, rename: Callable[[str, str], None]) -> None:
        super().__init__()
        self.spool, self.rename = spool, rename

    def open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        if options.get("autocommit", True):
            return open(path, mode)
        waiting = f"{self.spool}/{uuid.uuid4().hex}"
        file = open(waiting, mode)  # noqa: SIM115 - the sink closes it
        vars(file).update(commit=lambda: self.rename(waiting, path), discard=lambda: os.remove(waiting))
        return file

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        os.replace(path1, path2)


class Renaming(MemoryFileSystem):  # type: ignore[misc]
    """A store that answers "done" to a renaming, and does nothing where the new name is taken."""

    cachable = False

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if not self.exists(path2):
            super().mv(path1, path2)


class TestRenaming:
    @pytest.mark.parametrize("rename", [os.replace, rename_if_free, refuse_to_rename])
    def test_a_file_replaces_another_whatever_a_deferred_commit_does(
        self, rename: Callable[[str, str], None], tmp_path: Path
    ) -> None:
        spool, place = tmp_path / "spool", tmp_path / "place"
        spool.mkdir()
        store = ObjectStore(Server(spool, rename), str(place))
        store.prepare(0)
        for data in (b"old", b"new"):
            sink = store.open("file.bin", Origin(3), part_size=PART, replace=True)
            fill(sink, data)
            assert ("_taskdl" in sink._writes_to) == (rename is not os.replace)
            sink.commit()
            assert (place / "file.bin").read_bytes() == data
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file.bin"]

    def test_a_store_that_replaces_nothing_by_renaming_is_found_out(self) -> None:
        bucket = Bucket(Renaming(), f"/{uuid.uuid4().hex}")
        store = store_of(bucket)
        for data in (b"old", b"new"):
            sink = store.open("file.bin", Origin(3), part_size=PART, replace=True)
            fill(sink, data)
            if data == b"old":
                sink.commit()
        with pytest.raises(DestinationError, match="did not move the whole file to its name") as caught:
            sink.commit()
        sink.abort()
        assert str(caught.value.target).endswith("/file.bin")
        assert bucket.content("file.bin") == b"old"
        assert bucket.names() == {"file.bin"}


class TestTrouble:
    @pytest.mark.parametrize("step", ["write", "close"])
    def test_a_store_that_breaks_in_the_middle_publishes_nothing(
        self, step: str, store: ObjectStore, bucket: Bucket
    ) -> None:
        sink = store.open("file.bin", Origin(BIG.size), part_size=PART, replace=True)

        def broken(*args: Any) -> Any:
            raise OSError("no more")

        fill(sink, SIZES["12 MiB"][: 6 * 1024 * 1024])
        setattr(sink._file, step, broken)
        with pytest.raises(DestinationError, match="OSError: no more"):
            sink.write(sink._position, memoryview(b"x")) if step == "write" else sink.commit()
        delattr(sink._file, step)
        sink.abort()
        assert "file.bin" not in bucket.names()
        assert bucket.uploads() == []

    def test_a_store_that_lost_bytes_is_found_out(self, memory: Bucket) -> None:
        store = store_of(memory)
        sink = store.open("file.bin", Origin(3), part_size=PART, replace=True)
        fill(sink, b"abc")
        sink._position = 4
        with pytest.raises(DestinationError, match="4 bytes were written, the store has 3"):
            sink.commit()
        sink.abort()
        assert memory.names() == set()

    @pytest.mark.parametrize("step", ["write", "close"])
    def test_an_address_that_is_a_credential_is_not_in_the_errors_chain(self, step: str, memory: Bucket) -> None:
        # As stores have it whose uploads go to an address that they sign, or that take a token in the query.
        def refuse(*args: Any) -> Any:
            raise RuntimeError("507 for url 'https://store.example.com/uploadSession?guid=1&tempauth=GEHEIM'")

        sink = store_of(memory).open("file.bin", Origin(3), part_size=PART, replace=True)
        close = sink._file.close
        setattr(sink._file, step, refuse)
        with pytest.raises(DestinationError, match="uploadSession") as caught:
            sink.write(0, memoryview(b"abc")) if step == "write" else sink.commit()
        sink._file.close = close
        sink.abort()
        assert "GEHEIM" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None

    def test_a_directory_is_no_file(self, store: ObjectStore, bucket: Bucket) -> None:
        bucket.put("dir/below", b"x")
        assert store.find(["dir"]) == {}


def test_an_object_that_is_read_for_its_digest_is_let_go_when_told_to_stop(store: ObjectStore, bucket: Bucket) -> None:
    bucket.put("f", bytes(3 * 1024 * 1024))
    go_on = GoOn()
    with pytest.raises(Cancelled):
        store.sha256("f", go_on=go_on)
    assert go_on.asked == 2
