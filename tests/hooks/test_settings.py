from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.bls import BlsExtras
from airflow_provider_taskdl.hooks.settings import (
    ConnectionExtras,
    base_url,
    read_extras,
    require_field_text,
    ssl_context,
)
from airflow_provider_taskdl.hooks.token import TokenExtras

DEFAULTS = ConnectionExtras()


def _read(model: type[ConnectionExtras] = ConnectionExtras, **values: Any) -> Any:
    extras, unknown = read_extras(json.dumps(values), model)
    assert unknown == []
    return extras


@pytest.mark.parametrize("extra", [None, "", "  ", "{}"])
def test_without_extras_the_defaults_hold(extra: str | None) -> None:
    assert read_extras(extra, ConnectionExtras) == (DEFAULTS, [])
    assert (DEFAULTS.timeout, DEFAULTS.verify, DEFAULTS.proxy) == (30.0, True, None)
    assert (DEFAULTS.allowed_link_hosts, DEFAULTS.check_status) == ((), True)


@pytest.mark.parametrize("blank", [None, "", "   "])
@pytest.mark.parametrize("name", [*ConnectionExtras.model_fields, "region", "security_token"])
def test_a_field_left_empty_in_the_form_has_its_default(name: str, blank: str | None) -> None:
    assert _read(BlsExtras, **{name: blank}) == BlsExtras()


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"timeout": 5}, "timeout", 5.0),
        ({"timeout": "2.5"}, "timeout", 2.5),
        ({"verify": False}, "verify", False),
        ({"verify": " False "}, "verify", False),
        ({"verify": "no"}, "verify", False),
        ({"verify": "0"}, "verify", False),
        ({"verify": "TRUE"}, "verify", True),
        ({"verify": "/etc/ca.pem"}, "verify", Path("/etc/ca.pem")),
        ({"check_status": "false"}, "check_status", False),
        ({"requests_per_second": "0.5"}, "requests_per_second", 0.5),
        ({"requests_per_second": 0.1}, "requests_per_second", 0.1),
        ({"requests_per_second": 20}, "requests_per_second", 20.0),
        ({"check_status": 0}, "check_status", False),
        ({"allowed_link_hosts": "a.b, *.b ,10.0.0.0/8"}, "allowed_link_hosts", ("a.b", "*.b", "10.0.0.0/8")),
        ({"allowed_link_hosts": ["::1", "[fd00::]", " h "]}, "allowed_link_hosts", ("::1", "[fd00::]", "h")),
        ({"allowed_link_hosts": ["fd00::/8"]}, "allowed_link_hosts", ("fd00::/8",)),
    ],
)  # fmt: skip
def test_an_extra_is_read_by_its_type(values: dict[str, Any], name: str, expected: object) -> None:
    assert getattr(_read(**values), name) == expected


