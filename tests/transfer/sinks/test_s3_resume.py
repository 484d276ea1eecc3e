"""What a process leaves unfinished in S3, and what the next one makes of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import airflow_provider_taskdl
from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError, IntegrityError
from airflow_provider_taskdl.transfer.publish import publish
from airflow_provider_taskdl.transfer.sinks import s3_uploads
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
from tests.s3 import KEY, LOST, SECRET, Fault, S3Front, S3Server, Seen
from tests.transfer.sinks.test_s3 import DATA, FAST, ORIGIN, PART, Rig, write_parts

pytestmark = pytest.mark.s3
FOLDER = "_taskdl/uploads/"
OTHER = bytes(byte ^ 1 for byte in DATA)


@pytest.fixture
def rig(s3_server: S3Server, s3_front: S3Front) -> Iterator[Rig]:
    rig = Rig(s3_server, s3_front)
    yield rig
    rig.client.close()
    rig.admin.close()


def begin(rig: Rig, parts: range = range(4), origin: Origin = ORIGIN) -> str:
    """Leave an upload with some parts; returns its record's name."""
    sink = rig.open(origin=origin)
    write_parts(sink, only=parts)
    sink.abort(keep=True)
    (record,) = (name for name in rig.names() if name.startswith(FOLDER))
    rig.front.seen.clear()
    rig.store = rig.new()
    return record


def finish(rig: Rig, origin: Origin = ORIGIN) -> list[int]:
    """Bring the file as the engine does, only what is not held; returns the parts that were sent."""
    sink = rig.open(origin=origin)
    for start in range(0, len(DATA), sink.part_size):
        end = min(start + sink.part_size, len(DATA))
        if sink.holds(start, end):
            assert sink.read_back(start, memoryview(bytearray(end - start))) is None
            sink.note(end, "0" * 64)
        else:
            sink.write(start, memoryview(DATA)[start:end])
    sink.commit()
    rig.store.settle(["f"])
    assert rig.content("f") == DATA
    assert {name for name in rig.names() if name.startswith(FOLDER)} == set()
    return rig.front.parts


def test_a_later_process_sends_only_what_is_missing(rig: Rig) -> None:
    begin(rig, range(2, 7))
    assert finish(rig) == [1, 2, 8, 9, 10, 11]
    assert rig.uploads() == []


def test_what_is_held_can_be_given_up_for_good(rig: Rig) -> None:
    begin(rig)
    sink = rig.open()
    assert sink.holds(0, PART)
    assert not sink.holds(0, PART - 1)
    assert not sink.holds(1, PART + 1)
    assert not sink.holds(5 * PART, 6 * PART)
    sink.abort()
    assert rig.names() == set()
    assert rig.uploads() == []


