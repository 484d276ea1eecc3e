"""GET of a link: the URL byte for byte, judged hosts only, nothing but the request itself on the wire.

Built on the standard library's ``http.client``: it sends a URL as it is given (others normalise it, which breaks
signatures), logs nothing, reads into the caller's buffer and lets the judged address be the one connected to.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from urllib.parse import SplitResult, quote, urljoin

from airflow_provider_taskdl.exceptions import TransferError, UnsafeLinkError
from airflow_provider_taskdl.redaction import redact_url
from airflow_provider_taskdl.transfer.connection import (
    DEFAULT_PORTS,
    Connection,
    ConnectionBroken,
    Proxy,
    authority_of,
    describe,
    environments_proxy,
)
from airflow_provider_taskdl.transfer.host_rules import HostRules

MAX_REDIRECTS = 5
# Bytes and seconds after which those who wait for a body are given what has come of it.
_AT_ONCE, _PATIENCE = 256 * 1024, 0.1
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Only what cannot be sent at all is quoted (spaces, non-ASCII); the rest stays as it was signed.
_SENDABLE = "".join(map(chr, range(0x21, 0x7F)))
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_Key = tuple[str, str, int, str | None]


class Response:
    """The head of an answer, and its body to read.

    :param client: Takes the connection back.
    :param key: Under which it is kept there.
    :param connection: Where the request was sent.
    :param shown: The URL, redacted.
    :ivar status: HTTP status.
    :ivar headers: Header fields; look-up ignores case.
    :ivar length: Bytes of the body that are still to come, or ``None`` where the host did not say.
    :ivar ends_itself: Whether the body's end is marked (length or chunks), so that a cut shows.
    """

    def __init__(self, client: LinkClient, key: _Key, connection: Connection, shown: str) -> None:
        self._client, self._key, self._connection = client, key, connection
        self._raw = connection.getresponse()
        self.shown = shown
        self.status = self._raw.status
        self.headers = self._raw.headers
        self.length: int | None = self._raw.length
        self.ends_itself = self.length is not None or bool(self._raw.chunked)
        self._ended = self.length == 0
        self._problem: str | None = None

    def readinto(self, view: memoryview) -> int:
        """Fill the front of ``view`` and return how many bytes came; 0 at the end of the body, or into no room.

        :raises ConnectionBroken: The connection broke, timed out or ended before the announced length.
        """
        if self._ended or not view:
            return 0
        if self._problem is not None:
            raise ConnectionBroken(self._problem)
        if self.length is None:
            return self._read_unmeasured(view)
        view = view[: min(self.length, _AT_ONCE)]
        filled, enough = 0, time.monotonic() + _PATIENCE
        # Straight into the view, one read of the socket after the other, here rather than in the callers: TLS gives
        # 16 KiB at a time. http.client's own readinto1 copies each.
        read = self._raw.fp.readinto1
        try:
            while filled < len(view) and (count := read(view[filled:])):
                filled += count
                if time.monotonic() > enough:
                    break
            else:
                if filled < len(view):
                    self._problem = f"the host closed the connection with {self.length - filled} bytes still to come"
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._problem = describe(error)  # what came before it is kept
        self.length -= filled
        self._ended = self.length == 0
        if filled:
            return filled
        raise ConnectionBroken(self._problem)

    def _read_unmeasured(self, view: memoryview) -> int:
        try:
            count = self._raw.readinto1(view)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._problem = describe(error)
        else:
            self._ended = count == 0
            return count
        raise ConnectionBroken(self._problem)

    def read_some(self, limit: int) -> bytes:
        """Return at most ``limit`` bytes, for an error's text; whatever breaks ends it."""
        view = memoryview(bytearray(limit))
        filled = 0
        try:
            while filled < limit and (count := self.readinto(view[filled:])):
                filled += count
        except ConnectionBroken:
            pass
        return bytes(view[:filled])

    def close(self) -> None:
        """Give the connection back if the body was read to its end, close it otherwise."""
        reusable = self._ended and not self._raw.will_close
        self._raw.close()
        self._client.release(self._key, self._connection, reusable=reusable)


