"""One authentication for both HTTP libraries: it sees a request's method and URL and gives header fields."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping
from urllib.parse import urlsplit, urlunsplit

import httpx
import requests
import requests.auth

from airflow_provider_taskdl.redaction import NeverPickled


class HeaderAuth(NeverPickled, httpx.Auth, requests.auth.AuthBase):
    """Adds header fields to each request, anew on every try.

    Given as ``auth=`` to an ``httpx`` client or request, to a ``requests`` session or request, or as ``auth_type=``
    to Airflow's ``HttpHook``.
    """

    @abstractmethod
    def headers_for(self, method: str, url: str) -> Mapping[str, str]:
        """Return the header fields for a request to ``url``, which is percent-encoded as it will be sent."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate a request of httpx."""
        url = str(request.url)
        if (sent := _spaces_as_percent(url)) != url:
            request.url = httpx.URL(sent)
        request.headers.update(self.headers_for(request.method, sent))
        yield request

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authenticate a request of requests."""
        request.url = _spaces_as_percent(request.url or "")
        request.headers.update(self.headers_for(request.method or "GET", request.url))
        return request


def _spaces_as_percent(url: str) -> str:
    # Both libraries write a space in a parameter as "+", which a signing server may read as a plus sign.
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=parts.query.replace("+", "%20"))) if "+" in parts.query else url
