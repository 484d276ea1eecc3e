"""File names are data: what may become a name at the destination."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from airflow_provider_taskdl.exceptions import UnsafeFileNameError
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER

MAX_NAME_BYTES = 255

# RFC 6266 §4.1: a parameter, whose value is quoted or is not.
_PARAMETER = re.compile(r""";\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"]*)""")
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}


def check_names(names: Iterable[str]) -> None:
    """Judge all names of a listing.

    :param names: The names as the service gives them.
    :raises UnsafeFileNameError: One is no plain file name, or two are the same (after Unicode normalisation, since
        some disks do not tell such names apart). Two that differ in case alone pass, as most stores have it.
    """
    seen: dict[str, str] = {}
    for name in names:
        _check_name(name)
        form = unicodedata.normalize("NFC", name)
        if form in seen:
            raise UnsafeFileNameError(
                f"two files of the task have the same name; one would replace the other: {seen[form]!r}", file=name
            )
        seen[form] = name


def _check_name(name: str) -> None:
    def refuse(why: str) -> UnsafeFileNameError:
        return UnsafeFileNameError(f"the service gives a file the name {name[:300]!r}, which {why}", file=name[:300])

    if not name.strip():
        raise refuse("is empty")
    if name in (".", "..") or "/" in name or "\\" in name:
        raise refuse("leads out of the destination's directory")
    # Cc: control characters; Cf: among them the ones that turn text around; Zl, Zp: line ends; Cs: half characters.
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in name):
        raise refuse("holds a control character")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise refuse(f"is longer than {MAX_NAME_BYTES} bytes")
    if name != name.strip() or name == OWN_FOLDER:
        raise refuse("begins or ends with a space" if name != name.strip() else "is reserved")


def name_in(disposition: str | None) -> str | None:
    """Return the file name in a ``Content-Disposition`` field (RFC 6266), not yet judged; ``None`` if there is none.

    :param disposition: The field's value, its bytes as Latin-1.
    """
    values = {name.lower(): value.strip() for name, value in _PARAMETER.findall(disposition or "")}
    charset, _, rest = values.get("filename*", "").partition("'")
    encoding, encoded = _CHARSETS.get(charset.lower()), rest.partition("'")[2]
    if encoding and encoded:
        return unquote_to_bytes(encoded).decode(encoding, "replace")
    plain = values.get("filename", "")
    if plain.startswith('"'):
        plain = re.sub(r'\\(["\\])', r"\1", plain[1:-1])
    try:
        plain = plain.encode("latin-1").decode()  # what many hosts send, though it is not what the standard says
    except UnicodeError:
        pass
    return plain or None
