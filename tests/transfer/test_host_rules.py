"""No link leads into the private network, however it is written."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import UnsafeLinkError
from airflow_provider_taskdl.transfer.host_rules import HostRules, UnknownHost
from tests.canary import assert_canary_free

PUBLIC = "93.184.216.34"


def answering(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses."""

    def getaddrinfo(host: str, port: int, **kwargs: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.9.10", "168.63.129.16",
        "169.254.0.23", "169.254.42.42", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:0:7f00:1", "::ffff:127.0.0.1", "::ffff:168.63.129.16",
        "::ffff:169.254.169.254", "::ffff:10.1.2.3", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2001:0:7f00:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
        "64:ff9b::a83f:8110", "2002:a83f:8110::1", "fc00::1", "fd00::1", "fd00:42::42", "fd00:ec2::254", "fd20:ce::254",
        "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_a_name_with_a_private_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, address)
    with pytest.raises(UnsafeLinkError, match="allowed_link_hosts") as caught:
        HostRules().resolve("files.example", 443)
    assert not caught.value.retryable


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_name_with_a_public_address_is_taken(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, address)
    assert [endpoint[1][:2] for endpoint in HostRules().resolve("files.example", 443)] == [(address, 443)]


def test_only_the_public_addresses_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "10.0.0.1", PUBLIC, "::1")
    assert [endpoint[1][0] for endpoint in HostRules().resolve("files.example", 443)] == [PUBLIC]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "::1", "::ffff:127.0.0.1", "localhost",
     "localhost.", "LOCALHOST", "127。0。0。1"],
)  # fmt: skip
def test_this_machine_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises((UnsafeLinkError, UnknownHost)):
        HostRules().resolve(host, 80)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost", "::1"])
def test_the_spellings_that_lead_here_are_refused_for_what_they_are(host: str) -> None:
    with pytest.raises(UnsafeLinkError):
        HostRules().resolve(host, 80)


@pytest.mark.parametrize(
    ("api", "allowed", "host", "address", "taken"),
    [
        ("api.corp", (), "api.corp", "10.0.0.1", True),
        ("api.corp", (), "API.corp.", "10.0.0.1", True),
        ("api.corp", (), "files.api.corp", "10.0.0.1", False),
        ("api.corp", (), "api.corp.evil", "10.0.0.1", False),
        (None, ("files.corp",), "files.corp", "10.0.0.1", True),
        (None, (" FILES.corp. ",), "files.CORP", "10.0.0.1", True),
        (None, ("files.corp",), "a.files.corp", "10.0.0.1", False),
        (None, ("files.corp",), "evilfiles.corp", "10.0.0.1", False),
        (None, ("*.corp",), "a.b.corp", "10.0.0.1", True),
        (None, ("*.corp",), "corp", "10.0.0.1", True),
        (None, ("*.corp",), "evilcorp", "10.0.0.1", False),
        (None, ("10.0.0.0/8",), "any.name", "10.9.9.9", True),
        (None, ("10.0.0.0/8",), "any.name", "11.0.0.1", True),  # public
        (None, ("10.0.0.0/8",), "any.name", "192.168.0.1", False),
        (None, ("10.0.0.1/8",), "any.name", "10.9.9.9", True),
        (None, ("10.0.0.1",), "any.name", "10.0.0.1", True),
        (None, ("10.0.0.1",), "any.name", "10.0.0.2", False),
        (None, ("fd00::/8",), "any.name", "fd12::1", True),
        (None, ("[::1]",), "any.name", "::1", True),
        (None, ("fd00::/8",), "any.name", "10.0.0.1", False),
        (None, (), "any.name", "10.0.0.1", False),
    ],
)  # fmt: skip
def test_the_connection_says_what_is_allowed_besides(
    api: str | None, allowed: tuple[str, ...], host: str, address: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, address)
    rules = HostRules(api, allowed)
    if taken:
        assert rules.resolve(host, 443)
        rules.check_behind_proxy(host)
    else:
        with pytest.raises(UnsafeLinkError):
            rules.resolve(host, 443)
        with pytest.raises(UnsafeLinkError):
            rules.check_behind_proxy(host)


