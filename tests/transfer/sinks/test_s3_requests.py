"""Bulk bytes by signed links: what is sent, what is sent again, what is left to the client, and what never shows."""

from __future__ import annotations

import base64
import gc
import hashlib
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest

from airflow_provider_taskdl.exceptions import DestinationError
from airflow_provider_taskdl.transfer.sinks.base import Origin
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
from tests.s3 import Fault, S3Front, S3Server, Seen
from tests.transfer.conftest import Certificate
from tests.transfer.sinks.test_s3 import DATA, FAST, ORIGIN, PART, Rig, write_parts

pytestmark = pytest.mark.s3
DENIED = b"<Error><Code>AccessDenied</Code><Message>No. Signature=abcdef</Message></Error>"


@pytest.fixture
def rig(s3_server: S3Server, s3_front: S3Front) -> Iterator[Rig]:
    rig = Rig(s3_server, s3_front)
    yield rig
    rig.client.close()
    rig.admin.close()


def first(count: int, fault: Fault) -> Callable[[Seen], Fault | None]:
    """Fail the first parts."""
    left = [fault] * count

    def rule(seen: Seen) -> Fault | None:
        return left.pop() if seen.is_part and left else None

    return rule


def is_by_link(seen: Seen) -> bool:
    return "X-Amz-Signature=" in seen.query


def test_parts_go_by_links_signed_as_the_clients_requests_are(rig: Rig) -> None:
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    parts = [seen for seen in rig.front.seen if seen.is_part]
    assert all(map(is_by_link, parts))
    assert all("authorization" not in seen.fields and "AWSAccessKeyId" not in seen.query for seen in parts)
    for seen in parts:
        data = DATA[(seen.part - 1) * PART : seen.part * PART]
        assert seen.fields["content-md5"] == base64.b64encode(hashlib.md5(data).digest()).decode()


def test_no_signature_of_a_link_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "botocore")
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    signatures = [parse_qs(seen.query)["X-Amz-Signature"][0] for seen in rig.front.seen if is_by_link(seen)]
    assert len(signatures) > 1
    assert not [signature for signature in signatures if signature in caplog.text]


@pytest.mark.parametrize(
    "fault",
    [
        b"",
        (500, b""),
        (503, b"<Error><Code>SlowDown</Code></Error>"),
        (400, b"<Error><Code>RequestTimeout</Code></Error>"),
        (400, b"<Error><Code>BadDigest</Code></Error>"),
    ],
)
def test_weather_is_waited_out_with_a_fresh_link(rig: Rig, fault: Fault) -> None:
    rig.front.rule = first(1, fault)
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    assert rig.content("f") == DATA
    assert len(rig.front.parts) == 12
    assert all(is_by_link(seen) for seen in rig.front.seen if seen.is_part)


def test_tries_are_counted(rig: Rig) -> None:
    rig.front.rule = first(100, (503, b"<Error><Code>SlowDown</Code></Error>"))
    sink = rig.open()
    with pytest.raises(DestinationError) as caught:
        sink.write(0, memoryview(DATA)[:PART])
    assert caught.value.code == "SlowDown"
    assert caught.value.retryable
    assert rig.front.parts == [1] * FAST.count
    sink.abort()


def test_a_connection_that_was_closed_while_idle_is_no_failure(rig: Rig) -> None:
    sink = rig.open()
    for number in range(11):
        # The server closes after each answer, without having said so.
        sink.write(number * PART, memoryview(DATA)[number * PART : (number + 1) * PART])
        for stack in rig.store.requests._line._idle.values():  # type: ignore[union-attr]
            for connection in stack:
                connection.sock.shutdown(2)
    sink.commit()
    assert rig.content("f") == DATA
    assert rig.front.parts == list(range(1, 12))


def test_where_links_are_refused_the_client_sends_the_bytes(rig: Rig) -> None:
    rig.front.rule = lambda seen: (403, DENIED) if is_by_link(seen) else None
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    assert rig.content("f") == DATA
    assert sum(is_by_link(seen) for seen in rig.front.seen) == 1


def test_where_only_the_client_finds_the_way_it_sends_the_bytes(rig: Rig) -> None:
    rig.front.rule = lambda seen: b"" if is_by_link(seen) else None
    sink = rig.open()
    write_parts(sink)
    sink.commit()
    assert rig.content("f") == DATA
    assert sum(is_by_link(seen) for seen in rig.front.seen) == 2


