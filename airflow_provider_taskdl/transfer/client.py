"""GET of a link: the URL byte for byte, judged hosts only, nothing but the request itself on the wire.

Built on the standard library's ``http.client``: it sends a URL as it is given (others normalise it, which breaks
signatures), logs nothing, reads into the caller's buffer and lets the judged address be the one connected to.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_taskdl.exceptions import ConnectionConfigError, TransferError, UnsafeLinkError
from airflow_provider_taskdl.redaction import redact_url
from airflow_provider_taskdl.transfer.host_rules import HostRules

MAX_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}
_Key = tuple[str, str, int, str | None]


class ConnectionBroken(Exception):
    """The network failed between here and the file host; ``str`` says how, without the URL."""


class Response:
    """The head of an answer, and its body to read.

    :ivar status: HTTP status.
    :ivar headers: Header fields; look-up ignores case.
    :ivar length: Bytes of the body that are still to come, or ``None`` where the host did not say.
    :ivar ends_itself: Whether the body's end is marked (length or chunks), so that a cut shows.
    """

    def __init__(self, client: LinkClient, key: _Key, connection: http.client.HTTPConnection, shown: str) -> None:
        self._client, self._key, self._connection = client, key, connection
        self._raw = connection.getresponse()
        self.shown = shown
        self.status = self._raw.status
        self.headers = self._raw.headers
        self.length: int | None = self._raw.length
        self.ends_itself = self.length is not None or bool(self._raw.chunked)
        self._ended = self.length == 0

    def readinto(self, view: memoryview) -> int:
        """Fill the front of ``view`` and return how many bytes came; 0 at the end of the body.

        :raises ConnectionBroken: The connection broke, timed out or ended before the announced length.
        """
        try:
            count = self._raw.readinto(view)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = _describe(error)
        else:
            if self.length is not None:
                self.length -= count
                self._ended = self.length == 0
            elif count == 0:
                self._ended = True
            if count or self._ended:
                return count
            problem = f"the host closed the connection with {self.length} bytes still to come"
        raise ConnectionBroken(problem)

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
        self._lock = threading.Lock()
        self._idle: dict[_Key, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Send a GET and return the answer's head, redirects followed and judged one by one.

        :param url: The link.
        :param headers: Header fields besides ``Host``, ``Accept-Encoding: identity`` and ``User-Agent``.
        :raises UnsafeLinkError: The link or a redirect points where none may point.
        :raises ConnectionBroken: The network failed.
        :raises TransferError: The host's name or certificate is no good, or it redirects without end.
        """
        parts = self._rules.check_url(url)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get_once(parts, headers)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = response.headers.get("Location")
            response.read_some(4096)
            response.close()
            if not target:
                raise TransferError("the file host redirects without saying where to", target=response.shown)
            parts = self._rules.check_url(urljoin(parts.geturl(), target), came_from=parts)
        raise TransferError(f"the file host redirects more than {MAX_REDIRECTS} times", target=redact_url(url))

    def close(self) -> None:
        """Close every connection; reads that wait in other threads end at once."""
        with self._lock:
            self._closed = True
            idle = [connection for stack in self._idle.values() for connection in stack]
            busy = list(self._busy)
            self._idle.clear()
        for connection in idle:
            connection.close()
        for connection in busy:
            if sock := connection.sock:
                try:
                    # Not close(): the reading thread still holds it, and closing would not wake it.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    pass

    def release(self, key: _Key, connection: http.client.HTTPConnection, *, reusable: bool) -> None:
        """Take a connection back."""
        with self._lock:
            self._busy.discard(connection)
            if reusable and not self._closed:
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()

    def _get_once(self, parts: SplitResult, headers: Mapping[str, str]) -> Response:
        host = parts.hostname or ""
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        proxy = self._proxy_for(parts.scheme, host)
        key = (parts.scheme, host, port, proxy)
        reused = self._take_idle(key)
        if reused is not None:
            try:
                return self._send(key, reused, parts, headers)
            except ConnectionBroken:
                pass  # it was closed while it lay idle: that is no failure of the host
        return self._send(key, self._connect(key), parts, headers)

    def _send(
        self, key: _Key, connection: http.client.HTTPConnection, parts: SplitResult, headers: Mapping[str, str]
    ) -> Response:
        proxied_plain = key[3] is not None and parts.scheme == "http"
        target = _wire_target(parts, absolute=proxied_plain)
        fields = {"User-Agent": "airflow-provider-taskdl", "Accept": "*/*", **headers}
        if proxied_plain:
            fields.update(_proxy_authorization(key[3] or ""))
        with self._lock:
            self._busy.add(connection)
        try:
            connection.request("GET", target, headers=fields)
            return Response(self, key, connection, redact_url(parts.geturl()))
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem: Exception = _as_error(error, key[1])
        except BaseException:
            self.release(key, connection, reusable=False)
            raise
        self.release(key, connection, reusable=False)
        raise problem  # outside the handler: what it caught can quote the URL

    def _take_idle(self, key: _Key) -> http.client.HTTPConnection | None:
        with self._lock:
            stack = self._idle.get(key)
            return stack.pop() if stack else None

    def _connect(self, key: _Key) -> http.client.HTTPConnection:
        scheme, host, port, proxy = key
        if proxy is None:
            return _Direct(host, port, rules=self._rules, tls=self._tls if scheme == "https" else None,
                           timeout=self._timeout)  # fmt: skip
        self._rules.check_behind_proxy(host)
        via = urlsplit(proxy)
        if not via.hostname or via.scheme not in ("http", "https"):
            raise ConnectionConfigError("the proxy is no http(s) URL")
        if scheme == "http":
            return http.client.HTTPConnection(via.hostname, via.port or 8080, timeout=self._timeout)
        tunnel = http.client.HTTPSConnection(via.hostname, via.port or 8080, timeout=self._timeout, context=self._tls)
        tunnel.set_tunnel(host, port, headers=_proxy_authorization(proxy))
        return tunnel

    def _proxy_for(self, scheme: str, host: str) -> str | None:
        if self._proxy is not None:
            return self._proxy
        proxies = getproxies()
        return None if proxy_bypass(host) else proxies.get(scheme, proxies.get("all"))


class _Direct(http.client.HTTPConnection):
    """A connection to an address that was judged, with the name kept for ``Host`` and the certificate."""

    def __init__(self, host: str, port: int, *, rules: HostRules, tls: ssl.SSLContext | None, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._rules, self._tls = rules, tls
        # What http.client leaves out of the Host field.
        self.default_port = _DEFAULT_PORTS["https" if tls else "http"]

    def connect(self) -> None:
        failure: OSError | None = None
        for family, address in self._rules.resolve(self.host, self.port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(self.timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
                self.sock = self._tls.wrap_socket(sock, server_hostname=self.host) if self._tls else sock
                return
            except OSError as error:
                sock.close()
                failure = error
        raise failure or OSError("no address to connect to")


def _wire_target(parts: SplitResult, *, absolute: bool) -> str:
    # Only what cannot be sent at all is quoted (spaces, non-ASCII); the rest stays as it was signed.
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    target = quote(target, safe="".join(map(chr, range(0x21, 0x7F))))
    return f"{parts.scheme}://{parts.netloc}{target}" if absolute else target


def _proxy_authorization(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _as_error(error: Exception, host: str) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnsafeLinkError(
            f"the certificate of the file host {host!r} is not trusted ({error.verify_message}); the connection's "
            "extra 'verify' takes the path of a CA bundle"
        )
    return ConnectionBroken(_describe(error))


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no bytes arrived in time"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or 'connection lost'}"
    return f"{type(error).__name__}"