@pytest.mark.parametrize("url", ["http://proxy:3128", "http://user:pw@proxy.example", " HTTP://proxy "])
def test_a_proxy_is_kept_and_not_shown(url: str) -> None:
    extras = _read(proxy=url)
    assert extras.proxy.get_secret_value() == url.strip()
    assert "proxy.example" not in repr(extras)
    assert "pw" not in repr(extras)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (ConnectionExtras, {"timeout": 0}),
        (ConnectionExtras, {"timeout": -1}),
        (ConnectionExtras, {"timeout": 86401}),
        (ConnectionExtras, {"timeout": "geheim"}),
        (ConnectionExtras, {"timeout": float("nan")}),
        (ConnectionExtras, {"timeout": ["geheim"]}),
        (ConnectionExtras, {"requests_per_second": 0}),
        (ConnectionExtras, {"requests_per_second": -1}),
        (ConnectionExtras, {"requests_per_second": 0.09}),
        (ConnectionExtras, {"requests_per_second": "geheim"}),
        (ConnectionExtras, {"requests_per_second": float("nan")}),
        (ConnectionExtras, {"requests_per_second": float("inf")}),
        (ConnectionExtras, {"verify": 5}),
        (ConnectionExtras, {"verify": {"geheim": 1}}),
        (ConnectionExtras, {"check_status": "geheim"}),
        (ConnectionExtras, {"proxy": "geheim"}),
        (ConnectionExtras, {"proxy": "socks5://u:geheim@h"}),
        (ConnectionExtras, {"proxy": "https://u:geheim@h"}),
        (ConnectionExtras, {"proxy": "http://"}),
        (ConnectionExtras, {"proxy": "http://u:geheim@[h"}),
        (ConnectionExtras, {"proxy": "http://u:geheim℀@h"}),
        (ConnectionExtras, {"proxy": "http://u:geheim@h:99999"}),
        (ConnectionExtras, {"allowed_link_hosts": ["h:80geheim"]}),
        (ConnectionExtras, {"allowed_link_hosts": ["u:geheim@h"]}),
        (ConnectionExtras, {"allowed_link_hosts": '["geheim.b", "c.d"]'}),
        (ConnectionExtras, {"allowed_link_hosts": ["*."]}),
        (ConnectionExtras, {"allowed_link_hosts": ["*.*.geheim"]}),
        (ConnectionExtras, {"allowed_link_hosts": ["geheim/8"]}),
        (ConnectionExtras, {"allowed_link_hosts": ["https://geheim/"]}),
        (ConnectionExtras, {"allowed_link_hosts": [["geheim"]]}),
        (BlsExtras, {"region": "geheim.example/x"}),
        (BlsExtras, {"region": "b" * 33}),
        (BlsExtras, {"security_token": ["geheim"]}),
        (TokenExtras, {"header_name": "geheim: x"}),
        (TokenExtras, {"header_name": "geheim\r\nHost"}),
        (TokenExtras, {"header_prefix": "geheim geheim"}),
    ],
)
def test_a_value_of_another_type_is_named_and_not_quoted(model: type[ConnectionExtras], values: dict[str, Any]) -> None:
    with pytest.raises(ConnectionConfigError) as caught:
        read_extras(json.dumps(values), model)
    assert next(iter(values)) in str(caught.value)
    assert "Value error" not in str(caught.value)  # the library's words around ours
    error: BaseException | None = caught.value
    while error is not None:
        assert "geheim" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("extra", ["geheim", "[1]", '"geheim"', "null", "5", "{'geheim': 1}", "[" * 200_000])
def test_what_is_no_json_object_is_refused(extra: str) -> None:
    with pytest.raises(ConnectionConfigError, match="not a JSON object") as caught:
        read_extras(extra, ConnectionExtras)
    assert "geheim" not in str(caught.value)


def test_unknown_names_are_told_and_reach_nothing() -> None:
    extras, unknown = read_extras('{"timeout": 3, "zeta": 1, "trust_env": false, "region": "bj"}', ConnectionExtras)
    assert unknown == ["region", "trust_env", "zeta"]
    assert extras == ConnectionExtras(timeout=3)
    assert not hasattr(extras, "zeta")


