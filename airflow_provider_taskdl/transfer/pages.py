"""Tells a page of a gateway or an error of a store, sent with status 200, from the file that was asked for."""

from __future__ import annotations

import json
import re

# Of what may be a page no more than this is looked at.
_LOOK_AT = 4096
_HTML = re.compile(rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_XML_ERROR = re.compile(rb"<Error[\s>]")
_PREAMBLE = ((b"<!--", b"-->"), (b"<?", b"?>"))
_SAYS_WHAT = frozenset({"code", "error", "status"})
_SAYS_WHY = frozenset({"message", "msg", "error"})
_SAYS_MORE = frozenset(
    {"data", "detail", "details", "path", "requestid", "request_id", "result", "success", "timestamp"}
)

# What such content is called where it is honest.
_NAMES = {
    "an HTML page": frozenset({"htm", "html", "shtml", "xhtml"}),
    "an XML error": frozenset({"xml"}),
    "a JSON error": frozenset({"geojson", "json", "jsonl", "ndjson"}),
}
_TEXTS = frozenset({"", "log", "md", "text", "txt"})


def page_in_place_of(name: str, content: bytes, *, is_stored: bool) -> str | None:
    """Return what was sent in the place of a file, in words, or ``None`` if it may be the file.

    The host's ``Content-Type`` is no witness: stores repeat what somebody once guessed. The content is one, and the
    file's own name says whether such content is to be expected.

    :param name: The file's name.
    :param content: Its beginning; all of it, if that is short.
    :param is_stored: Whether the host gave a validator or a digest, as it does for what it stores and hardly ever for
        what it says on the way.
    """
    found = _kind(content[:_LOOK_AT], is_all=len(content) <= _LOOK_AT)
    if found is None:
        return None
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if ending in _NAMES[found] and (is_stored or found == "an HTML page"):
        return None
    return None if is_stored and ending in _TEXTS else found


def _kind(content: bytes, *, is_all: bool) -> str | None:
    text = _without_preamble(content.removeprefix(b"\xef\xbb\xbf"))
    if _HTML.match(text):
        return "an HTML page"
    if _XML_ERROR.match(text) and b"<Code>" in text:
        return "an XML error"
    return "a JSON error" if is_all and text.startswith(b"{") and _is_json_error(text) else None


def _without_preamble(text: bytes) -> bytes:
    while True:
        text = text.lstrip()
        end = next((end for start, end in _PREAMBLE if text.startswith(start) and end in text), None)
        if end is None:
            return text
        text = text.partition(end)[2]


def _is_json_error(text: bytes) -> bool:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    keys = {str(key).lower() for key in document}
    return bool(keys & _SAYS_WHAT and keys & _SAYS_WHY) and keys <= _SAYS_WHAT | _SAYS_WHY | _SAYS_MORE
