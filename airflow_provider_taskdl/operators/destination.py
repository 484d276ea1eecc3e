"""A destination as DAG authors write it becomes a store to write to and paths to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_taskdl.exceptions import ConnectionConfigError, DestinationError
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore

if TYPE_CHECKING:
    from airflow_provider_taskdl.transfer.sinks.base import Store

_LOCAL = ("", "file", "local")


class Destination:
    """A directory in object storage or on a disk.

    :param where: ``s3://conn_id@bucket/prefix`` or any other URL of ``ObjectStoragePath``, such a path itself, or the
        path of a local directory.
    :param part_size: Bytes per part of an upload.
    :raises ConnectionConfigError: It is empty, or no store is known for it.
    :raises DestinationError: The store's connection does not work.
    """

    def __init__(self, where: str | ObjectStoragePath, *, part_size: int) -> None:
        text = str(where).strip().rstrip("/") if isinstance(where, str) else str(where).rstrip("/")
        if not text:
            raise ConnectionConfigError("the destination is empty; if it comes from a template, what did that give?")
        if "://" not in text:
            text = f"file://{Path(text).absolute()}"
        self._path = ObjectStoragePath(text, conn_id=getattr(where, "conn_id", None))
        self.store: Store
        if self._path.protocol in _LOCAL:
            self.store = LocalStore(Path(self._path.path))
            return
        try:
            fs = self._path.fs
        except ValueError:
            raise ConnectionConfigError(
                f"no object store is known for {self._path.protocol}://; is its Airflow provider installed?"
            ) from None
        except Exception as error:  # noqa: BLE001 - each store's provider has its own errors
            problem = f"the store of {text} cannot be opened: {type(error).__name__}: {error}"
        else:
            self.store = ObjectStore(fs, self._path.path, part_size=part_size)
            return
        raise DestinationError(problem)

    def path_of(self, name: str) -> str:
        """Return the path of a file here, as ``ObjectStoragePath`` opens it with its connection."""
        return str(self._path / name)

    def uri_of(self, name: str) -> str:
        """Return the file's name for the world outside this Airflow: without the connection's id."""
        path: Any = self._path / name
        uri: str = path.as_uri() if self._path.protocol not in _LOCAL else Path(path.path).as_uri()
        return uri
