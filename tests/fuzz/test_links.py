"""Whatever a service gives as a link: it never shows, leads to public hosts only, and cannot break a request."""

from __future__ import annotations

import copy
import ipaddress
import pickle
import re
import socket
from datetime import datetime, timezone
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import TransferError, UnsafeLinkError
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.transfer.client import _redirected, _wire_target
from airflow_provider_taskdl.transfer.host_rules import HostRules, UnknownHost
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from tests.canary import CANARY
from tests.fuzz.campaign import Several, family, hides, judge, texts

HOSTS = [
    "h.example", "H.EXAMPLE.", "u@h.example", "u:p@h.example", "h.example:0", "h.example:65535", "h.example:65536",
    "h.example:-1", "h.example:٣", "h.example:", ":80", "", ".", "..", "h..example", "127.0.0.1", "127.1", "2130706433",
    "0x7f000001", "0177.0.0.1", "０.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%eth0]", "[::1",
    "::1]", "[v1.a]", "[]", "169.254.169.254", "localhost", "xn--a", "\u00e9.example", "\u2024", "ａ.example",
    "h%2eexample",
    "h.example%00", "h.example\\@evil", "evil#@h.example", "evil?@h.example", "a b", "h\t.example", "x" * 300,
    "x." * 200,
]  # fmt: skip
TIMES = [
    "2025-01-01T00:00:00Z", "20250101T000000Z", "2025-01-01", "99999-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "", "0", "-1", "300", "99999999999999999999", "9" * 5000, "1e9", "٣", "NaN",
    "2025-13-45",
]  # fmt: skip
_time = st.sampled_from(TIMES)
_pairs = st.one_of(
    st.tuples(st.sampled_from(["sign", "sig", "token", "X-Amz-Signature", "x"]), st.just(CANARY)),
    st.tuples(
        st.sampled_from(["Expires", "X-Amz-Date", "X-Amz-Expires", "X-Goog-Date", "X-Goog-Expires", "se", "sig", "e"]),
        st.one_of(_time, texts),
    ),
    st.builds(
        lambda start, seconds: ("authorization", f"bce-auth-v1/ak/{start}/{seconds}/host/{CANARY}"), _time, _time
    ),
    st.tuples(texts, texts),
)


_MARK = re.compile(r"\?|%(?:25)*3f", re.IGNORECASE)


def _url(
    scheme: str, host: str, path: str, mark: str, pairs: list[tuple[str, str]], quoted: bool, fragment: str
) -> str:
    query = "&".join(f"{name}={quote(value, safe='', errors='replace') if quoted else value}" for name, value in pairs)
    return f"{scheme}{host}{path}{mark}a={quote(CANARY)}&{query}{fragment}"


urls = st.one_of(
    st.builds(
        _url,
        st.sampled_from(["https://", "http://", "HTTPS://", "//", "", "ftp://", "file://", "https:", "https:/", "gopher://"]),
        st.one_of(st.sampled_from(HOSTS), texts),
        st.one_of(st.sampled_from(["/", "", "/a%2Fb", "/a/../b", "/\u00e9", "/a\r\nHost: evil", "/a b", "/%zz",
        "//evil/"]), texts),
        st.sampled_from(["?", "?", "%3F", "%253f"]),
        st.lists(_pairs, max_size=4),
        st.booleans(),
        st.sampled_from(["", "#", f"#{CANARY}", "\r\n", "\x00"]),
    ),
    texts,
)  # fmt: skip
RULES = HostRules("api.example", ["*.allowed.example", "10.1.0.0/16"])
NOW = datetime.now(timezone.utc)


def _never_shows(link: Link) -> None:
    listing = FileListing("t", (RemoteFile("f", link, 1),))
    shown: list[str | bytes] = [
        repr(link),
        str(link),
        f"{link}",
        f"{link!r:>5}",
        pickle.dumps(link),
        pickle.dumps(listing),
        repr(listing),
    ]
    if CANARY not in _MARK.split(link.reveal())[0]:
        hides(*shown, repr(listing.summary()))
    assert copy.deepcopy(link) is link
    assert pickle.loads(pickle.dumps(link)).shown == link.shown


