"""Bulk bytes on their way to an S3 store: signed links, kept connections made as the connection's client makes them."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_taskdl.exceptions import ConnectionConfigError, DestinationError
from airflow_provider_taskdl.transfer.connection import (
    DEFAULT_PORTS,
    Connection,
    ConnectionBroken,
    Proxy,
    authority_of,
    describe,
)
from airflow_provider_taskdl.transfer.host_rules import HostRules
from airflow_provider_taskdl.wire_log import unlogged

_LINK_SECONDS = 900
_SLICE = 1024 * 1024
_WEATHER = frozenset({408, 425, 429, 500, 502, 503, 504})
# Some stores say these with a status that means "never".
_WEATHER_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "BadDigest"})
_OWN_SIGNATURE = "s3v4-query"
_Place = tuple[str, str, int, str | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said.

    :param status: HTTP status.
    :param headers: Header fields.
    :param body: The body's beginning: XML, where something was wrong.
    """

    status: int
    headers: http.client.HTTPMessage = field(repr=False)
    body: bytes = field(repr=False)  # of a refused signature, it quotes what was signed

    @property
    def code(self) -> str:
        """The store's word for what was wrong; its status where it has none."""
        return self._element("Code") or str(self.status)

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status in _WEATHER or self.code in _WEATHER_CODES

    def error(self, target: str) -> DestinationError:
        """Return it as an error of ours."""
        return DestinationError(
            f"the store refused, with HTTP {self.status}: {self._element('Message') or self.code}",
            target=target,
            code=self.code,
            request_id=self.headers.get("x-amz-request-id"),
        )

    def _element(self, name: str) -> str | None:
        # By hand: the answer is foreign input, and two plain texts are all that is wanted of it.
        found = re.search(rf"<{name}>([^<]{{1,300}})</{name}>", self.body.decode("utf-8", "replace"))
        return found.group(1) if found else None


class StaleConnection(Exception):
    """A connection was closed while it lay idle: no failure of the store."""


