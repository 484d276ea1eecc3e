"""What the extras of a connection may say, read by name and type; nothing else reaches a client.

Whoever edits connections need not be who writes DAGs, so extras are treated as input, never passed on as they are.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.redaction import NeverPickled


class ConnectionExtras(NeverPickled, BaseModel):
    """The extras that every connection of this package takes.

    :param timeout: Seconds for one network operation (connecting, or waiting for the next bytes); never a total.
    :param verify: Check certificates: yes, no, or against the CA bundle at this path.
    :param proxy: URL of a proxy (``http://``) for the API and the links; without it the environment's ``HTTPS_PROXY``
        holds.
    :param allowed_link_hosts: Host names (``*.`` for a name and all below it), addresses and networks that links may
        point to although they are not public.
    :param check_status: Ask for a task's state before its links.
    :param requests_per_second: How many requests a process sends to the API at most, over all that runs in it.
    :cvar may_be_empty: The extras for which "empty" is a value of its own and not the default.
    """

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True, str_strip_whitespace=True)

    may_be_empty: ClassVar[frozenset[str]] = frozenset()

    timeout: float = Field(30.0, gt=0, le=86400)
    verify: bool | Path = True
    proxy: SecretStr | None = None
    allowed_link_hosts: tuple[str, ...] = ()
    check_status: bool = True
    requests_per_second: float | None = Field(None, ge=0.1, le=1e6)

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_default(cls, value: Any, info: Any) -> Any:
        # The connection form stores a field that is empty as null or "".
        if value is None or (isinstance(value, str) and not value.strip()):
            return "" if info.field_name in cls.may_be_empty else cls.model_fields[info.field_name].get_default()
        return value

    @field_validator("verify", mode="before")
    @classmethod
    def _words_for_bool(cls, value: Any) -> Any:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return words.get(value.strip().lower(), value) if isinstance(value, str) else value

    @field_validator("allowed_link_hosts", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("allowed_link_hosts")
    @classmethod
    def _hosts_or_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_is_host_or_network, value)):
            raise ValueError("an entry is neither a host name (without port) nor an address nor a network")
        return value

    @field_validator("proxy")
    @classmethod
    def _is_proxy_url(cls, value: SecretStr | None) -> SecretStr | None:
        # One that is spoken to by TLS would serve the API alone, and the download fail after a wait of hours.
        if value is not None and not (_is_http_url(url := value.get_secret_value()) and urlsplit(url).scheme == "http"):
            raise ValueError("a proxy is a URL that starts with http://")
        return value


E_ = TypeVar("E_", bound=ConnectionExtras)


def read_extras(extra: str | None, model: type[E_]) -> tuple[E_, list[str]]:
    """Return a connection's extras and the names that are not known.

    :param extra: The connection's ``extra``, JSON text.
    :param model: The extras this connection type takes.
    :raises ConnectionConfigError: The text is no JSON object, or a value is of another type; values are not quoted.
    """
    try:
        values = json.loads(extra) if extra and extra.strip() else {}
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConnectionConfigError("the connection's extra is not a JSON object")
    try:
        extras = model.model_validate(values)
    except ValidationError as error:
        problems = [f"{e['loc'][0]}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
    else:
        return extras, sorted(set(values) - set(model.model_fields))
    raise ConnectionConfigError(f"the connection's extra cannot be used: {'; '.join(dict.fromkeys(problems))}")


def base_url(host: str | None, port: int | None = None, *, default: str | None = None) -> str:
    """Return a connection's address without a trailing slash: scheme, host, port and path prefix.

    A host without a scheme means https.

    :param host: The connection's host field.
    :param port: The connection's port field; one inside ``host`` wins.
    :param default: The address where ``host`` is empty.
    :raises ConnectionConfigError: It is missing, or is no http(s) address, or holds a user, query or fragment.
    """
    text = (host or "").strip() or default
    if text is None:
        raise ConnectionConfigError("the connection needs a host: the API's base URL with its path prefix")
    if _is_ipv6(text):  # as Airflow takes it out of a connection's URI
        text = f"[{text}]"
    if "://" not in text:
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        own_port = parts.port
    except ValueError:
        raise ConnectionConfigError("the connection's host is no URL") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ConnectionConfigError("the connection's host is no http(s) URL")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConnectionConfigError("the connection's host may hold no user, query or fragment")
    netloc = parts.netloc if own_port is not None or not port else f"{parts.netloc}:{port}"
    url = f"{parts.scheme.lower()}://{netloc}{parts.path.rstrip('/')}"
    if not _is_http_url(url):
        raise ConnectionConfigError("the connection's host or port is no part of a URL")
    return url


def _is_http_url(text: str) -> bool:
    try:
        urlsplit(text)  # knows what httpx lets pass, such as an unpaired bracket
        url = httpx.URL(text)
        url.raw_host.decode().encode("idna")  # as the resolver will: a label may be neither empty nor over-long
        return url.scheme in ("http", "https") and bool(url.host) and 0 <= (url.port or 0) < 65536
    except (httpx.InvalidURL, ValueError):
        return False


def _is_host_or_network(entry: str) -> bool:
    if "/" in entry or entry.strip("[]").count(":") > 1:
        try:
            ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            return False
        return True
    name = entry.removeprefix("*.")
    return bool(name) and not any(c in name for c in ":*@ []'\"")


def require_field_text(what: str, text: str) -> None:
    """Check that ``text`` can stand in a header field; the HTTP library's own refusal would quote it.

    :raises ConnectionConfigError: It cannot.
    """
    if not text.isascii() or not text.isprintable():
        raise ConnectionConfigError(f"{what} holds characters that no header field may hold")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stays on this machine, as that of an emulated service does."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ssl_context(verify: bool | Path) -> ssl.SSLContext:
    """Return the TLS settings of a connection; one per process and setting, since each costs memory and 20 ms.

    A CA bundle that was replaced since is read again.

    :raises ConnectionConfigError: The CA bundle cannot be read.
    """
    return _ssl_context(verify, None if isinstance(verify, bool) else _version_of(verify))


def _version_of(path: Path) -> tuple[int, ...] | None:
    try:
        facts = path.stat()
    except (OSError, ValueError):  # the text may be no path at all
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


@lru_cache(maxsize=32)
def _ssl_context(verify: bool | Path, version: tuple[int, ...] | None) -> ssl.SSLContext:
    if isinstance(verify, bool):
        return httpx.create_ssl_context(verify=verify)
    try:
        if verify.is_dir():
            return ssl.create_default_context(capath=str(verify))
        return ssl.create_default_context(cafile=str(verify))
    except (OSError, ValueError) as error:  # ssl.SSLError is one
        problem = f"the CA bundle {str(verify)!r} (extra verify) cannot be read: {error}"
    raise ConnectionConfigError(problem)
