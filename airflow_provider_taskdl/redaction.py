"""What may be shown of a URL or a foreign text: never a signature, a token or a credential."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

HIDDEN = "***"
_CUT = "…"
# Fewer characters of a secret than this tell nothing, and would be found in any text.
_SHORTEST_PART = 4

# The scheme is bounded because an unbounded one costs quadratic time on long texts; a backslash does not end a URL, or
# what follows an escaped "&" (``\u0026`` in JSON) would be shown. Slashes may be escaped as well, or percent-encoded.
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,30}(?::|%(?:25)?3a)(?:\\{0,3}/|%(?:25)?2f){2}[^\s\"'<>]+", re.IGNORECASE)
# A link that was quoted once too often has its query in its path.
_QUERY = re.compile(r"%(?:25)*3f", re.IGNORECASE)
# A service may quote a request line or a lone parameter; these names carry signatures in the known signing schemes.
_PARAMETER = re.compile(
    r"(?:\b|(?<=3f)|(?<=26))((?:x-(?:amz|goog|bce|oss|cos)-[a-z-]{1,40}|authorization|signature|sign|sig|token|access_token|credential"
    r"|policy|key-pair-id|awsaccesskeyid|api_key|apikey)(?:=|%(?:25)*3d))[^\s&\"'<>]+",
    re.IGNORECASE,
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_BCE_AUTHORIZATION = re.compile(r"bce-auth-v\d(?:/|%(?:25)*2f)\S+", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Return ``url`` with its scheme, host, port and path only; ``?***`` stands for a query that was there.

    Also for one whose question mark is percent-encoded, however often. User information and fragment are dropped. A
    text that is no URL gives ``***``.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return HIDDEN
    if not parts.scheme or not host or _QUERY.search(parts.netloc):
        return HIDDEN
    shown_host = f"[{host}]" if ":" in host else host
    shown_port = f":{port}" if port is not None else ""
    path, *query = _QUERY.split(quote(parts.path, safe="/%:@!$&'()*+,;=-._~", errors="replace"), maxsplit=1)
    return f"{parts.scheme}://{shown_host}{shown_port}{path}{'?' + HIDDEN if query or parts.query else ''}"


def redact_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` with every URL redacted and every one of ``secrets`` (and their quoted forms) taken out.

    Of a secret that :func:`shortened` has cut, the part that is left is taken out.
    """
    forms = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""), quote(secret))}
    for form in sorted(forms, key=len, reverse=True):  # or one that is part of another would leave the rest of it
        text = text.replace(form, HIDDEN)
        for length in range(len(form) - 1, _SHORTEST_PART - 1, -1) if _CUT in text else ():
            text = text.replace(form[:length] + _CUT, HIDDEN + _CUT)
    text = _URL.sub(lambda match: redact_url(match.group()), text)
    text = _PARAMETER.sub(rf"\1{HIDDEN}", text)
    return _BCE_AUTHORIZATION.sub(HIDDEN, text)


def shortened(text: str, limit: int) -> str:
    """Return ``text``, cut behind ``limit`` characters."""
    return text if len(text) <= limit else f"{text[:limit]}{_CUT}"


def printable(text: str) -> str:
    """Return ``text`` with all characters escaped that could forge lines of a log or turn a text around."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def storable(text: str) -> str:
    """Return ``text`` with those characters escaped that a database or a message refuses: NUL, half surrogate pairs."""
    return _UNSTORABLE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


class NeverPickled:
    """Base of what is little else than a credential: a pickle of it would be one that lies about."""

    __slots__ = ()

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            f"a {type(self).__name__} holds a secret and is not to be pickled; make it anew where it is needed"
        )
