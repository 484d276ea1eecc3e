"""Whatever a file host answers, head and body: exactly the announced file comes out of it, or an error of the tree."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from typing import Any

from hypothesis import strategies as st

from airflow_provider_taskdl.backoff import MAX_RETRY_AFTER, parse_retry_after
from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.connection import Connection
from airflow_provider_taskdl.transfer.digest import Digests, announced_digests
from airflow_provider_taskdl.transfer.host_rules import HostRules
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.reader import RangeReader
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.source import Source
from tests.canary import CANARY
from tests.fuzz.campaign import Several, every, family, judge

DATA = bytes(range(97, 117))
SIZE = len(DATA)
MD5 = "rL0Y20zC+Fzt72VPzMSk2A=="
_latin = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=12)
_numbers = st.sampled_from(
    ["0", "1", "5", "10", "19", "20", "21", "-1", "", "*", "99999999999999999999", "9" * 5000, "٣", "0x5", "1e3",
    "+5", " 5", "05"]
)  # fmt: skip
_content_range = st.one_of(
    st.builds(lambda first, last, total: f"bytes {first}-{last}/{total}", _numbers, _numbers, _numbers),
    st.sampled_from(["bytes 5-19/20", "bytes 0-19/20", "bytes */20", "items 0-1/2", "bytes=0-19/20", "bytes 0-19"]),
    _latin,
)
_fields = st.one_of(
    st.tuples(st.just("Content-Range"), _content_range),
    st.tuples(st.just("Content-Length"), st.one_of(_numbers, st.just("20"), _latin)),
    st.tuples(st.just("Transfer-Encoding"), st.sampled_from(["chunked", "Chunked", "gzip, chunked", "identity", "x"])),
    st.tuples(st.just("Content-Encoding"), st.sampled_from(["gzip", "identity", "", "br", "IDENTITY ", "x" * 3000])),
    st.tuples(st.just("ETag"), st.sampled_from(['"a"', 'W/"a"', '"b"', "", "a", '"' + "x" * 3000])),
    st.tuples(st.just("Last-Modified"), st.sampled_from(["Wed, 21 Oct 2015 07:28:00 GMT", "", "now"])),
    st.tuples(st.just("Retry-After"), st.one_of(_numbers, _latin, st.just("Fri, 31 Dec 9999 23:59:59 -2359"))),
    st.tuples(st.just("Content-MD5"), st.one_of(st.just(MD5), st.just("AAAA"), _latin)),
    st.tuples(st.just("Repr-Digest"), st.one_of(st.sampled_from(["sha-256=:AAAA:", f"md5=:{MD5}:", "md5=::"]), _latin)),
    st.tuples(st.just("x-bce-content-crc32"), st.one_of(_numbers, _latin)),
    st.tuples(st.just("x-bce-content-sha256"), st.one_of(st.just("A" * 64), _latin)),
    st.tuples(st.just("x-goog-hash"), st.one_of(st.sampled_from([f"md5={MD5}", "crc32c=x, md5=y"]), _latin)),
    st.tuples(st.just("x-amz-checksum-sha256"), _latin),
    st.tuples(
        st.just("Location"),
        st.one_of(st.sampled_from(["/g", "//h.example/x", f"https://h.example/?s={CANARY}",
        "http://169.254.169.254/", "#", "?"]), _latin),
    ),
    st.tuples(st.just("Connection"), st.sampled_from(["close", "keep-alive", "upgrade"])),
    st.tuples(_latin, _latin),
)  # fmt: skip
_lines = st.one_of(
    st.sampled_from(["HTTP/1.1 200 OK"] * 6 + ["HTTP/1.1 206 Partial Content"] * 6),
    st.sampled_from([200, 203, 204, 206, 302, 307, 304, 400, 403, 404, 416, 429, 500, 503, 600,
    99]).map("HTTP/1.1 {} x".format),
    st.sampled_from(["HTTP/1.0 200 OK", "HTTP/2 200", "HTTP/1.1 2e2 OK", "HTTP/1.1", "ICY 200 OK", "",
    "HTTP/1.1 200", "\x00"]),
)  # fmt: skip
_bodies = st.one_of(
    st.sampled_from(
        [DATA, DATA[5:], DATA[:5], DATA + b"x", b"", b"5\r\nabcde\r\n0\r\n\r\n", b"14\r\n" + DATA + b"\r\n0\r\n\r\n",
         b"-1\r\n", b"ffffffffffffffffffff\r\nx", b"zz\r\n", b"14;x=y\r\n" + DATA, b"<Code>RequestExpired</Code>",
         b'{"code": "\xff"}', b"[" * 3000, b'{"code": {"a": 1}}']
    ),
    st.binary(max_size=30),
)  # fmt: skip


def _answer(line: str, fields: list[tuple[str, str]], body: bytes, length: bool, end: bytes) -> bytes:
    more = [("Content-Length", str(len(body)))] if length else []
    head = "\r\n".join([line, *[f"{name}: {value}" for name, value in [*fields, *more]]])
    return head.encode("latin-1", "replace") + end + body


answers = st.one_of(
    st.builds(_answer, _lines, st.lists(_fields, max_size=4), _bodies, st.booleans(), st.just(b"\r\n\r\n")),
    st.builds(_answer, _lines, st.lists(_fields, max_size=4), _bodies, st.booleans(), st.just(b"\r\n\r\n")),
    st.builds(_answer, _lines, st.lists(_fields, max_size=4), _bodies, st.just(True), st.sampled_from([b"\n\n",
    b"\r\n", b""])),
    st.binary(max_size=40),
)  # fmt: skip


class Wired(LinkClient):
    """A client whose every connection leads to the next of some answers, which then closes it."""

    def __init__(self, replies: list[bytes]) -> None:
        super().__init__(HostRules(None, ["h.example"]), tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), timeout=5.0)
        self.replies, self.asked = list(replies), 0

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        return None

    def _connection(self, key: Any) -> Connection:
        connection = super()._connection(key)
        here, there = socket.socketpair()
        self.asked += 1
        with there:
            there.sendall(self.replies.pop(0) if self.replies else b"")
            there.shutdown(socket.SHUT_WR)
            # What is not read before the other side closes would turn into a reset.
            connection.sock = _Kept(here, there.dup())
        return connection


class _Kept:
    """A socket with its other side, which lives as long."""

    def __init__(self, sock: socket.socket, other: socket.socket) -> None:
        self._sock, self._other = sock, other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def close(self) -> None:
        self._sock.close()
        self._other.close()


class Clock(threading.Event):
    """Waits no time and keeps what it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        return False