class LinkClient:
    """Fetches links. Holds no cookies and no credentials; may be used by many threads at once.

    :param rules: Judges every host before it is connected to.
    :param tls: TLS settings.
    :param timeout: Seconds for connecting, and for the next bytes to arrive; never a total.
    :param proxy: URL of an HTTP proxy; without one the environment's holds.
    """

    def __init__(
        self, rules: HostRules, *, tls: ssl.SSLContext, timeout: float = 30.0, proxy: str | None = None
    ) -> None:
        self._rules, self._tls, self._timeout, self._proxy = rules, tls, timeout, proxy
        # Reentrant: a signal may close the client in the middle of anything.
        self._lock = threading.RLock()
        self._idle: deque[tuple[_Key, Connection]] = deque()  # the one that was used last comes last
        # With their sockets, which http.client forgets once the answer's end is to be the connection's.
        self._busy: dict[Connection, socket.socket | None] = {}
        self._most_busy = 0
        self._closed = False
        # The environment is read once for each host: it is long, and there may be thousands of files.
        self._proxies: dict[tuple[str, str], str | None] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Send a GET and return the answer's head, redirects followed and judged one by one.

        :param url: The link.
        :param headers: Header fields besides ``Host``, ``Accept-Encoding: identity`` and ``User-Agent``.
        :raises UnsafeLinkError: The link or a redirect points where none may point, or the host's certificate is not
            trusted.
        :raises ConnectionBroken: The network failed, the host's name cannot be resolved, or the client was closed.
        :raises TransferError: The host redirects without end, or to nowhere.
        """
        parts = self._rules.check_url(url)
        goes_to = url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get_once(parts, goes_to, headers)
            if response.status not in _REDIRECTS:
                return response
            target = response.headers.get("Location")
            response.read_some(4096)
            response.close()
            if not target:
                raise TransferError("the file host redirects without saying where to", target=response.shown)
            goes_to = _redirected(parts, target)
            parts = self._rules.check_url(goes_to, came_from=parts)
        raise TransferError(f"the file host redirects more than {MAX_REDIRECTS} times", target=redact_url(url))

    def close(self) -> None:
        """Close every connection for good; threads that wait for one wake at once."""
        with self._lock:
            self._closed = True
            idle = [connection for _, connection in self._idle]
            sockets = [sock for sock in self._busy.values() if sock is not None]
            self._idle.clear()
        for connection in idle:
            connection.close()
        for sock in sockets:
            try:
                # Not close(): the waiting thread still holds it, and closing would not wake it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass

    def release(self, key: _Key, connection: Connection, *, reusable: bool) -> None:
        """Take a connection back."""
        with self._lock:
            self._busy.pop(connection, None)
            if reusable and not self._closed:
                self._idle.append((key, connection))
                # Idle are no more than were ever in use at once: many hosts must not leave one each.
                if len(self._idle) <= self._most_busy:
                    return
                connection = self._idle.popleft()[1]
        connection.close()

    def _get_once(self, parts: SplitResult, url: str, headers: Mapping[str, str]) -> Response:
        host = parts.hostname or ""
        key = (parts.scheme, host, parts.port or DEFAULT_PORTS[parts.scheme], self._proxy_for(parts.scheme, host))
        reused = self._take_idle(key)
        if reused is not None:
            try:
                return self._send(key, reused, url, headers)
            except ConnectionBroken:
                pass  # it was closed while it lay idle: that is no failure of the host
        return self._send(key, self._connection(key), url, headers)

    def _send(self, key: _Key, connection: Connection, url: str, headers: Mapping[str, str]) -> Response:
        scheme, host, port, proxy = key
        target = _wire_target(url)
        fields = {"User-Agent": "airflow-provider-taskdl", "Accept": "*/*", **headers}
        try:
            self._watch(connection, connection.sock)
            if connection.sock is None:
                connection.connect()
                self._watch(connection, connection.sock)
            if scheme == "http" and proxy is not None:
                target = f"http://{authority_of(host, port).removesuffix(':80')}{target}"
                fields.update(Proxy.parse(proxy).fields)
            connection.request("GET", target, headers=fields)
            return Response(self, key, connection, redact_url(url))
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem: Exception = _as_error(error, host)
        except BaseException:
            self.release(key, connection, reusable=False)
            raise
        self.release(key, connection, reusable=False)
        raise problem  # outside the handler: what it caught can quote the URL

    def _watch(self, connection: Connection, sock: socket.socket | None) -> None:
        with self._lock:
            if self._closed:
                raise ConnectionBroken("the transfer was stopped")
            self._busy[connection] = sock
            self._most_busy = max(self._most_busy, len(self._busy))

    def _take_idle(self, key: _Key) -> Connection | None:
        with self._lock:
            for entry in [entry for entry in reversed(self._idle) if entry[0] == key]:
                self._idle.remove(entry)
                if (connection := entry[1]).is_quiet():
                    return connection
                connection.close()
        return None

    def _connection(self, key: _Key) -> Connection:
        scheme, host, port, proxy = key
        return Connection(
            host,
            port,
            rules=self._rules,
            tls=self._tls if scheme == "https" else None,
            proxy=None if proxy is None else Proxy.parse(proxy),
            watch=self._watch,
            timeout=self._timeout,
        )

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        if self._proxy is not None:
            return self._proxy
        if (scheme, host) not in self._proxies:
            self._proxies[scheme, host] = environments_proxy(scheme, host)
        return self._proxies[scheme, host]


def _wire_target(url: str) -> str:
    # By hand: the parts that urllib gives have lost the question mark of an empty query.
    rest = url.partition("://")[2].partition("#")[0]
    target = rest[min((place for char in "/?" if (place := rest.find(char)) >= 0), default=len(rest)) :]
    return quote(target if target.startswith("/") else f"/{target}", safe=_SENDABLE)


def _redirected(parts: SplitResult, location: str) -> str:
    location = quote(location.strip(), safe=_SENDABLE, encoding="latin-1")  # its bytes, as http.client hands them over
    if _SCHEME.match(location):
        return location
    if location.startswith("/") and not location.startswith("//"):
        return f"{parts.scheme}://{parts.netloc}{location}"
    try:
        return urljoin(parts.geturl(), location)
    except ValueError:
        pass
    raise UnsafeLinkError("the file host redirects to what is no URL", target=redact_url(parts.geturl()))


def _as_error(error: Exception, host: str) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnsafeLinkError(
            f"the certificate of the file host {host!r} is not trusted ({error.verify_message}); the connection's "
            "extra 'verify' takes the path of a CA bundle"
        )
    return ConnectionBroken(describe(error))
