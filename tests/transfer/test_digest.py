"""What a host announces of a file's bytes is checked; what cannot be read is not announced."""

from __future__ import annotations

import base64
import hashlib
import zlib
from email.message import Message
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import IntegrityError
from airflow_provider_taskdl.transfer.digest import Digests, announced_digests

DATA = b"the bytes of a file"
MD5, SHA256 = hashlib.md5(DATA), hashlib.sha256(DATA)
CRC32 = zlib.crc32(DATA)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


CRC32_B64 = b64(CRC32.to_bytes(4, "big"))
HEX = {"md5": MD5.hexdigest(), "sha256": SHA256.hexdigest(), "crc32": f"{CRC32:08x}"}
FIELDS = [
    ("Content-MD5", b64(MD5.digest()), "md5"),
    ("content-md5", b64(MD5.digest()), "md5"),
    ("x-bce-content-crc32", str(CRC32), "crc32"),
    ("x-bce-content-crc32", "0", "crc32"),
    ("x-bce-content-sha256", SHA256.hexdigest().upper(), "sha256"),
    ("x-amz-checksum-crc32", CRC32_B64, "crc32"),
    ("x-amz-checksum-sha256", b64(SHA256.digest()), "sha256"),
    ("Repr-Digest", f"sha-256=:{b64(SHA256.digest())}:", "sha256"),
    ("Repr-Digest", f"sha-512=:AAAA:, md5=:{b64(MD5.digest())}:;p=1", "md5"),
    ("x-goog-hash", f"crc32c=AAAAAA==,md5={b64(MD5.digest())}", "md5"),
]


def message(*fields: tuple[str, str]) -> Message:
    made = Message()
    for name, value in fields:
        made[name] = value
    return made


def digested(announced: dict[str, str], data: bytes = DATA) -> Digests:
    digests = Digests(announced)
    for start in range(0, len(data), 5):
        digests.update(memoryview(data)[start : start + 5])
    return digests


@pytest.mark.parametrize(("name", "value", "algorithm"), FIELDS)
def test_a_field_is_read(name: str, value: str, algorithm: str) -> None:
    expected = "00000000" if value == "0" else HEX[algorithm]
    assert announced_digests(message((name, value))) == {algorithm: expected}


@pytest.mark.parametrize(("name", "value", "algorithm"), [field for field in FIELDS if field[1] != "0"])
def test_what_was_announced_is_checked(name: str, value: str, algorithm: str) -> None:
    announced = announced_digests(message((name, value)))
    digested(announced).verify()
    with pytest.raises(IntegrityError, match=f"have {algorithm} .* announced {HEX[algorithm]}"):
        digested(announced, DATA + b"!").verify()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-MD5", ""), ("Content-MD5", "not base64"), ("Content-MD5", "AAAA"), ("Content-MD5", "ä"),
        ("Content-MD5", MD5.hexdigest()),
        ("x-bce-content-crc32", "-1"), ("x-bce-content-crc32", "1.5"), ("x-bce-content-crc32", "0x1"),
        ("x-bce-content-crc32", "4294967296"), ("x-bce-content-crc32", "9" * 30), ("x-bce-content-crc32", "١"),
        ("x-bce-content-sha256", "UNSIGNED-PAYLOAD"), ("x-bce-content-sha256", SHA256.hexdigest()[:-1]),
        ("x-amz-checksum-crc32", f"{CRC32_B64}-3"), ("x-amz-checksum-sha256", f"{b64(SHA256.digest())}-2"),
        ("x-amz-checksum-crc32c", CRC32_B64), ("x-amz-checksum-crc64nvme", CRC32_B64),
        ("Repr-Digest", f"sha-256={b64(SHA256.digest())}"), ("Repr-Digest", "sha-256=:AAAA:"),
        ("Repr-Digest", "unixsum=:AAAA:"), ("Content-Digest", f"sha-256=:{b64(SHA256.digest())}:"),
        ("x-goog-hash", "crc32c=AAAAAA=="), ("ETag", f'"{MD5.hexdigest()}"'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_is_of_parts_is_not_announced(name: str, value: str) -> None:
    assert announced_digests(message((name, value))) == {}


def test_every_line_of_a_field_counts() -> None:
    fields = message(("x-goog-hash", "crc32c=AAAAAA=="), ("x-goog-hash", f"md5={b64(MD5.digest())}"))
    assert announced_digests(fields) == {"md5": HEX["md5"]}


def test_the_digest_of_what_the_host_unpacks_on_the_way_says_nothing() -> None:
    fields = {"x-goog-hash": f"md5={b64(MD5.digest())}", "x-goog-stored-content-encoding": "gzip"}
    assert announced_digests(fields) == {}


def test_several_digests_are_all_checked() -> None:
    announced = announced_digests({"Content-MD5": b64(MD5.digest()), "x-bce-content-crc32": str(CRC32 ^ 1)})
    with pytest.raises(IntegrityError, match="crc32"):
        digested(announced).verify()


def test_sha256_is_always_computed() -> None:
    assert digested({}).sha256 == SHA256.hexdigest()
    assert Digests({}).sha256 == hashlib.sha256().hexdigest()


NAMES = sorted({name for name, _, _ in FIELDS})


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=60)))
def test_any_value_is_read_or_ignored(fields: dict[str, str]) -> None:
    lengths = {"md5": 32, "sha256": 64, "crc32": 8}
    for name, digest in announced_digests(fields).items():
        assert len(digest) == lengths[name]
        assert bytes.fromhex(digest)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_however_the_bytes_come_the_digests_are_theirs(data: bytes, cuts: list[int]) -> None:
    digests = Digests(
        {
            "md5": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "crc32": f"{zlib.crc32(data):08x}",
        }
    )
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(places):
        digests.update(memoryview(data)[start:end])
    digests.verify()