@pytest.mark.parametrize("size", [10, len(DATA)])
@pytest.mark.parametrize("fault", [(403, DENIED), (500, DENIED), (400, b"<Error>"), (302, b""), b""])
def test_a_link_shows_in_no_error(rig: Rig, size: int, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rig.store.prepare(0)
    rig.front.rule = lambda seen: fault if seen.method == "PUT" else None
    sink = rig.open(origin=Origin(size))

    def bring() -> None:
        write_parts(sink, DATA[:size])
        sink.commit()

    with pytest.raises(DestinationError) as caught:
        bring()
    text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + caplog.text
    for secret in ("X-Amz", "abcdef", "test-access-key"):
        assert secret not in text
    sink.abort()
    assert rig.uploads() == []


def test_an_errors_code_and_request_are_the_stores(rig: Rig) -> None:
    rig.front.rule = lambda seen: (403, DENIED)
    for ask in (
        lambda: rig.store.prepare(0),
        lambda: rig.store.find(["a"]),
        lambda: rig.store.find(map(str, range(20))),
        rig.open,
        lambda: rig.store.read_small("x"),
        lambda: rig.store.write_small("x", b""),
        lambda: rig.store.remove_small("x"),
        lambda: rig.store.sha256("x"),
    ):
        with pytest.raises(DestinationError) as caught:
            ask()
        assert caught.value.code in ("AccessDenied", "403")
        assert str(caught.value.target).startswith(f"s3://{rig.bucket}/")
        assert caught.value.__context__ is None


def test_a_bucket_that_is_missing_is_told_before_any_byte_moves(s3_server: S3Server) -> None:
    client = s3_server.client()
    with pytest.raises(DestinationError) as caught:
        S3Store(client, "no-such-bucket", "x").prepare(0)
    assert caught.value.code == "NoSuchBucket"
    client.close()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("verify", [True, False, "chain"])
def test_tls_is_verified_as_the_client_does_it(s3_server: S3Server, certificate: Certificate, verify: Any) -> None:
    front = S3Front(s3_server, certificate.server)
    client = s3_server.client(front.url, verify=str(certificate.chain) if verify == "chain" else verify)
    store = S3Store(client, s3_server.bucket(), "x", min_part_size=1, tries=FAST)
    try:
        if verify is True:
            with pytest.raises(DestinationError, match="SSLError"):
                store.write_small("x", b"abc")
            assert front.seen == []
            return
        sink = store.open("f", ORIGIN, part_size=PART, replace=True)
        write_parts(sink, threads=4)
        assert sink.commit().size == len(DATA)
        parts = [seen for seen in front.seen if seen.is_part]
        assert all(is_by_link(seen) and "content-md5" not in seen.fields for seen in parts)
    finally:
        client.close()
        front.shutdown()
        front.server_close()


def test_a_proxy_of_the_client_is_used(s3_server: S3Server, s3_front: S3Front) -> None:
    from botocore.config import Config

    # The front takes a proxy's requests for its own: their targets are whole URLs.
    client = s3_server.client("http://s3.test.invalid", config=Config(proxies={"http": s3_front.url}))
    store = S3Store(client, "b", "x", tries=FAST)
    s3_front.rule = lambda seen: (200, b"")
    store.write_small("f", b"abc")
    assert [is_by_link(seen) for seen in s3_front.seen] == [True]
    assert s3_front.seen[0].fields["host"] == "s3.test.invalid"
    client.close()


@pytest.mark.parametrize("how", ["certificate", "proxies", "signature"])
def test_what_only_the_client_can_do_is_left_to_it(rig: Rig, s3_server: S3Server, certificate: Any, how: str) -> None:
    from botocore.config import Config

    config = {
        "certificate": Config(client_cert=(str(certificate.chain), str(certificate.key))),
        "proxies": Config(proxies_config={"proxy_use_forwarding_for_https": True}),
        "signature": Config(signature_version="s3"),
    }[how]
    client = s3_server.client(rig.front.url, config=config)
    store = S3Store(client, rig.bucket, "x")
    if how == "signature":  # this server knows no such signature: what counts is that no link was made
        with pytest.raises(DestinationError):
            store.write_small("f", b"abc")
    else:
        store.write_small("f", b"abc")
    assert not any(is_by_link(seen) or "Signature=" in seen.query for seen in rig.front.seen)
    client.close()


def test_connections_end_with_the_store(rig: Rig) -> None:
    store = rig.new()
    store.write_small("f", b"abc")
    (connections,) = store.requests._line._idle.values()  # type: ignore[union-attr]
    (connection,) = connections
    assert connection.sock is not None
    del store
    gc.collect()
    assert connection.sock is None
