from __future__ import annotations

import json
from urllib.parse import urljoin

import httpx
import pytest
import requests
import requests_mock

from airflow_provider_taskdl.auth import BceAuth, TokenAuth
from airflow_provider_taskdl.auth.base import HeaderAuth

TOKEN = "t0ken-Geheim"


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (TokenAuth(TOKEN), "Authorization", f"Bearer {TOKEN}"),
        (TokenAuth(TOKEN, header_prefix="Token"), "Authorization", f"Token {TOKEN}"),
        (TokenAuth(TOKEN, header_prefix=""), "Authorization", TOKEN),
        (TokenAuth(TOKEN, "X-API-Key", ""), "X-API-Key", TOKEN),
    ],
)
def test_both_libraries_send_the_token_in_the_named_field(auth: TokenAuth, name: str, value: str) -> None:
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200)), auth=auth) as client:
        by_httpx = client.get("https://h.example/x").request
    with requests_mock.Mocker() as mock:
        mock.get("https://h.example/x")
        by_requests = requests.get("https://h.example/x", auth=auth, timeout=1).request
    assert by_httpx.headers[name] == by_requests.headers[name] == value
    others = {"Authorization", "X-API-Key"} - {name}
    assert not any(other in by_httpx.headers or other in by_requests.headers for other in others)


def test_the_token_is_not_signed_into_the_url() -> None:
    with httpx.Client(
        transport=httpx.MockTransport(lambda request: httpx.Response(200)), auth=TokenAuth(TOKEN)
    ) as client:
        request = client.get("https://h.example/x", params={"a": "b c"}).request
    assert str(request.url) == "https://h.example/x?a=b%20c"


@pytest.mark.parametrize("auth", [TokenAuth(TOKEN), TokenAuth(TOKEN, "X-API-Key", "")])
def test_no_view_of_the_authentication_shows_the_token(auth: TokenAuth) -> None:
    for shown in (repr(auth), str(auth), f"{auth!r}", json.dumps({"auth": str(auth)})):
        assert TOKEN not in shown


@pytest.mark.parametrize(
    ("target", "goes_along"),
    [("https://other.example/y", False), ("http://h.example/y", False), ("https://h.example:8443/y", False),
     ("https://h.example:443/y", True),
     ("//other.example/y", False), ("/y", True), ("https://h.example/y", True)],
)  # fmt: skip
@pytest.mark.parametrize("auth", [TokenAuth(TOKEN, "X-API-Key", ""), BceAuth("ak", "sk", TOKEN)])
def test_what_proves_who_asks_does_not_follow_a_redirect_to_another_place(
    auth: HeaderAuth, target: str, goes_along: bool
) -> None:
    with requests_mock.Mocker() as mock:
        mock.get("https://h.example/x", status_code=302, headers={"location": target})
        there = mock.get(urljoin("https://h.example/x", target))
        requests.get("https://h.example/x", auth=auth, timeout=1, headers={"X-Other": "kept"})
    sent = there.last_request.headers
    assert (TOKEN in sent.values()) is goes_along
    assert sent["X-Other"] == "kept"
    assert goes_along or not {"authorization", "x-bce-date"} & {name.lower() for name in sent}


def test_the_name_of_the_field_may_be_shown() -> None:
    assert repr(TokenAuth(TOKEN, "X-API-Key")) == "TokenAuth(X-API-Key: ***)"
