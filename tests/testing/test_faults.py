from __future__ import annotations

import gzip
import socket
import time
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl import testing
from airflow_provider_taskdl.testing import (
    Body,
    ChangeFile,
    Chunked,
    ContentRange,
    Corrupt,
    Cut,
    Drip,
    Emulator,
    EmulatorServer,
    Fault,
    Gzip,
    Header,
    Hide,
    IgnoreIfRange,
    IgnoreRange,
    Multipart,
    Raw,
    Redirect,
    ShiftRange,
    Stall,
    Status,
    StopRange,
    Tail,
    WrongMd5,
    parse_rule,
)
from airflow_provider_taskdl.testing.links import make_link
from airflow_provider_taskdl.testing.rules import known_faults

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

DATA = bytes(range(250)) * 4000


@pytest.fixture
def link(taskdl_server: EmulatorServer) -> str:
    task = taskdl_server.emulator.eo_task({"f.bin": DATA}, checksums=True)
    return make_link(taskdl_server.emulator, task, task.files[0], taskdl_server.base_url)[0]


def fetch(link: str, asked: str | None = None, *, timeout: float = 20, **headers: str) -> tuple[int, bytes, str]:
    """Return status, the bytes that came as they came, and the name of the error that ended it."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    got, status = bytearray(), 0
    try:
        fields.update({"Range": asked} if asked else {})
        with httpx.stream("GET", link, headers=fields, timeout=timeout) as answer:
            status = answer.status_code
            for chunk in answer.iter_raw():
                got += chunk
    except httpx.HTTPError as error:
        return status, bytes(got), type(error).__name__
    return status, bytes(got), ""


def test_a_cut_ends_the_connection_at_a_place_of_the_file(taskdl_emulator: Emulator, link: str) -> None:
    rule = taskdl_emulator.fault("file:f.bin", Cut(at=600_000), times=2)
    assert fetch(link) == (200, DATA[:600_000], "RemoteProtocolError")
    assert fetch(link, "bytes=0-599999") == (206, DATA[:600_000], "")
    assert fetch(link, "bytes=600001-") == (206, DATA[600_001:], "")
    assert fetch(link, "bytes=600000-") == (206, b"", "RemoteProtocolError")
    assert fetch(link) == (200, DATA, "")
    assert rule.fired == 2


def test_a_cut_can_count_from_the_answers_beginning(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Cut(sent=10))
    assert fetch(link, "bytes=500-") == (206, DATA[500:510], "RemoteProtocolError")
    assert fetch(link, "bytes=510-519") == (206, DATA[510:520], "")


def test_a_cut_can_be_a_reset(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Cut(sent=0, reset=True))
    host, _, port = link.split("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {link.partition(port)[2]} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: connection.recv(65536), b""))


def test_cuts_leave_no_trace_in_the_log(taskdl_emulator: Emulator, link: str, caplog: pytest.LogCaptureFixture) -> None:
    taskdl_emulator.fault("file", Cut(sent=5, reset=True), times=2)
    taskdl_emulator.fault("file", Cut(at=999_999))
    for _ in range(4):
        assert fetch(link)[2]
    assert not [record for record in caplog.records if not record.name.startswith("http")]


def test_a_client_that_leaves_early_leaves_no_trace_in_the_log(
    taskdl_emulator: Emulator, link: str, caplog: pytest.LogCaptureFixture
) -> None:
    taskdl_emulator.fault("file", Drip(rate=1000), times=1)
    with httpx.stream("GET", link) as answer:
        next(answer.iter_raw())
    assert fetch(link)[1] == DATA
    assert taskdl_emulator.seen("file")[0].sent < len(DATA)
    assert not [record for record in caplog.records if not record.name.startswith("http")]


@pytest.mark.parametrize("fault", [Stall(0.3), Stall(0.3, at=500_000), Stall(0.3, sent=0)])
def test_a_stall_delays_and_then_goes_on(taskdl_emulator: Emulator, link: str, fault: Fault) -> None:
    taskdl_emulator.fault("file", fault)
    began = time.monotonic()
    assert fetch(link) == (200, DATA, "")
    assert time.monotonic() - began >= 0.3


def test_a_stall_lets_the_bytes_before_it_through(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Stall(30, at=500_000))
    assert fetch(link, timeout=2.0) == (200, DATA[:500_000], "ReadTimeout")


def test_a_drip_holds_its_rate(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Drip(rate=2_000_000))
    began = time.monotonic()
    assert fetch(link)[1] == DATA
    assert time.monotonic() - began >= 0.4


def test_a_byte_can_be_wrong(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Corrupt(at=600_000), times=1)
    assert fetch(link, "bytes=0-10")[1] == DATA[:11]
    _, got, _ = fetch(link)
    assert [place for place in range(len(DATA)) if got[place] != DATA[place]] == [600_000]


def test_a_range_can_be_ignored_shifted_or_misnamed(taskdl_emulator: Emulator, link: str) -> None:
    def answer(fault: Fault) -> tuple[int, str | None, bytes]:
        taskdl_emulator.clear_faults()
        taskdl_emulator.fault("file", fault)
        found = httpx.get(link, headers={"Range": "bytes=10-19"})
        return found.status_code, found.headers.get("content-range"), found.content

    assert answer(IgnoreRange()) == (200, None, DATA)
    assert answer(ShiftRange(by=3)) == (206, "bytes 13-22/1000000", DATA[13:23])
    assert answer(ContentRange(shift=3)) == (206, "bytes 13-22/1000000", DATA[10:20])
    assert answer(ContentRange(total="*")) == (206, "bytes 10-19/*", DATA[10:20])
    assert answer(ContentRange(last=3)) == (206, "bytes 10-22/1000000", DATA[10:20])
    assert answer(StopRange(by=-3)) == (206, "bytes 10-16/1000000", DATA[10:17])
    assert answer(StopRange(by=3)) == (206, "bytes 10-22/1000000", DATA[10:23])
    assert answer(Header("content-range")) == (206, None, DATA[10:20])


def test_a_range_can_come_as_one_of_several(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Multipart())
    answer = httpx.get(link, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.headers.get("content-range")) == (206, None)
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    _, part, rest = answer.content.split(f"--{boundary}".encode())
    head, _, content = part.partition(b"\r\n\r\n")
    assert b"Content-Range: bytes 10-19/1000000" in head
    assert (content, rest) == (DATA[10:20] + b"\r\n", b"--\r\n")


def test_anything_can_be_put_on_the_wire(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Raw(r"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc"), times=1)
    taskdl_emulator.fault("file", Raw("\0\1"), times=1)
    taskdl_emulator.fault("file", Raw(reset=True), times=1)
    assert fetch(link) == (204, b"", "")
    assert fetch(link) == (0, b"", "RemoteProtocolError")
    assert fetch(link) == (0, b"", "ReadError")
    assert fetch(link) == (200, DATA, "")


def test_a_head_can_have_no_end(taskdl_emulator: Emulator, taskdl_server: EmulatorServer) -> None:
    taskdl_emulator.fault("file", Raw("HTTP/1.1 200 OK\r\n", endless="X: y\r\n"))
    with socket.create_connection(("127.0.0.1", int(taskdl_server.base_url.rpartition(":")[2])), timeout=20) as sock:
        sock.sendall(b"GET /f HTTP/1.1\r\nHost: h\r\n\r\n")
        got = sum(len(sock.recv(65536)) for _ in range(500))
    assert got > 4096 * 5


def test_a_body_can_go_on_behind_its_end(taskdl_emulator: Emulator, taskdl_server: EmulatorServer, link: str) -> None:
    taskdl_emulator.fault("file", Tail("and more"))
    assert fetch(link, "bytes=0-9")[:2] == (206, DATA[:10])
    with socket.create_connection(("127.0.0.1", int(taskdl_server.base_url.rpartition(":")[2])), timeout=20) as sock:
        target = link.partition("://")[2].partition("/")[2]
        sock.sendall(f"GET /{target} HTTP/1.1\r\nHost: h\r\nRange: bytes=0-9\r\n\r\n".encode())
        got = b""
        while data := sock.recv(65536):
            got += data
    assert got.endswith(b"\r\n\r\n" + DATA[:10] + b"and more")


def test_a_redirect_can_keep_the_request(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Redirect("http://files.example{target}"))
    target = link.partition("://")[2].partition("/")[2]
    assert httpx.get(link).headers["location"] == f"http://files.example/{target}"


def test_faults_of_ranges_leave_whole_files_alone(taskdl_emulator: Emulator, link: str) -> None:
    faults = (IgnoreRange(), ShiftRange(), StopRange(), Multipart(), ContentRange(shift=1), IgnoreIfRange())
    rules = [taskdl_emulator.fault("file", fault, times=1) for fault in faults]
    assert fetch(link) == (200, DATA, "")
    assert [rule.fired for rule in rules] == [0] * len(faults)


def test_the_file_can_change_and_the_host_not_care(taskdl_emulator: Emulator, link: str) -> None:
    before = httpx.get(link).headers["etag"]
    taskdl_emulator.fault("file", ChangeFile(), times=1, after=1)
    assert fetch(link, "bytes=0-9", If_Range=before)[0] == 206
    assert fetch(link, "bytes=0-9", If_Range=before)[0] == 200
    taskdl_emulator.fault("file", IgnoreIfRange())
    answer = httpx.get(link, headers={"Range": "bytes=0-9", "If-Range": before})
    assert answer.status_code == 206
    assert answer.headers["etag"] != before


def test_gzip_nobody_asked_for(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Gzip(), times=1)
    status, got, _ = fetch(link, Accept_Encoding="identity")
    assert (status, gzip.decompress(got)) == (200, DATA)


def test_a_body_without_a_length_ends_or_breaks(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Chunked())
    answer = httpx.get(link)
    assert "content-length" not in answer.headers
    assert answer.content == DATA
    taskdl_emulator.fault("file", Cut(at=10))
    assert fetch(link) == (200, DATA[:10], "RemoteProtocolError")


def test_header_fields_can_be_anything_but_the_frame(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Header("ETag", 'W/"x"'))
    taskdl_emulator.fault("file", Header("x-bce-content-crc32"))
    taskdl_emulator.fault("file", WrongMd5())
    answer = httpx.get(link)
    assert answer.headers["etag"] == 'W/"x"'
    assert "x-bce-content-crc32" not in answer.headers
    assert len(answer.headers["content-md5"]) == 24
    with pytest.raises(ValueError, match="frames"):
        Header("Content-Length", "1")


def test_answers_can_be_replaced(taskdl_emulator: Emulator, link: str) -> None:
    def answer(fault: Fault) -> httpx.Response:
        taskdl_emulator.fault("file", fault, times=1)
        return httpx.get(link)

    refused = answer(Status(503, retry_after="3"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert refused.json()["code"] == "ServiceUnavailable"
    assert answer(Status(403, error="RequestExpired")).json()["code"] == "RequestExpired"
    assert answer(Status(204)).content == b""
    junk = answer(Body())
    assert (junk.status_code, junk.headers["content-type"]) == (200, "text/html")
    assert "Bad Gateway" in junk.text
    elsewhere = answer(Redirect("http://169.254.169.254/", status=307))
    assert (elsewhere.status_code, elsewhere.headers["location"]) == (307, "http://169.254.169.254/")
    assert httpx.get(link).content == DATA


def test_the_service_does_not_see_what_a_fault_answers(taskdl_server: EmulatorServer) -> None:
    taskdl_server.emulator.fault("bls.create status 500")
    assert httpx.post(f"{taskdl_server.base_url}/v2/logstore/download", json={}).status_code == 500
    assert not taskdl_server.emulator.tasks


@pytest.mark.parametrize(
    ("text", "kind", "pattern", "fault", "times", "after"),
    [
        ("file:big.bin cut at=1000 times=2", "file", "big.bin", Cut(at=1000), 2, 0),
        ("file cut 1MiB reset", "file", "*", Cut(at=2**20, reset=True), None, 0),
        ("file:*/a/*.tif stall 2.5 sent=10KB", "file", "*/a/*.tif", Stall(2.5, sent=10_000), None, 0),
        ("bls.link status 503 retry_after=2 after=1", "bls.link", "*", Status(503, retry_after="2"), None, 1),
        ("bls.link status 503 retry-after=2", "bls.link", "*", Status(503, retry_after="2"), None, 0),
        ("*.link hide how=null", "*.link", "*", Hide("null"), None, 0),
        ("eo.status:12345 body 'no JSON' type=text/plain", "eo.status", "12345", Body("no JSON", type="text/plain"),
         None, 0),
        ("file redirect http://a.example/b?c=d", "file", "*", Redirect("http://a.example/b?c=d"), None, 0),
        ("file header ETag value='\"x\"'", "file", "*", Header("ETag", '"x"'), None, 0),
        ("file shift-range by=-1", "file", "*", ShiftRange(-1), None, 0),
        ("file ignore-range", "file", "*", IgnoreRange(), None, 0),
    ],
)  # fmt: skip
def test_a_rule_can_be_written_as_a_line(
    text: str, kind: str, pattern: str, fault: Fault, times: int | None, after: int
) -> None:
    rule = parse_rule(text)
    assert (rule.kind, rule.pattern, rule.fault, rule.times, rule.after) == (kind, pattern, fault, times, after)
    assert Emulator().fault(text) == rule


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no rule"),
        ("file", "no rule"),
        ("file 'cut", "no rule"),
        ("flie cut at=1", "no kind of request; known: bls.link"),
        ("file cot at=1", "no fault; known: body, change-etag"),
        ("file cut att=1", "no parameter 'att'; known: at, sent, reset, times, after"),
        ("file cut at=many", "at='many' is no number, nor one with KB"),
        ("file cut at=1XB", "is no number"),
        ("file cut at=1 at=2", "at is given twice"),
        ("file cut reset=maybe", "neither yes nor no"),
        ("file stall", "stall needs seconds"),
        ("file stall soon", "seconds='soon' is no number"),
        ("eo.link hide how=badly", "is none of empty, null, blank, first"),
        ("file gzip 9", "gzip takes no value"),
        ("file header Content-Length", "frames the answer"),
    ],
)
def test_a_line_that_is_no_rule_is_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_rule(text)


def test_every_fault_is_exported_and_has_a_word() -> None:
    exported = {value for name, value in vars(testing).items() if isinstance(value, type) and name in testing.__all__}
    assert set(known_faults().values()) <= exported
    assert len(known_faults()) == len({fault.word for fault in known_faults().values()}) == 23


def test_rules_add_up(taskdl_emulator: Emulator, link: str) -> None:
    taskdl_emulator.fault("file", Header("X-One", "1"))
    taskdl_emulator.fault("file", Header("X-Two", "2"))
    taskdl_emulator.fault("file:other", Header("X-Three", "3"))
    answer: Any = httpx.get(link).headers
    assert (answer.get("x-one"), answer.get("x-two"), answer.get("x-three")) == ("1", "2", None)


@pytest.mark.parametrize("fault", ["lose", "lose reset", "lose status=502"])
def test_an_answer_can_be_lost_after_the_service_has_acted(
    taskdl_emulator: Emulator, taskdl_server: EmulatorServer, fault: str
) -> None:
    rule = taskdl_emulator.fault(f"eo.create {fault} times=1")
    body = {"metaDataId": 1, "taskName": "a", "algorithms": [{"algorithm": "b"}]}
    header = {taskdl_emulator.header_name: f"{taskdl_emulator.header_prefix} {taskdl_emulator.token}"}
    url = f"{taskdl_server.base_url}/analysis/task/create"
    if "status" in fault:
        assert httpx.post(url, json=body, headers=header).status_code == 502
    else:
        with pytest.raises(httpx.NetworkError if "reset" in fault else httpx.RemoteProtocolError):
            httpx.post(url, json=body, headers=header)
    assert (rule.fired, len(taskdl_emulator.tasks)) == (1, 1)
    assert httpx.post(url, json=body, headers=header).json()["code"] == 200
