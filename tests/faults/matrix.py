"""The fault matrix: what can go wrong between a file host and a destination, and what must come of it.

Each row is run at each destination (``test_matrix.py``), and besides what it says here, always holds: at no time does
anything show under a file's name but the whole true file (or the one that was there before); no secret shows anywhere;
and after a failure, the next try without the fault brings everything.

Six requests for the big file and one for the small one are what it takes when nothing goes wrong.
"""

from __future__ import annotations

from urllib.parse import quote

from airflow_provider_taskdl.exceptions import (
    DestinationError,
    IntegrityError,
    LinkExpiredError,
    LinkRefusedError,
    SourceChangedError,
    TransferError,
    UnsafeLinkError,
)
from airflow_provider_taskdl.testing import Content, Memory
from tests.canary import CANARY
from tests.faults.rows import (
    PARTS,
    Fails,
    Outcome,
    Row,
    fewer,
    links_end,
    links_to,
    new_bytes,
    other_sizes,
    relisted,
    reordered,
    with_checksums,
)
from tests.transfer.harness import FAST

_TRIES = 1 + FAST.failures
_MEND = (PARTS + 1, 2)
_GIVE_UP = (_TRIES, _TRIES)
_TWICE = (2 * PARTS, 2)


def _gives_up(why: str) -> Fails:
    return Fails(TransferError, rf"gave up at byte \d+.*{why}")


# --- the connection -------------------------------------------------------------------------------------------------

CONNECTION = [
    Row("nothing goes wrong", (), happens="neither"),
    Row("nothing goes wrong, old files", (), happens="neither", old=True),
    Row("nothing goes wrong, https", (links_to("https://localhost:$port", tls=True),), happens="neither"),
    Row("refused", (links_to("http://127.0.0.1:1"),), _gives_up("refused"), (0, 0), happens="neither"),
    Row("closed without a word, once", ("file raw times=1",), requests=_MEND),
    Row("closed without a word, always", ("file raw",), _gives_up("RemoteDisconnected|connection"), _GIVE_UP),
    Row("reset without a word, once", ("file raw reset times=1",), requests=_MEND),
    Row("reset without a word, always", ("file raw reset",), _gives_up("reset|connection"), _GIVE_UP),
    *[
        Row(f"{how} at the {where} byte, once", (f"file cut at={at} {flag} times=1",), requests=_MEND)
        for how, flag in {"closed": "", "reset": "reset"}.items()
        for where, at in {"first": "0", "second": "1", "middle": "$mid", "last": "$last"}.items()
    ],
    *[
        Row(
            f"closed at the {where} byte, always", (f"file cut at={at}",), _gives_up("to come|ended"),
            (PARTS + FAST.failures, _TRIES + 1), old=True,
        )
        for where, at in {"first": "0", "second": "1", "middle": "$mid", "last": "$last"}.items()
    ],
    Row("103 before the head, once", (r"file raw text='HTTP/1.1 103 Early Hints\r\n\r\n' times=1",), requests=_MEND),
    Row("no HTTP, once", (r"file raw text='SSH-2.0-x\r\n' times=1",), requests=_MEND),
    Row("no HTTP, always", (r"file raw text='\x00\x01\x02'",), _gives_up("CutLine|connection"), _GIVE_UP),
    Row("silent before the head, once", ("file stall 30 times=1",), requests=_MEND, timeout=2.0),
    Row("silent in the middle, once", ("file stall 30 at=$mid times=1",), requests=_MEND, timeout=2.0),
    Row("silent in the middle, always", ("file stall 30 at=$mid",), _gives_up("in time"), (PARTS + 2, 3),
        timeout=2.0, failures=1),
    Row("slow, but never silent", ("file drip 100000",), timeout=2.0),
]  # fmt: skip

# --- heads that never end ---------------------------------------------------------------------------------------------

_ENDLESS = {
    "header fields": r"text='HTTP/1.1 200 OK\r\n' endless='X-More: y\r\n'",
    "one header field": r"text='HTTP/1.1 200 OK\r\nX-More: ' endless='y'",
    "status line": r"text='HTTP/1.1 200 ' endless='y'",
    "provisional answers": r"endless='HTTP/1.1 100 Continue\r\n\r\n'",
    "provisional header fields": r"text='HTTP/1.1 100 Continue\r\n' endless='X-More: y\r\n'",
    "trailers": r"text='HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n' endless='X-More: y\r\n'",
    "chunk extensions": r"text='HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=' endless='y'",
}
HEADS = [
    *[Row(f"endless {what}, once", (f"file raw {text} times=1",), requests=_MEND) for what, text in _ENDLESS.items()],
    *[
        Row(f"endless {what}, always", (f"file raw {text}",), _gives_up(""), _GIVE_UP)
        for what, text in _ENDLESS.items()
    ],
]

