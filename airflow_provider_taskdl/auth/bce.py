"""The signature of Baidu AI Cloud, "BCE authentication version 1".

Source: cloud.baidu.com/doc/Reference/s/njwvz1yfu (the rules) and Gjwvz1xez (the header form).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from urllib.parse import quote, unquote_to_bytes, urlsplit

from airflow_provider_taskdl.auth.base import HeaderAuth

_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_request(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Return the text that is signed.

    :param method: HTTP method.
    :param path: The request's path as sent.
    :param query: The request's query as sent, without ``?``.
    :param headers: The header fields to sign; empty ones do not count.
    """
    lines = [method.upper(), quote(unquote_to_bytes(path or "/"), safe="/-_.~"), _canonical_query(query)]
    fields = ((name.strip().lower(), value.strip()) for name, value in headers.items())
    lines += sorted(f"{_encode(name)}:{_encode(value)}" for name, value in fields if value)
    return "\n".join(lines)


def sign(
    access_key_id: str,
    secret_access_key: str,
    *,
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str],
    signed_headers: Iterable[str] | None = None,
    timestamp: datetime,
    expires_in: int = 1800,
) -> str:
    """Return the ``Authorization`` value for a request.

    :param access_key_id: Access Key ID.
    :param secret_access_key: Secret Access Key.
    :param method: HTTP method.
    :param path: The path as sent.
    :param query: The query as sent, without ``?``.
    :param headers: Header fields of the request; all of them are signed unless ``signed_headers`` chooses.
    :param signed_headers: Names of the fields to sign, written into the value. ``None`` signs ``headers`` and leaves
        the list empty, which the service reads as its default set.
    :param timestamp: When it is signed.
    :param expires_in: Seconds for which the signature holds; -1 for ever.
    """
    listed = ""
    if signed_headers is not None:
        names = sorted(name.lower() for name in signed_headers)
        headers = {name: value for name, value in headers.items() if name.lower() in names}
        listed = ";".join(names)
    moment = timestamp.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    prefix = f"bce-auth-v1/{access_key_id}/{moment}/{expires_in}"
    # The second key is the first digest's hexadecimal text, not its bytes.
    signing_key = _hmac_hex(secret_access_key, prefix)
    return f"{prefix}/{listed}/{_hmac_hex(signing_key, canonical_request(method, path, query, headers))}"


class BceAuth(HeaderAuth):
    """Signs requests to any BCE service.

    Signed are ``host`` and ``x-bce-date``, and the security token if there is one: few fields, because what a proxy
    or an HTTP library changes afterwards would break the signature. Each try is signed anew with the time of day.

    With Airflow's own operators::

        HttpOperator(http_conn_id="my_bce_service", auth_type=BceAuth, ...)  # Login = AK, Password = SK

    Not with ``deferrable=True``: what asks in the triggerer, aiohttp, takes a name and a password only.

    :param access_key_id: Access Key ID.
    :param secret_access_key: Secret Access Key.
    :param security_token: Session token of temporary (STS) credentials.
    :param expires_in: Seconds for which a signature holds.
    """

    def __init__(
        self, access_key_id: str, secret_access_key: str, security_token: str | None = None, *, expires_in: int = 1800
    ) -> None:
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._security_token = security_token
        self._expires_in = expires_in

    def headers_for(self, method: str, url: str) -> Mapping[str, str]:
        """Return ``Authorization``, ``x-bce-date`` and, with temporary credentials, ``x-bce-security-token``."""
        parts = urlsplit(url)
        now = datetime.now(timezone.utc)
        fields = {"host": _host(parts.hostname or "", parts.port, parts.scheme)}
        sent = {"x-bce-date": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        if self._security_token:
            sent["x-bce-security-token"] = self._security_token
        fields.update(sent)
        authorization = sign(
            self._access_key_id,
            self._secret_access_key,
            method=method,
            path=parts.path,
            query=parts.query,
            headers=fields,
            signed_headers=fields,
            timestamp=now,
            expires_in=self._expires_in,
        )
        return {**sent, "Authorization": authorization}

    def __repr__(self) -> str:
        return "BceAuth(***)"


def _encode(text: str | bytes) -> str:
    return quote(text, safe="-_.~")


def _canonical_query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    decoded = ((_decode(key), _decode(value)) for key, _, value in pairs)
    # The joined texts are sorted, so that "a10=" comes before "a=" as the specification's own example has it.
    return "&".join(sorted(f"{_encode(k)}={_encode(v)}" for k, v in decoded if k.lower() != b"authorization"))


def _decode(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


def _host(name: str, port: int | None, scheme: str) -> str:
    shown = f"[{name}]" if ":" in name else name
    return shown if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{shown}:{port}"


def _hmac_hex(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
