"""One authentication for both HTTP libraries: it sees a request's method and URL and gives header fields."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx
import requests
import requests.auth

from airflow_provider_taskdl.redaction import NeverPickled


class HeaderAuth(NeverPickled, httpx.Auth, requests.auth.AuthBase):
    """Adds header fields to each request, anew on every try.

    Given as ``auth=`` to an ``httpx`` client or request, to a ``requests`` session or request, or as ``auth_type=``
    to Airflow's ``HttpHook``.

    Where requests follows a redirect to another host, the fields stay behind. httpx has no place for that: with
    ``follow_redirects=True`` it takes all but ``Authorization`` along, so leave that off, as it is by default.
    """

    @abstractmethod
    def headers_for(self, method: str, url: str) -> Mapping[str, str]:
        """Return the header fields for a request to ``url``, which is percent-encoded as it will be sent."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate a request of httpx."""
        url = str(request.url)
        if (sent := _spaces_as_percent(url)) != url:
            request.url = httpx.URL(sent)
        request.headers.update(self.headers_for(request.method, _at(sent, request.headers.get("host"))))
        yield request

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authenticate a request of requests."""
        request.url = _spaces_as_percent(request.url or "")
        fields = self.headers_for(request.method or "GET", _at(request.url, request.headers.get("host")))
        request.headers.update(fields)
        request.register_hook("response", partial(_leave_behind, fields))  # type: ignore[no-untyped-call]
        return request


def _spaces_as_percent(url: str) -> str:
    # Both libraries write a space in a parameter as "+", which a signing server may read as a plus sign.
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=parts.query.replace("+", "%20"))) if "+" in parts.query else url


def _at(url: str, host: str | None) -> str:
    """Return the URL as the server sees it, which a ``Host`` field of one's own may send elsewhere (a tunnel)."""
    return urlunsplit(urlsplit(url)._replace(netloc=host)) if host else url


def _leave_behind(fields: Iterable[str], response: requests.Response, **_: Any) -> None:
    """Take fields out of a request that is going to be sent on to another place."""
    if not response.is_redirect:
        return
    target = urljoin(response.url, response.headers["location"])
    # As it decides itself about `Authorization`.
    if requests.Session().should_strip_auth(response.url, target):  # type: ignore[no-untyped-call]
        for name in fields:
            response.request.headers.pop(name, None)
