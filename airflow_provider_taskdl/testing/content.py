"""What a file of the emulator holds: bytes in memory, a file on disk, or any amount of made-up data."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

_READ = 1024 * 1024


class Content(ABC):
    """Bytes that can be read from any position; the digests are computed once, when they are asked for."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of bytes."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """A text that changes when the bytes do; the entity tag is made of it."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end."""

    def blocks(self) -> Iterator[bytes]:
        """Yield all of it, a megabyte at a time."""
        for offset in range(0, self.size, _READ):
            yield self.read(offset, _READ)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all of it, in hexadecimal."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()

    @cached_property
    def md5(self) -> str:
        """MD5 as ``Content-MD5`` has it: base64."""
        digest = hashlib.md5(usedforsecurity=False)
        for block in self.blocks():
            digest.update(block)
        return base64.b64encode(digest.digest()).decode()

    @cached_property
    def crc32(self) -> int:
        """CRC-32 as ``x-bce-content-crc32`` has it: an unsigned number."""
        value = 0
        for block in self.blocks():
            value = zlib.crc32(block, value)
        return value


class Memory(Content):
    """Bytes in memory.

    :param data: The bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self._data)

    @cached_property
    def identity(self) -> str:
        """The bytes' own digest."""
        return hashlib.sha1(self._data, usedforsecurity=False).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end."""
        return self._data[offset : offset + length]


class Disk(Content):
    """A file on disk, which must not change while it is served.

    :param path: Where it is.
    :raises OSError: It is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._stat = self._path.stat()

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._stat.st_size

    @property
    def identity(self) -> str:
        """Path, size and time of the last change."""
        return f"{self._path.resolve()} {self._stat.st_size} {self._stat.st_mtime_ns}"

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)


class Synthetic(Content):
    """Pseudo-random bytes of any amount, made when they are read and always the same for a seed.

    No two blocks are alike, so bytes that went missing, came twice or came out of order change the digest.

    :param size: Number of bytes.
    :param seed: Another seed gives other bytes.
    """

    _BLOCK = 64 * 1024
    _STEP = 4099  # a prime, so that the blocks begin at many different places of the noise

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size = size
        self._seed = seed
        self._noise = random.Random(seed).randbytes(4 * self._BLOCK)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._size

    @property
    def identity(self) -> str:
        """Size and seed."""
        return f"synthetic {self._size} {self._seed}"

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        first = offset // self._BLOCK
        made = b"".join(self._block(number) for number in range(first, -(-end // self._BLOCK)))
        return made[offset - first * self._BLOCK : end - first * self._BLOCK]

    def _block(self, number: int) -> bytes:
        head = hashlib.sha256(f"{self._seed} {number}".encode()).digest()
        start = number * self._STEP % (len(self._noise) - self._BLOCK)
        return head + self._noise[start : start + self._BLOCK - len(head)]


def as_content(value: Content | bytes | str | os.PathLike[str]) -> Content:
    """Return ``value`` as content: bytes as they are, a text as UTF-8, a path as the file there."""
    if isinstance(value, Content):
        return value
    if isinstance(value, bytes):
        return Memory(value)
    return Memory(value.encode()) if isinstance(value, str) else Disk(value)
