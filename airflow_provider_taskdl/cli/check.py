"""What is wrong with a connection, in the order in which a request meets it."""

from __future__ import annotations

import argparse
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_taskdl.cli.commands import find_hook
from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.access import Access
from airflow_provider_taskdl.transfer.connection import environments_proxy

_PORTS = {"http": 80, "https": 443}
_PATIENCE = 30.0


class Finding(NamedTuple):
    """One line of the answer.

    :param mark: How it is.
    :param what: What was looked at.
    :param text: What was found.
    """

    mark: Literal["ok", "note", "WRONG"]
    what: str
    text: str


def check(options: argparse.Namespace, write: Callable[[str], object]) -> int:
    """Look at a connection and print what is found.

    :param options: The command line.
    :param write: Takes the result.
    :returns: The exit code.
    """
    code = 0
    for finding in findings(options.conn_id):
        write(f"{finding.mark:<5}  {finding.what:<11}  {finding.text}\n")
        code = max(code, finding.mark == "WRONG")
    return int(code)


def findings(conn_id: str) -> Iterator[Finding]:
    """Yield what there is to say of a connection; what cannot be looked at any more is left out.

    :param conn_id: The Airflow connection.
    """
    try:
        hook = find_hook(conn_id)
    except ConnectionConfigError as error:
        yield Finding("WRONG", "connection", error.message)
        return
    yield Finding("ok", "connection", f"{conn_id} is of type {hook.conn_type}: {hook.hook_name}")
    try:
        try:
            access = hook.access
            _ = access.tls  # reads the CA bundle
        except ConnectionConfigError as error:
            yield Finding("WRONG", "settings", error.message)
            return
        unknown = hook.unknown_extras
        for remark in hook.remarks:
            yield Finding("WRONG" if unknown and remark is hook.remarks[-1] else "note", "settings", remark)
        if not unknown:
            yield Finding("ok", "settings", f"the service is asked at {access.base_url}")
        reached = True
        for finding in _way_to(access):
            reached &= finding.mark != "WRONG"
            yield finding
        if reached:
            works, text = hook.try_credentials()
            yield Finding("ok" if works else "WRONG", "credentials", text)
    finally:
        hook.close()


def _way_to(access: Access) -> Iterator[Finding]:
    service = urlsplit(access.base_url)
    proxy = access.proxy
    if proxy is None:
        proxy = environments_proxy(service.scheme, access.host)
    if proxy is not None and "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = service if proxy is None else urlsplit(proxy)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    except ValueError:  # the connection's own was looked at before; nothing of it is quoted
        yield Finding("WRONG", "proxy", "the proxy that the environment names is no URL")
        return
    what, name = ("host", host) if proxy is None else ("proxy", f"the proxy {host}")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        yield Finding("WRONG", what, f"the name {host!r} cannot be resolved: {error.strerror}")
        return
    try:
        line = socket.create_connection((host, port), timeout=min(access.extras.timeout, _PATIENCE))
    except OSError as error:
        tried = ", ".join(sorted({str(address[4][0]) for address in addresses}))
        yield Finding("WRONG", what, f"{name} does not answer at {tried} port {port}: {error.strerror or error}")
        return
    with line:
        yield Finding("ok", what, f"{name} answers at {line.getpeername()[0]} port {port}")
        if proxy is None and service.scheme == "https":
            yield _tls(line, access)


def _tls(line: socket.socket, access: Access) -> Finding:
    host = access.host
    try:
        with access.tls.wrap_socket(line, server_hostname=host) as secured:
            version = secured.version()
    except ssl.SSLCertVerificationError as error:
        hint = "the extra 'verify' takes the path of a CA bundle"
        return Finding("WRONG", "TLS", f"the certificate of {host} is not trusted: {error.verify_message}; {hint}")
    except (OSError, ValueError) as error:
        hint = "if the service speaks plain http, write http:// in Host"
        return Finding("WRONG", "TLS", f"{host} does not speak TLS at this port ({type(error).__name__}); {hint}")
    if access.tls.verify_mode is ssl.CERT_NONE:
        return Finding("note", "TLS", f"{version}, but the certificate is not checked (extra verify = false)")
    return Finding("ok", "TLS", f"{version}, the certificate is trusted")
