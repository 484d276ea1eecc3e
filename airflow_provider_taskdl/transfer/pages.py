"""Tells a page of a gateway or an error of a store, sent with status 200, from the file that was asked for."""

from __future__ import annotations

import json
import re

# Of what may be a page no more than this is looked at.
_LOOK_AT = 4096
_HTML_PAGE = "an HTML page"
_HTML = re.compile(rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_XML_ERROR = re.compile(rb"<Error[\s>]")
_PREAMBLE = ((b"<!--", b"-->"), (b"<?", b"?>"))
_SAYS_WHAT = frozenset({"code", "error", "status"})
_SAYS_WHY = frozenset({"message", "msg", "error"})
_SAYS_MORE = frozenset(
    {"data", "detail", "details", "path", "requestid", "request_id", "result", "success", "timestamp"}
)
# What does not tell of a failure, besides nothing at all.
_SAYS_WELL = (200, "0", "200", "ok", "success")

# What HTML is called where it is honest; reports and tables are often exported as HTML for an office program.
_PAGES = frozenset({
    "asp", "aspx", "doc", "htm", "html", "jsp", "mht", "mhtml", "php", "shtml", "xht", "xhtml", "xls",
})  # fmt: skip
# What says nothing of the content.
_TEXTS = frozenset({"", "log", "md", "text", "txt"})
# What neither XML nor JSON is ever called.
_BINARIES = frozenset({
    "7z", "arrow", "avi", "avro", "bin", "bmp", "bz2", "db", "dbf", "doc", "docx", "exe", "feather", "gif", "gpkg",
    "grb", "grb2", "grib", "grib2", "gz", "h4", "h5", "hdf", "hdf5", "he5", "img", "jar", "jp2", "jpeg", "jpg",
    "kmz", "las", "laz", "lz4", "mat", "mbtiles", "mdb", "mov", "mp3", "mp4", "nc", "nc4", "npy", "npz", "ods",
    "odt", "onnx", "orc", "parquet", "pbf", "pdf", "pkl", "png", "ppt", "pptx", "rar", "shp", "shx", "sqlite",
    "tar", "tgz", "tif", "tiff", "wav", "webp", "whl", "xls", "xlsx", "xz", "zip", "zst",
})  # fmt: skip


def page_in_place_of(name: str, content: bytes, *, is_stored: bool) -> str | None:
    """Return what was sent in the place of a file, in words, or ``None`` if it may be the file.

    The host's ``Content-Type`` is no witness: stores repeat what somebody once guessed. The content is one, and the
    file's own name says whether such content is to be expected.

    :param name: The file's name.
    :param content: Its beginning; all of it, if that is short.
    :param is_stored: Whether the host gave a strong ETag, a date or a digest, as it does for what it stores and hardly
        ever for what it says on the way.
    """
    found = _kind(content[:_LOOK_AT], is_all=len(content) <= _LOOK_AT)
    if found is None:
        return None
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    if found == _HTML_PAGE:
        is_honest = ending in _PAGES or (is_stored and ending in _TEXTS)
    else:
        is_honest = is_stored and ending not in _BINARIES
    return None if is_honest else found


def _kind(content: bytes, *, is_all: bool) -> str | None:
    text = _without_preamble(content.removeprefix(b"\xef\xbb\xbf"))
    if _HTML.match(text):
        return _HTML_PAGE
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
    fields = {key.lower(): value for key, value in document.items()}
    if not fields.keys() & _SAYS_WHY or fields.keys() - (_SAYS_WHAT | _SAYS_WHY | _SAYS_MORE):
        return False
    return any(_is_failure(key, fields[key]) for key in fields.keys() & _SAYS_WHAT)


def _is_failure(key: str, value: object) -> bool:
    if isinstance(value, bool):
        return value == (key == "error")
    said = value.lower() if isinstance(value, str) else value
    return bool(said) and said not in _SAYS_WELL