# --- lengths ----------------------------------------------------------------------------------------------------------

_WRONG_SIZE = Fails(IntegrityError, r"announced \d+ bytes, the file host has \d+")
_UNTIL_CLOSED = r"file raw text='HTTP/1.1 200 OK\r\n\r\nfalse'"
LENGTHS = [
    Row("sizes are not declared", (), happens="neither", sized=False),
    Row("more than Content-Length", ("file tail",)),
    Row("another answer behind the end", (r"file tail 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse'",), "either",
        _TWICE),
    Row("declared too short", ("eo.link declare-size by=-1",), _WRONG_SIZE, (2, 2)),
    Row("declared too long", ("eo.link declare-size by=1",), _WRONG_SIZE, (2, 2), old=True),
    Row("declared too short, chunked", ("eo.link declare-size by=-1", "file ignore-range", "file chunked"),
        Fails(IntegrityError, "more than the"), (4, 2)),
    Row("declared too long, chunked", ("eo.link declare-size by=1", "file ignore-range", "file chunked"),
        _gives_up("ended"), _GIVE_UP),
    Row("chunked", ("file chunked",)),
    Row("chunked, size not declared", ("file chunked",), sized=False),
    Row("chunked, no ranges, size not declared", ("file ignore-range", "file chunked"), requests=(1, 1), sized=False),
    Row("chunked and cut, no ranges, size not declared",
        ("file ignore-range", "file chunked", "file cut at=$mid times=1"), requests=(2, 2), sized=False),
    Row("the end is not marked, size not declared", (_UNTIL_CLOSED,),
        Fails(IntegrityError, "how long the file is"), (2, 2), sized=False),
    Row("the end is not marked, too short", (f"{_UNTIL_CLOSED} times=1",), requests=(PARTS + 2, 3)),
    Row("a body with 204", (r"file raw text='HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nfalse'",),
        Fails(TransferError, "HTTP 204"), (1, 1)),
]  # fmt: skip

_EMPTY: dict[str, Content] = {"one.bin": Memory(b""), "two.bin": Memory(b"")}
EMPTY = [
    Row("empty files", (), happens="neither", requests=(1, 1), files=_EMPTY),
    Row("empty files, sizes not declared", (), happens="neither", requests=(2, 2), files=_EMPTY, sized=False),
    Row("empty files, chunked", ("file chunked",), requests=(1, 1), files=_EMPTY),
    Row("empty files, 204 with a body", (r"file raw text='HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nfalse'",),
        requests=(1, 1), files=_EMPTY),
    Row("empty files, a page", ("file body",), Fails(IntegrityError, "announced 0 bytes"), (2, 2), files=_EMPTY),
]  # fmt: skip

# --- ranges -----------------------------------------------------------------------------------------------------------

_OTHER_RANGE: tuple[Outcome, Outcome] = (_gives_up("with another one"), "arrives")
RANGES = [
    Row("200 to every range", ("file ignore-range",), requests=(1, 1), happens="big"),
    Row("200 to one range", ("file ignore-range times=1 after=2",), happens="big"),
    Row("a range that begins later, once", ("file shift-range by=1 times=1 after=1",), requests=_MEND, happens="big"),
    Row("a range that begins later, always", ("file shift-range by=1",), _OTHER_RANGE, (_TRIES, 1), happens="big"),
    Row("a range that begins earlier, always", ("file shift-range by=-1",), _OTHER_RANGE, (1 + 2 * _TRIES, 1),
        happens="big"),
    Row("a range that ends earlier, once", ("file stop-range by=-100 times=1",), requests=_MEND, happens="big"),
    Row("a range that ends earlier, always", ("file stop-range by=-100",), requests=(2 * PARTS, 1), happens="big"),
    Row("a range that ends later, once", ("file stop-range by=100 times=1",), requests=_MEND, happens="big"),
    Row("a range that ends later, always", ("file stop-range by=100",), _OTHER_RANGE, (_TRIES, 1), happens="big"),
    Row("Content-Range begins later than the body", ("file content-range shift=1",), _OTHER_RANGE, (_TRIES, 1),
        happens="big"),
    Row("Content-Range is shorter than the body", ("file content-range last=-50",), _OTHER_RANGE, (_TRIES, 1),
        happens="big"),
    Row("Content-Range is shorter than a chunked body", ("file content-range last=-50 times=3", "file chunked"),
        requests=(PARTS + 3, 1)),
    Row("Content-Range is longer than the body", ("file content-range last=50",), _OTHER_RANGE, (_TRIES, 1),
        happens="big"),
    Row("Content-Range without a size", ("file content-range total=*",), requests=(2, 1), happens="big"),
    Row("Content-Range with another size", ("file content-range total=99999",), (_WRONG_SIZE, "arrives"), (2, 1),
        happens="big"),
    Row("no Content-Range, once", ("file header Content-Range times=1",), requests=_MEND),
    Row("no Content-Range, always", ("file header Content-Range",), _OTHER_RANGE, (_TRIES, 1), happens="big"),
    Row("multipart/byteranges, once", ("file multipart times=1",), requests=_MEND, happens="big"),
    Row("multipart/byteranges, always", ("file multipart",), _OTHER_RANGE, (_TRIES, 1), happens="big"),
    Row("another file's range",
        (r"file raw text='HTTP/1.1 206 OK\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nfalse'",),
        (_WRONG_SIZE, Fails(TransferError, "HTTP 206")), (2, 1)),
]  # fmt: skip

