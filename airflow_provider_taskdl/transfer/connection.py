"""One connection to a file host: to an address that was judged, or through a proxy."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.redaction import NeverPickled
from airflow_provider_taskdl.transfer.host_rules import Endpoint, HostRules, UnknownHost

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}

# Of an answer's head, and of whatever else stands between two bytes of a body.
_MAX_LINES = 256 * 1024


class ConnectionBroken(Exception):
    """The network failed between here and the file host; ``str`` says how, without the URL."""


@dataclass(frozen=True, slots=True)
class Proxy(NeverPickled):
    """An HTTP proxy.

    :param host: Its host.
    :param port: Its port.
    :param fields: The header fields that it wants, with its credentials.
    """

    host: str
    port: int
    fields: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Return the proxy that a URL names; one without a scheme means ``http://``, as in the environment.

        :raises ConnectionConfigError: It is no URL of an HTTP proxy.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme != "http":
            # Not even tried: its credentials would go there in the clear.
            raise ConnectionConfigError("links can be fetched through a proxy at http:// only (https links as well)")
        fields = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return cls(host, port or DEFAULT_PORTS["http"], fields)


def environments_proxy(scheme: str, host: str) -> str | None:
    """Return the proxy that the environment (``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, …) names, as it names it.

    :param scheme: Of the URL that is asked.
    :param host: Its host.
    """
    proxies = getproxies()
    return None if proxy_bypass(host) else proxies.get(scheme, proxies.get("all"))


class EndlessLines(http.client.HTTPException):
    """An answer's head, or another thing in it that is no body, went on and on."""


class CutLine(http.client.HTTPException):
    """The connection ended within a line, or within the head."""


class _Lines:
    """What an answer is read from; its lines come to an end.

    ``http.client`` bounds each line and the fields of one head, but reads provisional answers and trailers for ever.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, _MAX_LINES
        self.in_head, self._has_begun = False, False

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise EndlessLines
        if line and len(line) < limit and not line.endswith(b"\n"):
            # Taken for whole, it could say anything: the first digit of a chunk's length ("0FA0") is the last chunk.
            raise CutLine
        if self.in_head and self._has_begun and not line:  # nor is a head whole without the empty line at its end
            raise CutLine
        self._has_begun = True
        return line

    def __getattr__(self, name: str) -> Any:
        self._left = _MAX_LINES  # all else reads the body
        return getattr(self._file, name)


class BoundedResponse(http.client.HTTPResponse):
    """An answer whose head, and whatever else is no body, comes to an end.

    :param sock: Where it is read from.
    """

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp: Any = _Lines(self.fp)

    def begin(self) -> None:
        """Read the head of the answer, and provisional ones before it (RFC 9110 §15.2): http.client skips 100 alone.

        :raises http.client.HTTPException: It is none.
        """
        lines = self.fp
        lines.in_head = True
        super().begin()
        while 100 <= self.status < 200:
            if self.status == http.client.SWITCHING_PROTOCOLS:
                raise http.client.BadStatusLine("101, which nobody asked for")
            self.headers = self.msg = None  # type: ignore[assignment]
            super().begin()
        lines.in_head = False


class Connection(http.client.HTTPConnection):
    """A connection that keeps the host's name for ``Host`` and the certificate, whatever it is connected to.

    :param host: Name or address from the URL.
    :param port: TCP port.
    :param rules: Judges the host.
    :param tls: TLS settings, for https.
    :param proxy: The proxy to go through.
    :param watch: Called with each socket before it is waited for, so that it can be woken from another thread.
    :param timeout: Seconds for connecting, and for the next bytes to arrive.
    """

    response_class = BoundedResponse

    def __init__(
        self,
        host: str,
        port: int,
        *,
        rules: HostRules,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None,
        watch: Callable[[Connection, socket.socket], None],
        timeout: float,
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        self._rules, self._tls, self._proxy, self._watch = rules, tls, proxy, watch
        # What http.client leaves out of the Host field.
        self.default_port = DEFAULT_PORTS["https" if tls else "http"]

    def connect(self) -> None:
        """Connect; the address is judged each time."""
        sock = self._reach()
        try:
            if self._tls is not None:
                if self._proxy is not None:
                    self._open_tunnel(sock, self._proxy)
                name = self.host.rstrip(".")  # with the dot that ends a full name, no certificate has it
                sock = self._tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
                self._watch(self, sock)
                sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def is_quiet(self) -> bool:
        """Tell whether nothing came since the last answer: neither the connection's end nor what nobody asked for.

        Such bytes would be taken for the next answer.
        """
        if self.sock is None:
            return False
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False  # it was read and decrypted along with the answer: no poll shows it
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def _reach(self) -> socket.socket:
        failure: OSError | None = None
        for family, address in self._endpoints():
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # a family that this machine does not speak, as where IPv6 is switched off
                failure = error
                continue
            try:
                sock.settimeout(self.timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._watch(self, sock)
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure or OSError("no address to connect to")

    def _endpoints(self) -> list[Endpoint]:
        if self._proxy is None:
            return self._rules.resolve(self.host, self.port)
        self._rules.check_behind_proxy(self.host)
        found = socket.getaddrinfo(self._proxy.host, self._proxy.port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]

    def _open_tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        authority = authority_of(self.host, self.port)
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        lines += [f"{name}: {value}" for name, value in proxy.fields.items()]
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        answer = BoundedResponse(sock, method="CONNECT")
        try:
            answer.begin()
            if answer.status != 200:
                raise ConnectionBroken(f"the proxy refused to connect, with HTTP {answer.status}")
        finally:
            answer.close()


def authority_of(host: str, port: int) -> str:
    """Return host and port as a request line has them.

    :raises UnicodeError: No name on the network is like this host's.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host.encode('idna').decode()}:{port}"


def describe(error: Exception) -> str:
    """Return what happened to a connection, in words that hold no URL."""
    if isinstance(error, UnknownHost):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no bytes arrived in time"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or 'connection lost'}"
    return type(error).__name__
