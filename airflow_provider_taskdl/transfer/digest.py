"""Digests: the one that is kept (sha256) and those that a file host announces in its header fields."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from email.message import Message

from airflow_provider_taskdl.exceptions import IntegrityError

# RFC 9530 §2: Repr-Digest: sha-256=:<base64>:
_REPR_DIGEST = re.compile(r"\b(sha-256|md5)=:([A-Za-z0-9+/=]+):")
_GOOGLE_MD5 = re.compile(r"\bmd5=([A-Za-z0-9+/=]+)")


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


_ALGORITHMS: Mapping[str, Callable[[], hashlib._Hash | _Crc32]] = {
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32": _Crc32,
}


def announced_digests(headers: Mapping[str, str] | Message, *, whole: bool = True) -> dict[str, str]:
    """Return what the header fields of an answer say of the file's bytes: algorithm to hexadecimal digest.

    Read are ``Content-MD5`` (RFC 1864), ``Repr-Digest`` (RFC 9530), ``x-bce-content-crc32`` and
    ``x-bce-content-sha256`` (BOS), ``x-amz-checksum-crc32`` and ``-sha256`` (S3, whole-object ones) and
    ``x-goog-hash`` (GCS). A value that cannot be read counts as not announced.

    :param headers: The header fields.
    :param whole: Whether the answer holds the whole file. Hosts do not agree whether ``Content-MD5`` is that of the
        file or of a range.
    """
    found: dict[str, str] = {}

    def from_base64(algorithm: str, text: str | None) -> None:
        try:
            digest = base64.b64decode(text or "", validate=True).hex()
        except (ValueError, binascii.Error):
            return
        if len(digest) == {"sha256": 64, "md5": 32, "crc32": 8}[algorithm]:
            found.setdefault(algorithm, digest)

    if whole:
        from_base64("md5", headers.get("Content-MD5"))
    for name, value in _REPR_DIGEST.findall(headers.get("Repr-Digest") or ""):
        from_base64(name.replace("-", ""), value)
    # Of what is stored: another thing than what is sent where the host unpacks it on the way.
    if (headers.get("x-goog-stored-content-encoding") or "identity") == "identity":
        for value in _GOOGLE_MD5.findall(", ".join(_all(headers, "x-goog-hash"))):
            from_base64("md5", value)
    for algorithm in ("crc32", "sha256"):
        from_base64(algorithm, headers.get(f"x-amz-checksum-{algorithm}"))
    crc32 = headers.get("x-bce-content-crc32") or ""
    if crc32.isascii() and crc32.isdigit() and len(crc32) <= 10 and int(crc32) < 2**32:
        found.setdefault("crc32", f"{int(crc32):08x}")
    sha256 = (headers.get("x-bce-content-sha256") or "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", sha256):
        found.setdefault("sha256", sha256)
    return found


def _all(headers: Mapping[str, str] | Message, name: str) -> list[str]:
    if isinstance(headers, Message):
        return headers.get_all(name, [])
    return [headers[name]] if name in headers else []


class Digests:
    """Digests of a file, computed while its bytes pass by.

    :param announced: What the host says, by :func:`announced_digests`.
    """

    def __init__(self, announced: Mapping[str, str]) -> None:
        self._announced = dict(announced)
        self._hashes = {name: _ALGORITHMS[name]() for name in {"sha256", *announced}}

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        for value in self._hashes.values():
            value.update(data)

    @property
    def sha256(self) -> str:
        """The sha256 of all bytes so far, hexadecimal."""
        return self._hashes["sha256"].hexdigest()

    def verify(self) -> None:
        """Compare with what was announced.

        :raises IntegrityError: A digest differs.
        """
        for name, expected in self._announced.items():
            if (actual := self._hashes[name].hexdigest()) != expected:
                raise IntegrityError(f"the bytes have {name} {actual}, the file host announced {expected}")