# --- another file than before -----------------------------------------------------------------------------------------

_NO_DATE = "file header Last-Modified"
_WEAK = "file header ETag value='W/\"x\"'"
_FALSE_DIGEST = f"file header x-bce-content-sha256 value={'0' * 64}"
CHANGES = [
    Row("new bytes in the middle, once", (new_bytes(after=2),), requests=(2 * PARTS, 1), happens="big"),
    Row("new bytes at every request", (new_bytes(times=None),), (Fails(SourceChangedError, "changed"), "arrives"),
        (2 * PARTS, 1)),
    Row("new bytes after a cut", ("file cut at=$mid times=1", new_bytes(after=1)), requests=(2 * PARTS + 2, 3)),
    Row("new bytes, and If-Range is ignored", ("file ignore-if-range", new_bytes(after=2)), requests=(2 * PARTS, 1),
        happens="big"),
    Row("a new ETag on old bytes, once", ("file change-etag times=1 after=2",), requests=(2 * PARTS, 1), happens="big"),
    Row("a new ETag at every request", ("file change-etag",), (Fails(SourceChangedError, "changed"), "arrives"),
        (2 * PARTS, 1)),
    Row("a weak ETag and a date", (_WEAK,)),
    Row("a weak ETag alone", (_WEAK, _NO_DATE), requests=(2, 1)),
    Row("a weak ETag alone, cut once", (_WEAK, _NO_DATE, "file cut at=$mid times=1"), requests=(5, 3)),
    Row("a weak ETag alone, cut always", (_WEAK, _NO_DATE, "file cut at=$mid"),
        Fails(SourceChangedError, "no ETag or date"), (6, 4)),
    Row("no validator", ("file header ETag", _NO_DATE), requests=(2, 1)),
    Row("a false byte, once", (with_checksums, "file corrupt at=$mid times=1"), requests=_TWICE),
    Row("a false byte, always", (with_checksums, "file corrupt at=$mid"), Fails(IntegrityError, "announced"), _TWICE,
        old=True),
    Row("a false digest", (_FALSE_DIGEST,), Fails(IntegrityError, "announced 0000"), _TWICE),
    Row("gzip though identity was asked", ("file gzip",), Fails(TransferError, "encoded as gzip"), (1, 1)),
    Row("gzip though identity was asked, size not declared", ("file gzip",), Fails(TransferError, "encoded as gzip"),
        (1, 1), sized=False),
    Row("gzip in the middle", ("file gzip after=2",), (Fails(TransferError, "encoded as gzip"), "arrives"), (PARTS, 1),
        happens="big"),
]  # fmt: skip

# --- redirects --------------------------------------------------------------------------------------------------------