def test_a_killed_process_leaves_its_parts(rig: Rig, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(DATA)
    program = f"""
import boto3, os, signal
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
client = boto3.client("s3", endpoint_url={rig.front.url!r}, region_name="us-east-1")
store = S3Store(client, {rig.bucket!r}, {rig.prefix!r}, min_part_size=1)
data = memoryview(open({str(data)!r}, "rb").read())
sink = store.open("f", Origin({len(DATA)}, {ORIGIN.etag!r}), part_size={PART}, replace=True)
for number in (10, 0, 5):
    sink.write(number * {PART}, data[number * {PART}:][:{PART}])
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = str(Path(airflow_provider_taskdl.__path__[0]).parent)
    environment = os.environ | {"PYTHONPATH": root, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "f" not in rig.names()
    rig.front.seen.clear()
    assert finish(rig) == [2, 3, 4, 5, 7, 8, 9, 10]
    assert rig.uploads() == []


@pytest.mark.parametrize(
    "origin",
    [
        Origin(len(DATA), '"other"'),
        Origin(len(DATA), '"e-1"', "yesterday"),
        Origin(len(DATA)),
        Origin(None, '"e-1"'),
    ],
)
def test_parts_of_another_version_are_given_up(rig: Rig, origin: Origin) -> None:
    begin(rig)
    assert finish(rig, origin) == list(range(1, 12))
    assert rig.uploads() == []


def test_what_cannot_be_proved_later_is_not_kept(rig: Rig) -> None:
    sink = rig.open(origin=Origin(len(DATA)))
    write_parts(sink, only=range(3))
    sink.abort(keep=True)
    assert rig.names() == set()
    assert rig.uploads() == []


def test_parts_longer_than_may_be_held_in_memory_are_given_up(rig: Rig) -> None:
    begin(rig)
    sink = rig.store.open("f", ORIGIN, part_size=PART // 2, replace=True)
    assert (sink.part_size, sink.holds(0, PART)) == (PART // 2, False)
    for start in range(0, len(DATA), PART // 2):
        sink.write(start, memoryview(DATA)[start : start + PART // 2])
    sink.commit()
    rig.store.settle(["f"])
    assert rig.content("f") == DATA
    assert rig.uploads() == []
    assert rig.names() == {"f"}


def test_shorter_parts_are_gone_on_with(rig: Rig) -> None:
    begin(rig)
    sink = rig.store.open("f", ORIGIN, part_size=PART * 2, replace=True)
    assert (sink.part_size, sink.holds(0, PART)) == (PART, True)
    sink.abort()


@pytest.mark.parametrize("field", ["key", "bucket"])
def test_a_record_of_another_place_is_no_reason_to_touch_its_upload(rig: Rig, field: str) -> None:
    record = begin(rig)
    facts = json.loads(rig.content(record))
    rig.put(record, json.dumps(facts | {field: "elsewhere"}).encode())
    assert finish(rig) == list(range(1, 12))
    assert rig.uploads() == [f"{rig.prefix}/f"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version": 2}', b"{" * 100_000])
def test_a_damaged_record_is_none(rig: Rig, content: bytes) -> None:
    rig.put(begin(rig), content)
    assert finish(rig) == list(range(1, 12))


def test_an_upload_that_is_gone_is_begun_anew(rig: Rig) -> None:
    facts = json.loads(rig.content(begin(rig)))
    rig.admin.abort_multipart_upload(Bucket=rig.bucket, Key=facts["key"], UploadId=facts["upload_id"])
    assert finish(rig) == list(range(1, 12))
    assert rig.uploads() == []


@pytest.mark.parametrize(("number", "size"), [(6, PART - 1), (11, PART), (12, 5)])
def test_an_upload_with_parts_that_are_not_ours_is_begun_anew(rig: Rig, number: int, size: int) -> None:
    facts = json.loads(rig.content(begin(rig)))
    place = {"Bucket": rig.bucket, "Key": facts["key"], "UploadId": facts["upload_id"]}
    rig.admin.upload_part(**place, PartNumber=number, Body=b"x" * size)
    assert finish(rig) == list(range(1, 12))
    assert rig.uploads() == []


def refuse_to_remove(rig: Rig, what: str) -> None:
    denied = (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
    rig.front.rule = lambda seen: denied if seen.method == "DELETE" and what in f"{seen.key}?{seen.query}" else None


@pytest.mark.parametrize("later", [True, False])
def test_parts_that_were_found_wrong_are_sent_anew_also_where_the_store_lets_no_upload_go(
    rig: Rig, later: bool
) -> None:
    refuse_to_remove(rig, "uploadId=")
    sink = rig.open()
    write_parts(sink, OTHER)
    sink.abort()
    if later:
        rig.store = rig.new()
    rig.front.seen.clear()
    again = rig.open()
    assert not any(again.holds(at, min(at + PART, len(DATA))) for at in range(0, len(DATA), PART))
    write_parts(again)
    again.commit()
    assert rig.content("f") == DATA
    assert rig.front.parts == list(range(1, 12))


def test_a_wrong_file_that_cannot_be_removed_is_told_of_and_replaced(rig: Rig) -> None:
    sink = rig.open()
    write_parts(sink, OTHER, only=range(4))
    sink.abort(keep=True)
    refuse_to_remove(rig, "f?")
    announced = {"sha256": hashlib.sha256(DATA).hexdigest()}
    rig.store = rig.new()
    sink = rig.open()
    write_parts(sink, only=range(4, 11))
    with pytest.raises(IntegrityError, match=r"it is at its name until it is replaced.*Access Denied"):
        publish("f", sink, rig.store, len(DATA), None, announced)
    sink.abort()
    rig.front.seen.clear()
    again = rig.open()
    write_parts(again)
    again.commit()
    assert rig.content("f") == DATA
    assert rig.front.parts == list(range(1, 12))


def test_uploads_of_others_are_left_alone(rig: Rig) -> None:
    rig.admin.create_multipart_upload(Bucket=rig.bucket, Key=f"{rig.prefix}/f")
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    assert rig.uploads() == [f"{rig.prefix}/f"]


def at_once(rig: Rig, *parts: range) -> list[Any]:
    """Let processes begin the same file, none of which knows of the others."""
    stores = [rig.new() for _ in parts]
    for store in stores:
        store.prepare(0)
    sinks = [store.open("f", ORIGIN, part_size=PART, replace=True) for store in stores]
    for sink, only in zip(sinks, parts, strict=True):
        write_parts(sink, only=only)
    return sinks


def test_who_ends_first_does_not_hide_the_upload_of_another(rig: Rig) -> None:
    first, second = at_once(rig, range(11), range(4))
    first.commit()
    first._uploads.settle("f")
    assert rig.uploads() == [f"{rig.prefix}/f"]
    second.abort(keep=True)  # killed
    rig.front.seen.clear()
    assert finish(rig) == list(range(5, 12))
    assert rig.uploads() == []


def test_who_gives_up_does_not_hide_the_upload_of_another(rig: Rig) -> None:
    first, second = at_once(rig, range(2), range(4))
    first.abort()
    second.abort(keep=True)
    rig.front.seen.clear()
    assert finish(rig) == list(range(5, 12))
    assert rig.uploads() == []


def test_of_several_uploads_the_longest_is_gone_on_with_and_the_others_end(rig: Rig) -> None:
    for sink in at_once(rig, range(2), range(7), range(4)):
        sink.abort(keep=True)
    rig.front.seen.clear()
    assert finish(rig) == [8, 9, 10, 11]
    assert rig.uploads() == []


@pytest.mark.parametrize("origin", [ORIGIN, Origin(len(DATA), '"other"')])
def test_an_upload_of_a_process_that_lives_is_left_to_it(rig: Rig, origin: Origin) -> None:
    first, *killed = at_once(rig, range(2), *[range(4)] * (origin == ORIGIN))
    for sink in killed:  # of the same version: it is gone on with, because it has more parts
        sink.abort(keep=True)
    rig.store = rig.new()
    sink = rig.open(origin=origin)
    for number in range(11):
        if not sink.holds(number * PART, min((number + 1) * PART, len(DATA))):
            write_parts(sink, only=range(number, number + 1))
    write_parts(first, only=range(2, 5))
    sink.commit()
    rig.store.settle(["f"])
    write_parts(first, only=range(5, 11))
    first.commit()
    first._uploads.settle("f")
    assert rig.content("f") == DATA
    assert rig.names() == {"f"}
    assert rig.uploads() == []


@pytest.mark.parametrize("quiet", [True, False])
def test_where_a_file_is_there_an_upload_of_it_ends_when_nothing_comes_for_long(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    killed, other = at_once(rig, range(2), range(11))
    killed.abort(keep=True)
    other.commit()
    other._uploads.settle("f")
    if quiet:
        monkeypatch.setattr(s3_uploads, "_QUIET", timedelta(minutes=-1))  # as if that time had passed
    rig.store = rig.new()
    rig.store.prepare(0)
    rig.store.settle(["f"])
    assert len(rig.uploads()) == (0 if quiet else 1)
    assert len(rig.names() - {"f"}) == (0 if quiet else 1)


def test_a_later_process_finds_all_parts_of_what_was_completed_before_a_kill(rig: Rig) -> None:
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    rig.store = rig.new()
    rig.front.seen.clear()
    assert finish(rig) == []


def test_a_record_holds_no_secret(rig: Rig) -> None:
    facts = json.loads(rig.content(begin(rig)))
    assert set(facts) == {"version", "bucket", "key", "upload_id", "mark", "part_size", "size", "etag", "modified"}


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lost_answer_is_no_reason_to_refuse_ones_own_file(rig: Rig, replaced: bool) -> None:
    begin(rig)
    sink = rig.open(replace=False)
    write_parts(sink, only=range(4, 11))
    answers = iter([LOST])

    def lose(seen: Seen) -> Fault | None:
        if seen.method != "POST" or "uploadId=" not in seen.query:
            return None
        return next(answers, (412, b"<Error><Code>PreconditionFailed</Code></Error>"))

    rig.front.rule = lose
    if replaced:
        rig.front.after = lambda: rig.put("f", DATA)  # without the mark: by somebody else
        with pytest.raises(DestinationExistsError):
            sink.commit()
    else:
        assert sink.commit() == rig.store.find(["f"])["f"]
    assert rig.content("f") == DATA


def replace_by(rig: Rig, data: bytes) -> None:
    """Let another process publish another version of the file."""
    store = S3Store(rig.admin, rig.bucket, rig.prefix, min_part_size=1, tries=FAST)
    sink = store.open("f", Origin(len(data), '"other"'), part_size=PART, replace=True)
    write_parts(sink, data)
    sink.commit()


def test_what_another_process_has_published_since_is_not_taken_for_ones_own(rig: Rig) -> None:
    sink = rig.open()
    write_parts(sink)

    def replace_it() -> None:
        if rig.front.seen[-1].method == "POST":
            replace_by(rig, OTHER)

    rig.front.after = replace_it
    with pytest.raises(DestinationError) as caught:
        sink.commit()
    assert caught.value.retryable
    assert rig.content("f") == OTHER


@pytest.mark.parametrize("announced", [DATA, OTHER])
def test_what_another_process_has_published_since_is_neither_believed_nor_removed(rig: Rig, announced: bytes) -> None:
    begin(rig)
    sink = rig.open()
    write_parts(sink, only=range(4, 11))

    def replace_it(seen: Seen) -> None:
        if seen.method == "GET" and seen.key.endswith("/f"):
            replace_by(rig, OTHER)

    rig.front.rule = replace_it
    with pytest.raises(DestinationError) as caught:
        publish("f", sink, rig.store, len(DATA), None, {"sha256": hashlib.sha256(announced).hexdigest()})
    assert caught.value.retryable
    assert rig.content("f") == OTHER


def test_files_without_a_record_cost_no_request(rig: Rig) -> None:
    rig.store.prepare(0)
    rig.front.seen.clear()
    for i in range(20):
        rig.store.open(f"n{i}", replace(ORIGIN, size=10), part_size=PART, replace=True)
    assert rig.front.seen == []


ANY = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2))
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.one_of(st.just(1), ANY),
        "upload_id": st.one_of(st.text(max_size=40), ANY),
        "part_size": st.one_of(st.sampled_from([1, PART - 1, PART, PART + 1]), ANY),
        "size": st.one_of(st.just(len(DATA)), ANY),
        "etag": ANY,
        "modified": ANY,
        "extra": ANY,
    },
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=FACTS)
def test_whatever_a_record_says_the_bytes_are_right(
    s3_server: S3Server, s3_front: S3Front, facts: dict[str, Any]
) -> None:
    rig = Rig(s3_server, s3_front)
    try:
        record = begin(rig)
        rig.put(record, json.dumps(json.loads(rig.content(record)) | facts).encode())
        rig.store = S3Store(rig.client, rig.bucket, rig.prefix, min_part_size=1, tries=FAST)
        finish(rig)
    finally:
        rig.client.close()
        rig.admin.close()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_however_often_it_is_cut_each_part_is_sent_once(s3_server: S3Server, s3_front: S3Front, seed: int) -> None:
    rig, dice = Rig(s3_server, s3_front), random.Random(seed)
    rig.front.seen.clear()
    try:
        for _ in range(dice.randrange(4)):
            sink = rig.open()
            missing = [n for n in range(11) if not sink.holds(n * PART, min((n + 1) * PART, len(DATA)))]
            for number in dice.sample(missing, dice.randrange(len(missing))):
                sink.write(number * PART, memoryview(DATA)[number * PART : (number + 1) * PART])
            sink.abort(keep=True)
            rig.store = rig.new()
        assert finish(rig) == list(range(1, 12))
    finally:
        rig.client.close()
        rig.admin.close()