class Line:
    """Kept connections to the store, made as the client makes them.

    :param tls: TLS settings.
    :param proxy_for: Gives the proxy for a URL.
    :param connect_timeout: Seconds for connecting.
    :param timeout: Seconds for each MiB and for the answer.
    """

    def __init__(self, tls: ssl.SSLContext, proxy_for: Any, *, connect_timeout: float, timeout: float) -> None:
        self._tls, self._proxy_for = tls, proxy_for
        self._connect_timeout, self._timeout = connect_timeout, timeout
        self._lock = threading.RLock()
        self._idle: dict[_Place, list[Connection]] = {}
        self._busy: dict[Connection, tuple[threading.Event, socket.socket | None]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def send(
        self, client: Any, operation: str, params: Mapping[str, Any], fields: Mapping[str, str], data: memoryview,
        stop: threading.Event,
    ) -> Answer:  # fmt: skip
        """Send bytes by a fresh link and return the answer, whatever it is.

        :param client: Signs the link.
        :param operation: ``upload_part`` or ``put_object``.
        :param params: Its parameters.
        :param fields: Header fields that stand for some of them.
        :param data: The body.
        :param stop: Ends it early.
        :raises ConnectionBroken: The network failed.
        :raises StaleConnection: A kept connection was closed meanwhile; another may do.
        """
        fields = {**fields, "Content-Length": str(len(data)), "User-Agent": "airflow-provider-taskdl"}
        with unlogged():
            url = client.generate_presigned_url(operation, Params=dict(params), ExpiresIn=_LINK_SECONDS)
        parts = urlsplit(url)
        host = parts.hostname or ""
        place = (parts.scheme, host, parts.port or DEFAULT_PORTS[parts.scheme], self._proxy_for(url))
        target = f"{parts.path}?{parts.query}"
        if parts.scheme == "http" and place[3] is not None:
            target = f"http://{authority_of(host, place[2]).removesuffix(':80')}{target}"
            fields.update(Proxy.parse(place[3]).fields)
        with self._lock:
            idle = self._idle.get(place)
            connection = idle.pop() if idle else self._connection(place, stop)
            self._busy[connection] = (stop, connection.sock)
        reused, keep, problem = connection.sock is not None, False, ""
        try:
            if not reused:
                connection.connect()
                connection.sock.settimeout(self._timeout)
            answer, keep = _exchange(connection, target, fields, data, stop)
            return answer
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = describe(error)
        finally:
            self._release(place, connection, keep=keep)
        raise StaleConnection if reused and not stop.is_set() else ConnectionBroken(problem)

    def wake(self, stop: threading.Event) -> None:
        """Break the connections of all that send with this event."""
        with self._lock:
            sockets = [sock for event, sock in self._busy.values() if event is stop and sock is not None]
        for sock in sockets:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not close(): that would not wake the waiting thread
            except OSError:
                pass

    def _connection(self, place: _Place, stop: threading.Event) -> Connection:
        scheme, host, port, proxy = place
        # Not of this object: what is kept to be closed at its end must not keep it.
        lock, busy = self._lock, self._busy

        def watch(connection: Connection, sock: socket.socket) -> None:
            with lock:
                if stop.is_set():
                    raise ConnectionBroken("the upload was given up")
                busy[connection] = (stop, sock)

        return Connection(
            host,
            port,
            rules=HostRules(host, [host]),  # it is the connection's own, wherever it is
            tls=self._tls if scheme == "https" else None,
            proxy=None if proxy is None else Proxy.parse(proxy),
            watch=watch,
            timeout=self._connect_timeout,
        )

    def _release(self, place: _Place, connection: Connection, *, keep: bool) -> None:
        with self._lock:
            self._busy.pop(connection, None)
            if keep:
                self._idle.setdefault(place, []).append(connection)
                return
        connection.close()


def _exchange(
    connection: Connection, target: str, fields: Mapping[str, str], data: memoryview, stop: threading.Event
) -> tuple[Answer, bool]:
    whole = True
    try:
        # In slices: a time-out holds for each of them, not for the body.
        connection.request("PUT", target, body=_slices(data, stop), headers=fields)
    except TimeoutError:
        raise
    except OSError:
        whole = False  # a store that refuses may say so, and close, before it has the body
    with connection.getresponse() as raw:
        answer = Answer(raw.status, raw.headers, raw.read(64 * 1024))
        return answer, whole and raw.isclosed() and not raw.will_close


def _slices(data: memoryview, stop: threading.Event) -> Iterator[memoryview]:
    for start in range(0, len(data), _SLICE):
        if stop.is_set():
            raise ValueError
        yield data[start : start + _SLICE]


def line_like(client: Any) -> Line | None:
    """Return connections that are made as the client makes its own, or ``None`` if that is not certain."""
    try:
        from botocore.httpsession import URLLib3Session, get_cert_path

        session, config = client._endpoint.http_session, client.meta.config
        plain = type(session) is URLLib3Session and config.signature_version in ("s3v4", "v4")
        if not plain or session._cert_file or config.client_cert or config.proxies_config:
            return None
        proxy_for = session._proxy_config.proxy_url_for
        for proxy in {
            proxy_for(f"{scheme}://{urlsplit(client.meta.endpoint_url).netloc}/") for scheme in DEFAULT_PORTS
        }:
            if proxy is not None:
                Proxy.parse(proxy)
        tls = ssl.create_default_context(cafile=get_cert_path(session._verify) or None)
        tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # newer Pythons set it, the client does not
        if session._verify is False:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        # Without it the client signs links, and only those, in a way that newer stores do not know.
        client.meta.events.register("choose-signer.s3.UploadPart", _sign_like_requests, "taskdl-part")
        client.meta.events.register("choose-signer.s3.PutObject", _sign_like_requests, "taskdl-object")
    except (AttributeError, ImportError, OSError, TypeError, ValueError, ConnectionConfigError):
        return None
    return Line(tls, proxy_for, connect_timeout=config.connect_timeout, timeout=config.read_timeout)


def _sign_like_requests(signature_version: Any = None, **_: Any) -> str | None:
    return _OWN_SIGNATURE if signature_version in (_OWN_SIGNATURE, "v4-query") else None


def _close_all(idle: dict[_Place, list[Connection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()