_METADATA = {
    "metadata address": "http://169.254.169.254",
    "metadata address as a number": "http://2852039166",
    "metadata address in IPv6": "http://[::ffff:169.254.169.254]",
    "metadata address of another cloud": "http://100.100.100.200",
    "metadata address of IPv6": "http://[fd00:ec2::254]",
    "private address": "http://10.0.0.1",
    "loopback": "http://127.0.0.2:$port",
    "IPv6 loopback": "http://[::1]:$port",
    "any address": "http://0.0.0.0:$port",
}
_UNSAFE = Fails(UnsafeLinkError, "not a public host")
REDIRECTS = [
    *[
        Row(f"{status} to the same host", (f"file redirect {{target}} status={status} times=1",), requests=_MEND)
        for status in (301, 302, 303, 307, 308)
    ],
    Row("redirected to another allowed host", ("file redirect http://localhost:$port{target} times=1",),
        requests=_MEND),
    *[
        Row(f"redirected to a {what}", (f"file redirect {origin}/x?token={CANARY}",), _UNSAFE, (1, 1))
        for what, origin in _METADATA.items()
    ],
    *[
        Row(f"the link points to a {what}", (links_to(origin),), _UNSAFE, (0, 0), happens="neither")
        for what, origin in _METADATA.items()
    ],
    Row("redirected from https to http",
        (links_to("https://localhost:$port", tls=True), "file redirect http://127.0.0.1:$port{target}"),
        Fails(UnsafeLinkError, "from https to http"), (1, 1)),
    Row("redirected in a loop", ("file redirect {target}",), Fails(TransferError, "redirects more than 5"), (6, 6)),
    Row("redirected to nowhere", ("file status 302",), Fails(TransferError, "without saying where"), (1, 1)),
    Row("redirected to a file", ("file redirect file:///etc/passwd",), Fails(UnsafeLinkError, r"no http\(s\)"), (1, 1)),
    Row("redirected with a password", (f"file redirect http://me:{quote(CANARY, safe='')}@127.0.0.1:$port{{target}}",),
        Fails(UnsafeLinkError, "user name"), (1, 1)),
]  # fmt: skip

# --- refusals, and the host's bad days --------------------------------------------------------------------------------

_LATER = ("", "retry_after=7", "retry_after='$soon'", "retry_after=99999999999", "retry_after=-5", "retry_after=soon")
STATUSES = [
    *[
        Row(f"{status} once", (f"file status {status} times=1",), requests=_MEND, listings=3)
        for status in (401, 403, 404, 410, 412)
    ],
    *[
        Row(
            f"{status} always, Retry-After {'said' if later else 'not said'}", (f"file status {status} {later}",),
            Fails(LinkRefusedError, f"HTTP {status}"), (2, 2), listings=3,
        )
        for status in (401, 403, 404, 410, 412)
        for later in ("", "retry_after=99999")
    ],
    *[Row(f"{status} once", (f"file status {status} times=1",), requests=(2, 2), listings=2) for status in (400, 416)],
    *[
        # With and without a range, by the old link and by a fresh one.
        Row(f"{status} always", (f"file status {status}",), Fails(LinkRefusedError, f"HTTP {status}"), (4, 2),
            listings=3)
        for status in (400, 416)
    ],
    Row("416 in the middle, once", ("file status 416 times=1 after=2",), requests=(2 * PARTS, 1), happens="big"),
    Row("403 in the middle, once", ("file status 403 times=1 after=2",), requests=(PARTS + 1, 1), listings=2,
        happens="big"),
    *[
        Row(
            f"{status} with every kind of Retry-After",
            tuple(f"file status {status} {later} times=1" for later in _LATER),
            requests=(PARTS + 6, 7), waits=(7, 60, 300), failures=6,
        )
        for status in (408, 425, 429, 500, 502, 503, 504)
    ],
    *[
        Row(f"{status} for ever", (f"file status {status}",), _gives_up(f"HTTP {status}"), _GIVE_UP)
        for status in (408, 425, 429, 500, 502, 503, 504)
    ],
    Row("503 in the middle, Retry-After in the past", ("file status 503 retry_after='$past' times=3 after=2",),
        requests=(PARTS + 3, 1), happens="big"),
    *[
        Row(f"{status}, which is no file", (f"file status {status}",), Fails(TransferError, f"HTTP {status}"), (1, 1))
        for status in (201, 300, 304, 501, 505)
    ],
]  # fmt: skip

# --- links that end, listings that change -----------------------------------------------------------------------------

_EXPIRED = Fails(LinkExpiredError, "as expired")
# The first listing; up to ten failures, with pauses of 5 ms and 10 ms at least, in four times `cap`; one for who is late.
_OUTAGE = 12
LINKS = [
    Row("links end before the first request", (links_end(),), requests=_MEND, listings=2),
    Row("links end between ranges", (links_end(after=3),), requests=(PARTS + 2, 2), listings=3),
    Row("links end while a range is broken", ("file cut at=$mid times=1", links_end(after=2)),
        requests=(PARTS + 3, 3), listings=3),
    Row("links end at once, always", (links_end(times=None),), _EXPIRED, (2, 2), listings=3),
    Row("the host says expired, always", ("file status 403 error=RequestExpired",), _EXPIRED, (2, 2), listings=3),
    Row("renewed: fewer files", (relisted(fewer),), Fails(TransferError, "no link"), (1, 1), listings=_OUTAGE),
    Row("renewed: other sizes", (relisted(other_sizes),), Fails(SourceChangedError, "another size"), (2, 2),
        listings=6),
    Row("renewed: another order", (relisted(reordered),), requests=_MEND, listings=2),
]  # fmt: skip

