"""What a failure is called: on the way to a service, and towards Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_taskdl.exceptions import ConnectionConfigError, ServiceUnavailableError, TaskDownloadError

if TYPE_CHECKING:
    from airflow_provider_taskdl.hooks.access import Access

# What OpenSSL says, depending on its version, to an answer in plain HTTP.
_NO_TLS = ("WRONG_VERSION_NUMBER", "record layer failure")


def without_answer(error: httpx.HTTPError, service: str, access: Access) -> TaskDownloadError:
    """Return our word for what kept a service from answering.

    :param error: What the client says. It holds the request with its signature, so only its kind is taken over.
    :param service: What it is called.
    :param access: How it was asked.
    """
    where, timeout = f"{service} at {access.host}", access.extras.timeout
    if isinstance(error, httpx.TimeoutException):
        return ServiceUnavailableError(f"{where} did not answer within {timeout:g} s ({type(error).__name__})")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConnectionConfigError(
            f"the certificate of {access.host} is not trusted; the extra 'verify' takes the path of a CA bundle"
        )
    if any(text in str(error) for text in _NO_TLS):
        return ServiceUnavailableError(
            f"{where} does not speak TLS on this port; http:// is used only where the connection's host says so"
        )
    return ServiceUnavailableError(f"{where} cannot be reached ({type(error).__name__}: {error})")


def as_airflow_sees_it(error: TaskDownloadError) -> Exception:
    """Return what to raise in a task: the error itself, or for one that no retry can mend ``AirflowFailException``."""
    if error.retryable:
        return error
    failure = AirflowFailException(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
