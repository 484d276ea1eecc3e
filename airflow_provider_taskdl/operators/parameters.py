"""Parameters as a template, an XCom or JSON may have left them become what the transfer takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.transfer.shard import Shard

_PAIR = re.compile(r"\s*[\[(]?\s*(\d+)\s*,\s*(\d+)\s*[\])]?\s*", re.ASCII)


def count_or_names(value: int | str | Collection[str] | None) -> int | Collection[str] | None:
    """Return ``expected_files``: a number, names, or nothing.

    :param value: That, also as text, or one name.
    :raises ConnectionConfigError: It is neither a number nor names.
    """
    if isinstance(value, str) and value.strip():
        if value.strip().isdecimal():
            return int(value)
        return [value] if (names := _listed(value)) is None else names
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(name, str) for name in value):
        return value
    raise ConnectionConfigError(f"expected_files must be a number or names, not {value!r}")


def patterns(value: str | Sequence[str] | None) -> str | Sequence[str] | None:
    """Return ``file_pattern``: one pattern, or several.

    :param value: That, also a list as text; numbers, which native rendering makes of some texts, are texts again.
    :raises ConnectionConfigError: It is something else.
    """
    found: Any = value
    if isinstance(value, str) and (several := _listed(value)) is not None:
        found = several
    if isinstance(found, Collection) and not isinstance(found, str | bytes | Mapping) and all(map(_is_word, found)):
        return [str(one) for one in found]
    if found is None or _is_word(found):
        return None if found is None else str(found)
    raise ConnectionConfigError(f"file_pattern must be a shell pattern, or several, not {value!r}")


def shard_of(value: Sequence[int | str] | str | None) -> Shard | None:
    """Return ``shard``, or ``None`` for all files.

    :param value: The shard's number and how many there are, as a pair, a list or text.
    :raises ConnectionConfigError: It is no such pair.
    """
    if value is None:
        return None
    found: Any = value
    if isinstance(value, str) and (pair := _PAIR.fullmatch(value)):
        found = pair.groups()
    if isinstance(found, list | tuple) and len(found) == 2:
        index, count = map(_whole_number, found)
        if index is not None and count is not None:
            return Shard(index, count)
    raise ConnectionConfigError(
        f"shard must be a pair of whole numbers, which one (from 0 on) and of how many, such as (0, 4), not {value!r}"
    )


def shard_count(value: int | str | Sequence[Any]) -> int:
    """Return how many shards a task was spread over.

    :param value: Their number, also as text, or the list of all of them.
    :raises ConnectionConfigError: It is neither, or there is none.
    """
    count = _whole_number(value)
    if count is None and isinstance(value, list | tuple):
        listed = [shard_of(one) for one in value]
        if all(shard == Shard(index, len(listed)) for index, shard in enumerate(listed)):
            count = len(listed)
    if count is None or count < 1:
        raise ConnectionConfigError(f"shards must be their number, or what shards(n) gives, not {value!r}")
    return count


def _is_word(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _whole_number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _listed(text: str) -> list[str] | None:
    """Return the words of a list that a template has made text of."""
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return list(found) if isinstance(found, list | tuple) and all(isinstance(one, str) for one in found) else None