# --- pages in a file's place ------------------------------------------------------------------------------------------

_PAGES = {
    "an HTML page": "file body type=text/html",
    "an HTML page called a file": "file body type=application/octet-stream",
    "an HTML page after a comment": "file body '\ufeff<!-- gateway -->\n <!DOCTYPE html><title>Log in</title>'",
    "an XML error": "file body '<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>' type=application/xml",
    "a JSON error": 'file body \'{"code": "AccessDenied", "message": "no", "requestId": "1"}\' type=application/json',
}
_HTML = b"<!DOCTYPE html>\n<html><body>" + b"<p>NDVI 0.7</p>" * 4000 + b"</body></html>"
_HONEST: dict[str, dict[str, Content]] = {
    "HTML files": {"report.html": Memory(_HTML), "small.HTM": Memory(_HTML[:999])},
    "XML files": {
        "big.xml": Memory(b"<Error><Code>1</Code>" + b"<x/>" * 15000 + b"</Error>"),
        "small.xml": Memory(b"<Error/>"),
    },
    "JSON files": {
        "big.json": Memory(b'{"code": 1, "message": "x"}\n' * 3000),
        "small.json": Memory(b'{"code": "E", "message": "x", "requestId": "1"}'),
    },
    "tables in HTML": {"big.xls": Memory(_HTML), "small.doc": Memory(_HTML[:500])},
    "JSON files of other names": {
        "big.meta": Memory(b'{"code": "E", "message": "x"}' + b" " * 60000),
        "small.status": Memory(b'{"code": "E", "message": "x"}'),
    },
    "text files": {"big.txt": Memory(_HTML), "small": Memory(_HTML[:500])},
}
PAGES = [
    *[
        Row(f"{what}, always", (line,), Fails(IntegrityError, "in the file's place"), (2, 2), sized=False)
        for what, line in _PAGES.items()
    ],
    *[Row(f"{what}, once", (f"{line} times=1",), requests=_MEND, sized=False) for what, line in _PAGES.items()],
    Row(
        "a JSON error with a weak ETag",
        (_PAGES["a JSON error"], _WEAK),
        Fails(IntegrityError, "in the file's place"),
        (2, 2),
        files=_HONEST["JSON files"],
        sized=False,
    ),
    Row("an HTML page, size declared", ("file body",), _WRONG_SIZE, (2, 2)),
    *[
        Row(f"honest {what}", (), happens="neither", files=files, requests=(7, 1), sized=False)
        for what, files in _HONEST.items()
    ],
]

# --- the destination --------------------------------------------------------------------------------------------------

_DISK_OR_STORE = Fails(DestinationError, "refused|free|scripted")
DESTINATIONS = [
    Row("full", (), _DISK_OR_STORE, happens="neither", store="full"),
    Row("read-only", (), _DISK_OR_STORE, happens="neither", store="read-only"),
    Row("full in the middle", (), (_DISK_OR_STORE, "arrives"), happens="neither", store="full in the middle"),
    Row("revoked in the middle", (), (_DISK_OR_STORE, "either"), happens="neither",
        store="revoked in the middle", old=True),
    Row("does not give the name", (), _DISK_OR_STORE, happens="neither", store="refuses the name", old=True),
    Row("SlowDown for a moment", (), happens="neither", store="busy for a moment", sinks=("s3",)),
    Row("SlowDown for ever", (), _DISK_OR_STORE, happens="neither", store="busy for ever", sinks=("s3",)),
    Row("loses connections", (), happens="neither", store="loses connections", sinks=("s3",)),
    Row("loses the last answer", (), happens="neither", store="loses the last answer", sinks=("s3",)),
    Row("loses answers", (), happens="neither", store="loses answers", sinks=("s3",)),
    Row("fails to complete under a 200", (), (_DISK_OR_STORE, "arrives"), happens="neither",
        store="fails under a 200", sinks=("s3",)),
]  # fmt: skip

MATRIX = [
    *CONNECTION, *HEADS, *LENGTHS, *EMPTY, *RANGES, *CHANGES, *REDIRECTS, *STATUSES, *LINKS, *PAGES, *DESTINATIONS,
]  # fmt: skip