@family(
    replies=Several(st.lists(answers, min_size=1, max_size=4), 4),
    size=every(None, SIZE, 0),
    part=every(None, (0, 8), (8, SIZE)),
)
def test_any_answers_of_a_file_host_give_the_file_or_an_error(
    replies: list[bytes], size: int | None, part: tuple[int, int] | None
) -> None:
    file = RemoteFile("f", Link(f"http://h.example/f?sig={CANARY}"), size)
    listing, clock, client, retry = FileListing("t", (file,)), Clock(), Wired(replies), RetryPolicy(3, 0.0, 0.0)
    start, end = part or (0, None)
    links = LinkSource(listing, lambda: listing, retry)
    reader = RangeReader(Source(file), links, client, retry, clock, start, end)
    data, view = bytearray(), memoryview(bytearray(64))
    try:
        while count := reader.readinto(view):
            data += view[:count]
            assert len(data) <= 16_000, "it does not end"
    except TaskDownloadError as error:
        judge(error)
    else:
        known = reader.source.size
        assert reader.position == start + len(data)
        assert known is not None or reader.end is None, "the end of a part without the end of the file"
        if known is not None:
            assert len(data) == max(0, min(reader.end if reader.end is not None else known, known) - start)
        assert size is None or known == size
    finally:
        reader.close()
        client.close()
    assert all(0 <= wait <= MAX_RETRY_AFTER for wait in clock.waits)
    # Each new byte may start the count of failures again; a redirect, a renewal and a lost keep-alive cost one each.
    assert client.asked <= (len(data) + 1) * 8 * 6


_HEX = {"sha256": 64, "md5": 32, "crc32": 8}


@family(
    fields=Several(st.lists(_fields, max_size=6), 5),
    retry_after=Several(st.one_of(_numbers, _latin, st.text(max_size=20)), 3),
)
def test_any_header_fields_announce_digests_that_can_be_compared(
    fields: list[tuple[str, str]], retry_after: str
) -> None:
    found = announced_digests(dict(fields))
    for name, value in found.items():
        assert re.fullmatch(f"[0-9a-f]{{{_HEX[name]}}}", value)
    digests = Digests(found)
    digests.update(memoryview(DATA))
    assert digests.sha256 == hashlib.sha256(DATA).hexdigest()
    try:
        digests.verify()
    except TaskDownloadError as error:
        judge(error)
    wait = parse_retry_after(retry_after)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER
