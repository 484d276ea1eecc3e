"""Keeps what others log of our own calls at level DEBUG from showing a secret.

The HTTP library logs the header fields of each answer as they came, and a service or gateway may echo in them what it
was sent: a token, a signature. The library of the object store logs the signature of each link that it signs, and with
it whoever reads the log could write to the store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOGGERS = (
    "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks", "botocore.auth",
)  # fmt: skip
_is_ours = ContextVar("_is_ours", default=False)


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep the libraries silent about the calls in this block; they go on to log everybody else's."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _is_ours.get()


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_not_ours)
