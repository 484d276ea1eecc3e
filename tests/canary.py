"""Nothing that outlives a request may show a link's query: errors, log records, manifests, whatever is handed in."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, unquote, urlsplit

from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.testing import bls, eo, market
from airflow_provider_taskdl.testing.links import make_link

CANARY = "CANARY-5c0ffee5/+=="  # for links that a test makes up itself
_SHORTEST = 16  # of a query's values, shorter ones (a flag) are no secrets
_KNOWN = (
    "taskId",
    "fileName",
    "orderNo",
    "responseContentDisposition",
)  # nor are these, which the emulators' links hold


def assert_canary_free(*things: object, secrets: Iterable[str] = (CANARY,)) -> None:
    """Fail if one of ``secrets``, plain or quoted, shows in any of ``things``.

    :param things: Exceptions (with their whole chain, attributes and pickle), log records, paths (a file's content, a
        directory's every file), and values of any depth.
    :param secrets: What must not show; of a link see :func:`secrets_of` and :func:`recorded_links`.
    """
    wanted = list(secrets)
    assert wanted, "without a secret to look for this would prove nothing"
    forms = {form: secret for secret in wanted for form in _forms(secret)}
    for thing in things:
        for where, text in _texts(thing, type(thing).__name__, {}):
            found = [form for form in forms if form in text]
            assert not found, f"{where} shows {found[0]!r}: ...{text[max(0, text.find(found[0]) - 200) :][:400]}"


def secrets_of(*links: str | FileListing) -> set[str]:
    """Return what is secret of links: each query as a whole, and its long values."""
    urls = [u for link in links for u in ([link] if isinstance(link, str) else _urls(link))]
    queries = {urlsplit(url).query for url in urls} - {""}
    pairs = [pair.partition("=") for query in queries for pair in query.split("&")]
    return queries | {unquote(value) for name, _, value in pairs if len(value) >= _SHORTEST and name not in _KNOWN}


@contextmanager
def recorded_links() -> Iterator[set[str]]:
    """Collect, while the block runs, the secrets of all links that emulators of this process hand out."""
    secrets: set[str] = set()

    def recording(*args: Any) -> Any:
        made = make_link(*args)
        secrets.update(secrets_of(made[0]))
        return made

    with ExitStack() as stack:
        for service in (bls, eo, market):
            stack.enter_context(patch.object(service, "make_link", recording))
        yield secrets


def _urls(listing: FileListing) -> list[str]:
    return [file.link.reveal() for file in listing.files if file.link is not None]


def _forms(secret: str) -> set[str]:
    quoted = quote(secret, safe="")
    return {secret, secret.lower(), quoted, quoted.lower(), quote(quoted, safe=""), quote(secret), repr(secret)[1:-1]}


def _texts(thing: object, where: str, seen: dict[int, object]) -> Iterator[tuple[str, str]]:
    """Every text that a log handler, a UI or a result back end could make of a thing."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept, or its number could be given to another
    if isinstance(thing, BaseException):
        yield from _texts_of_error(thing, where, seen)
    elif isinstance(thing, logging.LogRecord):
        yield f"{where} {thing.name}", thing.getMessage()
        for name, value in vars(thing).items():
            yield from _texts(value, f"{where}.{name}", seen)
    elif isinstance(thing, Path):
        for path in sorted(thing.rglob("*")) if thing.is_dir() else [thing]:
            yield where, str(path)
            if path.is_file():
                yield str(path), path.read_bytes().decode("utf-8", "replace")
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from _texts(key, f"{where} key", seen)
            yield from _texts(value, f"{where}[{key!r}]", seen)
    elif isinstance(thing, (list, tuple, set, frozenset)):
        for value in thing:
            yield from _texts(value, f"{where}[...]", seen)
    elif isinstance(thing, (bytes, bytearray)):
        yield where, bytes(thing).decode("utf-8", "replace")
    elif isinstance(thing, str):
        yield where, thing
    else:
        yield f"{where} str", str(thing)
        yield f"{where} repr", repr(thing)


def _texts_of_error(error: BaseException, where: str, seen: dict[int, object]) -> Iterator[tuple[str, str]]:
    yield f"{where} str", str(error)
    yield f"{where} repr", repr(error)
    yield f"{where} traceback", "".join(traceback.format_exception(error))
    yield from _texts(error.args, f"{where} args", seen)
    yield from _texts(vars(error), f"{where} vars", seen)
    for name in ("object", "filename", "filename2", "reason", "strerror", "doc"):  # slots of the built-in errors
        yield from _texts(getattr(error, name, None), f"{where}.{name}", seen)
    try:
        pickled = pickle.dumps(error)
    except Exception:  # noqa: BLE001 - what cannot be pickled cannot leak that way
        pickled = b""
    yield f"{where} pickle", pickled.decode("latin-1")
    for name in ("__cause__", "__context__"):
        if (linked := getattr(error, name)) is not None:
            yield from _texts(linked, f"{where}.{name}", seen)