@pytest.mark.parametrize("host", ["files.invalid", "a" * 70 + ".example", "", "a\0b", "a..b", "a b", "\udcff"])
def test_a_name_that_leads_nowhere_is_unknown(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def offline(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "files.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return real(name, *args, **kwargs) if name else []

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(UnknownHost):
        HostRules().resolve(host, 443)


def test_a_name_that_only_the_proxy_knows_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    HostRules().check_behind_proxy("inside.example")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no http"), ("f", "no http"), ("/f", "no http"), ("//h/f", "no http"), ("ftp://h/f", "no http"),
        ("file:///etc/passwd", "no http"), ("s3://b/k", "no http"), ("http://", "no http"), ("http:///f", "no http"),
        ("http:h/f", "no http"), ("https://?x", "no http"), ("javascript:alert(1)", "no http"),
        ("http://u@h/f", "user name"), ("http://u:p@h/f", "user name"), ("http://@h/f", "user name"),
        ("http://:p@h/f", "user name"), ("http://h\\@g/f", "user name"),
        ("http://h:99999/f", "no URL"), ("http://h:x/f", "no URL"), ("http://[::1/f", "no URL"),
        ("http://[h]/f", "no URL"), ("http://[127.0.0.1]/f", "no URL"), ("http://[]/f", "no URL"),
        ("http://x[::1]/f", "no URL"), ("http://[::1]x/f", "no URL"), ("http://[[::1]]/f", "no URL"),
        ("http://h]/f", "no URL"), ("http://u@[h]/f", "no URL"), ("http://u@[::1]/f", "user name"),
        ("http://a b/f", "no URL"), ("http://a\u2003b/f", "no URL"),
        ("http://h/f\r\nX: y", "no URL"), ("http://h\t/f", "no URL"), ("http://h/\0", "no URL"),
        ("http://h/\udcff", "no URL"), ("http://h\uff0fevil/f", "no URL"), ("http://h%3Fk=v", "no URL"),
        ("http://h&k=v/f", "no URL"),
    ],
)  # fmt: skip
def test_what_is_no_plain_http_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(UnsafeLinkError, match=why):
        HostRules().check_url(url)


@pytest.mark.parametrize("host", ["münchen.de", "उदाहरण.परीक्षा", "a_b-c.example", "xn--mnchen-3ya.de", "1.2.3.4"])
def test_a_host_may_have_a_name_in_any_script(host: str) -> None:
    assert HostRules().check_url(f"https://{host}:8443/f").hostname == host


@pytest.mark.parametrize("netloc", ["[::1]", "[2001:DB8::1]:8443", "[::ffff:1.2.3.4]:"])
def test_an_ipv6_address_stands_in_brackets(netloc: str) -> None:
    assert HostRules().check_url(f"http://{netloc}/f").netloc == netloc


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        ("https://h/a", "https://g/b", True), ("http://h/a", "https://g/b", True), ("http://h/a", "http://g/b", True),
        ("https://h/a", "http://h/a", False),
    ],
)  # fmt: skip
def test_https_is_never_left(before: str, after: str, taken: bool) -> None:
    if taken:
        assert HostRules().check_url(after, came_from=urlsplit(before)).geturl() == after
    else:
        with pytest.raises(UnsafeLinkError, match="from https to http"):
            HostRules().check_url(after, came_from=urlsplit(before))


@pytest.mark.parametrize(
    "url",
    ["http://CANARY:CANARY@h:bad/", "http://h:CANARY/", "http://CANARY\uff0f@h/", "http://[CANARY/",
     "ftp://h/f?sig=CANARY", "http://u@h/f?sig=CANARY", "http://h/f?sig=CANARY\udcff", "http://h%3Fsig=CANARY", "http://h;sig=CANARY/f"],
)  # fmt: skip
def test_no_refusal_shows_what_the_url_holds(url: str) -> None:
    with pytest.raises(UnsafeLinkError) as caught:
        HostRules().check_url(url)
    assert_canary_free(caught.value, secrets=["CANARY", "canary"])


@given(st.text(max_size=30), st.sampled_from(["", "http://", "https://", "http://h/", "https://h?", "http://["]))
def test_any_text_is_a_url_that_may_be_asked_or_refused(text: str, prefix: str) -> None:
    try:
        parts = HostRules().check_url(prefix + text)
    except UnsafeLinkError as error:
        assert error.__context__ is None  # noqa: PT017 - both ways are fine
    else:
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert parts.username is None


@given(st.ip_addresses())
def test_an_address_that_may_be_asked_is_global(address: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        answering(patch, str(address))
        try:
            HostRules().resolve("files.example", 443)
        except UnsafeLinkError:
            return
    inner = getattr(address, "ipv4_mapped", None) or address
    assert inner.is_global or str(address).startswith("64:ff9b::")
    assert not inner.is_multicast
