"""Where a link may point to: public hosts, the API's own host, and what the connection allows."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from airflow_provider_taskdl.exceptions import UnsafeLinkError
from airflow_provider_taskdl.redaction import redact_url

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# One entry of getaddrinfo: family and socket address, ready to connect to.
Endpoint = tuple[int, tuple[str, int] | tuple[str, int, int, int]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not public either, though Python says so in all or some of its versions: special IPv4 addresses (one cloud's metadata
# among them), a public number that Azure uses inside (its machines get certificates and settings there), IPv6 addresses
# that hold an IPv4 one, local NAT64, site-local.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "168.63.129.16/32", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10"),
    )
)


class UnknownHost(OSError):
    """The name of a host cannot be resolved, now or at all."""


class HostRules:
    """Judges the hosts of links, so that a forged answer cannot send a worker into the private network.

    A name is resolved here and the addresses that were judged are the ones to connect to: no second look-up can give
    another answer.

    :param api_host: Host name of the API; its links may point back to it wherever it is.
    :param allowed: Names (``*.`` for a name and all below it), addresses and networks allowed besides public ones.
    """

    def __init__(self, api_host: str | None = None, allowed: Sequence[str] = ()) -> None:
        self._names = {_plain(api_host)} if api_host else set()
        self._suffixes: set[str] = set()
        self._networks = []
        for entry in allowed:
            text = entry.strip().strip("[]")
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                name = _plain(text)
                self._names.add(name.removeprefix("*."))
                if name.startswith("*."):
                    self._suffixes.add(name[1:])

    def check_url(self, url: str, *, came_from: SplitResult | None = None) -> SplitResult:
        """Return the parts of a URL that may be asked.

        :param url: The link, or where it redirects to.
        :param came_from: The URL that redirected here.
        :raises UnsafeLinkError: It is no http(s) URL, holds a user, or leaves https for http.
        """
        try:
            url.encode()
            parts = urlsplit(url)
            parts.port  # noqa: B018 - raises for a port that is none
            _check_brackets(parts)
            # A host's name with anything else in it may hold the query, and would be looked up, and shown.
            odd = {char for char in parts.hostname or "" if char.isascii() and not char.isalnum()} - {*"-._"}
            broken = "[" not in parts.netloc and bool(odd)
            broken |= any(char.isspace() for char in parts.netloc) or any(char < " " or char == "\x7f" for char in url)
        except ValueError:
            broken = True
        if broken:  # raised out here: the error that was caught can quote what must not show
            raise UnsafeLinkError("the link is no URL")
        shown = redact_url(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnsafeLinkError("the link is no http(s) URL", target=shown)
        if parts.username is not None or parts.password is not None:
            raise UnsafeLinkError("the link holds a user name", target=shown)
        if came_from is not None and came_from.scheme == "https" and parts.scheme == "http":
            raise UnsafeLinkError("the file host redirects from https to http", target=shown)
        return parts

    def resolve(self, host: str, port: int) -> list[Endpoint]:
        """Return the addresses of ``host`` that may be connected to.

        :param host: Name or address from the URL.
        :param port: TCP port.
        :raises UnsafeLinkError: None of its addresses is allowed.
        :raises UnknownHost: The name cannot be resolved.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):
            found = []
        if not found:
            raise UnknownHost(f"the name of the file host, {host!r}, cannot be resolved")
        if self._is_allowed_name(host):
            return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]
        judged = [
            (family, address) for family, _, _, _, address in found if self._is_allowed(_address(str(address[0])))
        ]
        if not judged:
            raise UnsafeLinkError(
                f"the link points to {host!r}, which is not a public host; if it is right, add it to the connection's "
                "extra 'allowed_link_hosts'"
            )
        return judged  # type: ignore[return-value]

    def check_behind_proxy(self, host: str) -> None:
        """Judge a host that a proxy will resolve: by its name, and by its addresses as far as they are known here.

        :raises UnsafeLinkError: It is not allowed.
        """
        try:
            self.resolve(host, 0)
        except UnknownHost:
            return

    def _is_allowed_name(self, host: str) -> bool:
        name = _plain(host)
        return name in self._names or any(name.endswith(suffix) for suffix in self._suffixes)

    def _is_allowed(self, address: IPAddress) -> bool:
        if any(address in network for network in self._networks):
            return True
        return all(map(_is_public, _unwrapped(address)))


def _check_brackets(parts: SplitResult) -> None:
    """Raise ``ValueError`` for brackets around anything but an IPv6 address: older Pythons let them pass."""
    host = parts.netloc.rpartition("@")[2]
    if "[" in host or "]" in host:
        address, _, rest = host.removeprefix("[").partition("]")
        if f"[{address}]{rest}" != host or rest[:1] not in ("", ":"):
            raise ValueError("brackets are around a whole host")
        ipaddress.IPv6Address(address)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _address(text: str) -> IPAddress:
    return ipaddress.ip_address(text.partition("%")[0])


def _is_public(address: IPAddress) -> bool:
    special = address.is_multicast or any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not special


def _unwrapped(address: IPAddress) -> list[IPAddress]:
    # An IPv4 address can hide in an IPv6 one; both must be public.
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    inner: list[IPAddress] = [address]
    if address.sixtofour:
        inner.append(address.sixtofour)
    if address.teredo:
        inner.extend(address.teredo)
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return inner