@pytest.mark.parametrize(
    ("values", "name", "prefix"),
    [
        ({}, "Authorization", "Bearer"),
        ({"header_name": "X-API-Key", "header_prefix": ""}, "X-API-Key", ""),
        ({"header_prefix": "  "}, "Authorization", ""),
        ({"header_prefix": "Token "}, "Authorization", "Token"),
        ({"header_name": " ", "header_prefix": None}, "Authorization", ""),
        ({"header_name": "X-Key\n"}, "X-Key", "Bearer"),
    ],
)
def test_an_empty_prefix_means_a_raw_token(values: dict[str, Any], name: str, prefix: str) -> None:
    extras = _read(TokenExtras, **values)
    assert (extras.header_name, extras.header_prefix) == (name, prefix)


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("h.example", None, "https://h.example"),
        ("h.example/", None, "https://h.example"),
        (" h.example/api/v1/ ", None, "https://h.example/api/v1"),
        ("http://h.example:8080/p", None, "http://h.example:8080/p"),
        ("HTTPS://h.example", None, "https://h.example"),
        ("h.example", 8443, "https://h.example:8443"),
        ("h.example/p", 8443, "https://h.example:8443/p"),
        ("h.example:1", 8443, "https://h.example:1"),
        ("http://[2001:db8::1]/p", 81, "http://[2001:db8::1]:81/p"),
        ("2001:db8::1", 8443, "https://[2001:db8::1]:8443"),
        (" ::1 ", None, "https://[::1]"),
        (None, None, "https://default.example/d"),
        ("", None, "https://default.example/d"),
        ("  ", 81, "https://default.example:81/d"),
    ],
)
def test_a_host_is_https_unless_it_says_otherwise(host: str | None, port: int | None, url: str) -> None:
    assert base_url(host, port, default="https://default.example/d") == url


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (None, None), ("", 80), ("ftp://h", None), ("file:///etc/passwd", None), ("https://", None), ("a" * 64, None),
        ("user@h", None), ("https://user:geheim@h", None), ("https://@h", None), ("h?x=geheim", None), ("h#x", None),
        ("[h", None), ("h:port", None), ("h:99999", None), ("h", 99999), ("h", -1), ("h:", 80), ("xn--", None),
        ("h\x00", None), ("::1::", None), ("::1/p", None), ("a..b", None),
    ],
)  # fmt: skip
def test_what_is_no_address_is_a_configuration_error(host: str | None, port: int | None) -> None:
    with pytest.raises(ConnectionConfigError) as caught:
        base_url(host, port)
    assert "geheim" not in str(caught.value)


@given(st.text(max_size=30), st.none() | st.integers())
def test_any_host_gives_an_address_or_a_configuration_error(host: str, port: int | None) -> None:
    try:
        url = base_url(host, port)
    except ConnectionConfigError:
        return
    assert url.startswith(("http://", "https://"))
    assert not url.endswith("/")
    assert not set(url) & set("?#@")


@pytest.mark.parametrize("text", ["", "abc", "a b", "token+/=="])
def test_plain_text_may_stand_in_a_header_field(text: str) -> None:
    require_field_text("Password", text)


@pytest.mark.parametrize("text", ["geheim\n", "ge\x00heim", "gehéim", "geheim\x7f"])
def test_other_text_may_not_and_is_not_quoted(text: str) -> None:
    with pytest.raises(ConnectionConfigError, match="Password") as caught:
        require_field_text("Password", text)
    assert "heim" not in str(caught.value)


@pytest.mark.parametrize(("verify", "mode"), [(True, ssl.CERT_REQUIRED), (False, ssl.CERT_NONE)])
def test_verify_decides_over_certificates(verify: bool, mode: ssl.VerifyMode) -> None:
    context = ssl_context(verify)
    assert (context.verify_mode, context.check_hostname) == (mode, verify)
    assert ssl_context(verify) is context


def test_a_bundle_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    bundle, kept = tmp_path / "ca.pem", Path(certifi.where()).read_text().split("-----END CERTIFICATE-----\n")
    counts = []
    for count in (1, 3):
        bundle.write_text("".join(f"{one}-----END CERTIFICATE-----\n" for one in kept[:count]))
        context = ssl_context(bundle)
        assert ssl_context(bundle) is context
        counts.append(len(context.get_ca_certs()))
    assert counts == [1, 3]


def test_a_directory_of_authorities_is_taken(tmp_path: Path) -> None:
    assert ssl_context(tmp_path).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("path", ["\x00", "a\x00b"])
def test_a_bundle_that_is_no_path_is_a_configuration_error(path: str) -> None:
    with pytest.raises(ConnectionConfigError, match="verify"):
        ssl_context(Path(path))


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bundle_that_cannot_be_read_is_a_configuration_error(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(ConnectionConfigError, match=r"ca\.pem"):
        ssl_context(bundle)