@family(
    url=Several(urls),
    at=Several(st.none() | st.datetimes(timezones=st.just(timezone.utc)), 3),
    margin=Several(st.floats(0, 1e6), 1),
)
def test_any_link_hides_its_query_and_knows_its_end_or_not(url: str, at: datetime | None, margin: float) -> None:
    link = Link(url, at)
    assert link.reveal() == url
    _never_shows(link)
    assert link.expires_at is None or link.expires_at.tzinfo is not None
    assert isinstance(link.expires_within(margin, NOW), bool)
    first = FileListing("t", (RemoteFile("f", link),))
    fresh = FileListing("t", (RemoteFile("f", Link("https://h.example/f")),))
    source = LinkSource(first, lambda: fresh, RetryPolicy())
    source.current("f")
    assert source.renewals <= 1


@family(url=Several(urls), location=Several(urls))
def test_any_link_is_refused_or_cannot_break_a_request(url: str, location: str) -> None:
    try:
        parts = RULES.check_url(url)
    except UnsafeLinkError as error:
        judge(error)
        return
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert (parts.username, parts.password) == (None, None)
    target = _wire_target(url)
    assert target.startswith("/")
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    try:
        # As http.client hands it over: any bytes, read as Latin-1.
        goes_to = _redirected(parts, location.encode("utf-8", "replace").decode("latin-1"))
        after = RULES.check_url(goes_to, came_from=parts)
    except TransferError as error:
        judge(error)
        return
    assert after.scheme in ("http", "https")
    assert (parts.scheme, after.scheme) != ("https", "http")
    assert _wire_target(goes_to).isprintable()


# What no link may lead to, from the registries of special addresses (RFC 6890 and later), apart from the rules' own
# list.
SPECIAL = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
        "240.0.0.0/4", "::/128", "::1/128", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10",
        "ff00::/8",
        "64:ff9b:1::/48", "168.63.129.16/32", "::ffff:0:0:0/96",
    )
]  # fmt: skip


def _embedded(inner: ipaddress.IPv4Address, form: int) -> str:
    number = int(inner)
    return [
        str(ipaddress.IPv6Address(0xFFFF << 32 | number)),
        str(ipaddress.IPv6Address((0x64FF9B << 96) | number)),
        str(ipaddress.IPv6Address((0x2002 << 112) | number << 80)),
        str(ipaddress.IPv6Address(number)),
        str(ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),
    ][form]


_v4 = st.one_of(
    st.ip_addresses(v=4),
    st.sampled_from([net for net in SPECIAL if net.version == 4]).flatmap(
        lambda net: st.integers(0, net.num_addresses - 1).map(lambda i: net[i])
    ),
)
addresses = st.one_of(
    _v4.map(str),
    st.builds(_embedded, _v4, st.integers(0, 4)),
    st.ip_addresses(v=6).map(str),
    st.sampled_from([net for net in SPECIAL if net.version == 6]).flatmap(
        lambda net: st.integers(0, 2**16).map(lambda i: str(net[i % net.num_addresses]))
    ),
    st.sampled_from(["fe80::1%eth0", "::1%1", "10.1.2.3", "10.2.0.1"]),
)


def _is_special(address: str) -> bool:
    """Tell whether an address, or the IPv4 address within it, is for no link."""
    one = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        number, low = int(one), ipaddress.IPv4Address(int(one) & 0xFFFFFFFF)
        if number >> 32 in (0, 0xFFFF, 0x64FF9B << 64) and _is_special(str(low)):
            return True
        if number >> 112 == 0x2002 and _is_special(str(ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF))):
            return True
        if number >> 96 == 0x20010000 and _is_special(str(ipaddress.IPv4Address(int(low) ^ 0xFFFFFFFF))):
            return True
    return any(one in net for net in SPECIAL if net.version == one.version)


@family(found=Several(st.lists(addresses, max_size=4)), host=Several(st.one_of(st.sampled_from(HOSTS), texts), 5))
def test_whatever_a_name_resolves_to_only_public_addresses_are_connected_to(found: list[str], host: str) -> None:
    infos: list[Any] = [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in found
    ]
    with patch.object(socket, "getaddrinfo", lambda *args, **more: infos):
        try:
            judged = RULES.resolve(host, 443)
        except UnknownHost:
            assert not found
            return
        except UnsafeLinkError as error:
            judge(error)
            judged = []
    allowed = [str(address[0]) for _, address in judged]
    inside = ipaddress.ip_network("10.1.0.0/16")
    for address in allowed:
        assert not _is_special(address) or ipaddress.ip_address(address.removeprefix("::ffff:")) in inside
