"""The last step of a file: its proof, its name, and what to do where another process was faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError, IntegrityError
from airflow_provider_taskdl.transfer.digest import Digests
from airflow_provider_taskdl.transfer.sinks.base import Sink, Store, Stored
from airflow_provider_taskdl.transfer.stop import never_stop


def publish(
    name: str,
    sink: Sink,
    store: Store,
    size: int,
    digests: Digests | None,
    announced: Mapping[str, str],
    go_on: Callable[[], None] = never_stop,
) -> tuple[Stored, str]:
    """Give a complete file its name, and return what the store says of it and its sha256.

    :param name: The file.
    :param sink: Has all of its bytes.
    :param store: The sink's store.
    :param size: Bytes.
    :param digests: Those of its bytes; ``None`` if an earlier process brought some, which only the store can show, and
        only then. Then the file is read back from there.
    :param announced: What the file host says of them.
    :param go_on: As for :meth:`Store.sha256`; what is published when it raises stays.
    :raises IntegrityError: A digest differs from the announced one; the file is not there, unless the message says so.
    :raises DestinationExistsError: There is another one, and it is not to be replaced.
    :raises DestinationError: The store refused, or another process has replaced the file meanwhile.
    """
    if digests is None:
        try:
            stored = sink.commit()
        except DestinationExistsError:
            sink.abort()  # whoever came too late under a name never comes back for it
            raise
        return stored, _read_back(name, store, stored, announced, go_on)
    digests.verify()
    try:
        return sink.commit(), digests.sha256
    except DestinationExistsError as error:
        problem = error
    sink.abort()
    # What a try that was killed had put there a moment before is no obstacle, if it is this very file.
    there = store.find([name]).get(name)
    if there is None or there.size != size or store.sha256(name, go_on=go_on) != digests.sha256:
        raise problem
    return there, digests.sha256


def _read_back(name: str, store: Store, stored: Stored, announced: Mapping[str, str], go_on: Callable[[], None]) -> str:
    """Return a published file's sha256; remove the file if a digest differs, but not what others put in its place."""
    try:
        sha256, wrong = store.sha256(name, announced, go_on), None
    except IntegrityError as error:
        sha256, wrong = "", error
    if store.find([name]).get(name) != stored:
        raise DestinationError("another process has replaced or removed the file while it was read back")
    if wrong is not None:
        try:
            store.remove_small(name)
        except DestinationError as error:
            wrong.message += f"; it is at its name until it is replaced, for it cannot be removed: {error.message}"
        raise wrong
    return sha256
