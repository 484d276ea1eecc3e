"""A token in a header field."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_taskdl.auth.base import HeaderAuth


class TokenAuth(HeaderAuth):
    """Sends a token with each request: ``<header_name>: <header_prefix> <token>``.

    :param token: The token.
    :param header_name: The field's name.
    :param header_prefix: What stands before the token, such as ``Bearer`` (RFC 6750 §2.1); empty for a raw token.
    """

    def __init__(self, token: str, header_name: str = "Authorization", header_prefix: str = "Bearer") -> None:
        self._field = (header_name, f"{header_prefix} {token}".strip() if header_prefix else token)

    def headers_for(self, method: str, url: str) -> Mapping[str, str]:
        """Return the one header field."""
        return dict([self._field])

    def __repr__(self) -> str:
        return f"TokenAuth({self._field[0]}: ***)"
