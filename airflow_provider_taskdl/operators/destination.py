"""A destination as DAG authors write it becomes a store to write to and paths to hand on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, ObjectStoragePath

from airflow_provider_taskdl.exceptions import ConnectionConfigError, DestinationError, UnsafeFileNameError
from airflow_provider_taskdl.transfer.sinks.azure import AzureStore
from airflow_provider_taskdl.transfer.sinks.gcs import GcsStore
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store

if TYPE_CHECKING:
    from airflow_provider_taskdl.transfer.sinks.base import Store

_LOCAL = ("", "file", "local")
_S3 = ("s3", "s3a", "s3n")
_AZURE = ("abfs", "abfss", "adl")
_GCS = ("gs", "gcs")
# What a connection's `service_config` can ask of s3fs and not of the client.
_ONLY_S3FS = ("signer", "proxy-uri")
# Besides letters and digits: what may stand in a URL's path as it is (RFC 3986 §3.3).
_PLAIN = "/-._~!$&'()*+,;=:@"


class Destination:
    """A directory in object storage or on a disk.

    :param where: ``s3://conn_id@bucket/prefix`` or any other URL of ``ObjectStoragePath``, such a path itself, or the
        path of a local directory.
    :raises ConnectionConfigError: It is empty or incomplete, its connection does not exist, or no store is known for
        it.
    :raises DestinationError: The store's connection does not work.
    :ivar store: What writes there.
    :ivar account: The storage account, on Azure.
    :ivar endpoint: Where requests to the store go, on S3.
    """

    def __init__(self, where: str | os.PathLike[str] | ObjectStoragePath) -> None:
        if not isinstance(where, str | os.PathLike | ObjectStoragePath):
            raise ConnectionConfigError(
                f"the destination must be text or a path, not {type(where).__name__}; "
                "if it comes from a template, what did that give?"
            )
        text = _complete(str(where).strip())
        protocol, netloc = urlsplit(text)[:2]
        conn_id = getattr(where, "conn_id", None) or netloc.rpartition("@")[0] or None
        _check_connection(conn_id)
        try:
            whole = ObjectStoragePath(text, conn_id=conn_id)
            path = whole.path
            # As texts from here on: joining path objects is slow, and there may be thousands of files.
            self.account: str | None = None
            self.endpoint: str | None = None
            self._text, self._root = str(whole).rstrip("/"), Path(path) if whole.protocol in _LOCAL else None
            if self._root is not None:
                self.store: Store = LocalStore(self._root)
            elif whole.protocol in _S3 and (client := _s3_client(conn_id)) is not None:
                bucket, _, prefix = path.partition("/")
                self.store = S3Store(client, bucket, prefix)
                self.endpoint = client.meta.endpoint_url
            elif whole.protocol in _AZURE and hasattr(whole.fs, "service_client"):
                container, _, prefix = path.partition("/")
                self.store = AzureStore(whole.fs, container, prefix)
                self.account = whole.fs.service_client.account_name
            elif whole.protocol in _GCS and hasattr(whole.fs, "_location"):
                bucket, _, prefix = path.partition("/")
                self.store = GcsStore(whole.fs, bucket, prefix)
            else:
                self.store = ObjectStore(whole.fs, path)
        except ConnectionConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - each store's provider has its own errors
            # Airflow has no error of its own for this, and a provider may raise a ValueError for whatever it likes.
            if isinstance(error, ValueError) and not _is_known(protocol):
                unknown = f"no object store is known for {protocol}://; is its Airflow provider installed?"
                raise ConnectionConfigError(unknown) from None
            problem = f"the store of {text} cannot be opened: {type(error).__name__}: {error}"
        else:
            return
        raise DestinationError(problem)

    def check_names(self, names: Iterable[str]) -> None:
        """Check that the path of every file here is one that others can open.

        :param names: Names of files.
        :raises UnsafeFileNameError: ``ObjectStoragePath`` would read the path of one as another path.
        """
        for name in names:
            if trouble := _trouble_in(self.path_of(name)):
                raise UnsafeFileNameError(
                    f"the service gives a file the name {name[:300]!r}, which {trouble}", file=name
                )

    def path_of(self, name: str) -> str:
        """Return the path of a file here, as ``ObjectStoragePath`` opens it with its connection."""
        return f"{self._text}/{name}"

    def uri_of(self, name: str) -> str:
        """Return the file's name for the world outside this Airflow: percent-encoded, without the connection's id."""
        if self._root is not None:
            return (self._root / name).as_uri()
        protocol, _, rest = self.path_of(name).partition("://")
        bucket, _, key = rest.partition("/")
        return f"{protocol}://{bucket.rpartition('@')[2]}/{quote(key, safe=_PLAIN)}"


def _is_known(protocol: str) -> bool:
    try:
        from airflow.sdk.io import has_fs
    except ImportError:  # before Airflow 3
        from airflow.io import has_fs  # type: ignore[attr-defined, no-redef]
    return bool(has_fs(protocol))


def _complete(text: str) -> str:
    """Return a destination as a whole URL without a trailing slash."""
    if "://" not in text:
        text = f"file:///{str(Path(text).absolute()).lstrip('/') if text else ''}"
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    text = f"{scheme}://{rest.rstrip('/')}"
    place, _, prefix = rest.rstrip("/").partition("/")
    if scheme in _LOCAL:
        problem = "names a host, but a disk has none" if place else "" if prefix else "names no directory"
    else:
        problem = "" if place.rpartition("@")[2] else "names no bucket"
    if not problem and prefix.startswith("/"):
        problem = "has an empty name where its first directory should be"
    if problem := problem or _trouble_in(text):
        raise ConnectionConfigError(
            f"the destination ({scheme}://) {problem}; if it comes from a template, what did that give?"
        )
    return text


def _trouble_in(url: str) -> str:
    """Say what makes a URL another one in ``ObjectStoragePath``; nothing if it stays as it is."""
    # Since Airflow 3 it takes what stands behind for another file system, one that the first is a part of.
    if "::" in url:
        return "holds '::', where ObjectStoragePath ends a path"
    if "?versionid=" in url.lower():
        return "holds '?versionId=', where the clients of S3 and Azure end a path"
    if url.startswith(tuple(f"{scheme}://" for scheme in _AZURE)) and "#" in url.partition("?")[2]:
        return "holds a '#' behind a '?', which the client of Azure exchanges"
    # It takes URLs apart and puts them together again, which loses a mark with nothing behind it.
    try:
        same = urlsplit(url).geturl() == url
    except ValueError:  # a host that can be none
        same = False
    return "" if same else "is another one once ObjectStoragePath has read it (does it end in '?' or '#'?)"


def _check_connection(conn_id: str | None) -> None:
    # Some providers only warn of a connection that is missing, and go on with whatever rights the machine has.
    if conn_id is None:
        return
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        shown = "(not shown: it is no id, but looks like a key)" if ":" in conn_id else repr(conn_id)
        raise ConnectionConfigError(f"the destination's connection {shown} does not exist") from None


def _s3_client(conn_id: str | None) -> Any:
    """Return the connection's own S3 client, or ``None`` where s3fs knows a way to the store that it does not."""
    try:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from botocore.config import Config
    except ImportError:
        return None
    # As ObjectStoragePath has it: without a connection, what the machine itself may do.
    hook = S3Hook(aws_conn_id=conn_id)
    if any(hook.service_config.get(name) for name in _ONLY_S3FS) or hook.get_session().get_credentials() is None:
        return None
    # Many stores do not know the checksums that newer clients send by default; the connection may ask for them.
    quiet = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    try:
        return S3Hook(aws_conn_id=conn_id, config=quiet.merge(hook.config)).get_conn()
    except ValueError as error:
        problem = f"the connection {conn_id!r} gives no S3 client: {error}"
    raise ConnectionConfigError(problem)
