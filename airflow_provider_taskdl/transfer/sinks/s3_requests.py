"""How requests reach an S3 store: small ones through the connection's own client, bulk bytes by signed links.

The client reads, hashes and copies a body several times before it is on the wire. A signed link for one part, and the
part's bytes straight into a kept connection, cost less than half of that. Such a link is a secret: it is made anew for
each try and appears in no error. Whatever the client can do and this cannot (client certificates, other signatures,
special proxies) is left to the client.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_taskdl.backoff import full_jitter, parse_retry_after
from airflow_provider_taskdl.exceptions import DestinationError, DestinationExistsError
from airflow_provider_taskdl.transfer.connection import ConnectionBroken
from airflow_provider_taskdl.transfer.sinks.base import Stored
from airflow_provider_taskdl.transfer.sinks.s3_line import Line, StaleConnection, line_like

log = logging.getLogger(__name__)

# Besides the plain answer "there is none"; a HEAD has no body that could say more.
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# How stores refuse a condition that they do not know, and clients a parameter.
_UNCONDITIONAL = frozenset({"501", "NotImplemented", "InvalidArgument", "InvalidRequest", "ParamValidationError"})
# What the client would be told as well.
_FINAL = frozenset({"NoSuchUpload", "NoSuchBucket", "PreconditionFailed", "ConditionalRequestConflict"})
_MAX_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How often bulk bytes are sent again.

    :param count: Tries in all.
    :param base: Seconds that the first pause is at most.
    :param cap: Seconds that any pause is at most, unless the store asks for more.
    """

    count: int = 6
    base: float = 0.5
    cap: float = 20.0


class S3Requests:
    """Talks to one bucket. May be used by many threads at once.

    :param client: The boto3 client of the store's connection.
    :param bucket: The bucket.
    :param tries: How often bulk bytes are sent again; small calls are repeated by the client, as it is configured.
    """

    def __init__(self, client: Any, bucket: str, *, tries: Tries | None = None) -> None:
        self._client, self._bucket, self._tries = client, bucket, tries or Tries()
        self._line: Line | None = line_like(client)
        self._proved = False
        self._conditional = True
        # Without TLS nothing else tells the store of a bit that turned on the way.
        self._md5 = str(client.meta.endpoint_url).startswith("http:")

    def call(self, operation: str, **params: Any) -> Any:
        """Call the client.

        :param operation: Name of its method.
        :param params: Its parameters besides the bucket.
        :raises DestinationError: The store refused; ``code`` says what it answered.
        """
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **params)
        except Exception as error:  # noqa: BLE001 - the client's errors cannot be named without importing it
            problem = _as_error(error, self.target(params.get("Key", "")))
        raise problem  # outside the handler: what it caught may quote the request

    def read(self, answer: Any, key: str) -> bytes:
        """Return the content of a small object.

        :param answer: Of ``get_object``.
        :param key: The object.
        :raises DestinationError: It cannot be read.
        """
        with answer["Body"] as body:
            try:
                content: bytes = body.read()
            except Exception as error:  # noqa: BLE001 - the client's errors cannot be named without importing it
                problem = f"the object cannot be read: {type(error).__name__}"
            else:
                return content
        raise DestinationError(problem, target=self.target(key))

    def pages(self, operation: str, **params: Any) -> Iterator[Any]:
        """Call the client until the store has no more to list.

        :raises DestinationError: The store refused.
        """
        try:
            yield from self._client.get_paginator(operation).paginate(Bucket=self._bucket, **params)
        except Exception as error:  # noqa: BLE001
            problem = _as_error(error, self.target(params.get("Key") or params.get("Prefix", "")))
        else:
            return
        raise problem

    def head(self, key: str) -> Stored | None:
        """Return what the store says of one object, or ``None``.

        :raises DestinationError: The store refused.
        """
        try:
            answer = self.call("head_object", Key=key)
        except DestinationError as error:
            if error.code in MISSING:
                return None
            raise
        return stored_as(int(answer["ContentLength"]), answer.get("ETag"))

    def publish(self, key: str, replace: bool, request: Callable[[bool], Any]) -> Any:
        """Send the request that gives an object its name.

        :param key: The object.
        :param replace: Whether one that is there may be replaced.
        :param request: Sends it; told whether to add the condition that there is none.
        :raises DestinationExistsError: There is one, and it may not.
        :raises DestinationError: The store refused.
        """
        if replace:
            return request(False)
        # Asked as well as demanded: some stores take the condition without a word and pay it no heed.
        if self.head(key) is None:
            if not self._conditional:
                return request(False)
            try:
                return request(True)
            except DestinationError as error:
                problem = error
            if problem.code in _UNCONDITIONAL:
                answer = request(False)
                self._conditional = False
                return answer
            if problem.code not in ("412", "PreconditionFailed"):
                raise problem
        raise DestinationExistsError("there is something of this name already", target=self.target(key))

    def target(self, key: str) -> str:
        """Return the address of an object, for people."""
        return f"s3://{self._bucket}/{key}"

    def put(
        self,
        operation: str,
        data: memoryview,
        *,
        stop: threading.Event | None = None,
        fields: Mapping[str, str] | None = None,
        **params: Any,
    ) -> str:
        """Send bulk bytes and return their ETag.

        :param operation: ``upload_part`` or ``put_object``.
        :param data: The bytes.
        :param stop: Ends it early, see :meth:`stop`.
        :param fields: Header fields that stand for some of ``params``.
        :param params: The operation's parameters besides bucket and body.
        :raises DestinationError: The store refused, or cannot be reached.
        """
        stop, fields, had_md5 = stop or threading.Event(), fields or {}, self._md5
        try:
            return self._put(operation, data, stop, fields, params)
        except DestinationError as error:
            if error.code != "InvalidRequest" or had_md5:  # another thread may have learnt it meanwhile
                raise
        # A bucket that locks its objects takes nothing without a digest.
        self._md5 = True
        return self._put(operation, data, stop, fields, params)

    def _put(
        self,
        operation: str,
        data: memoryview,
        stop: threading.Event,
        fields: Mapping[str, str],
        params: Mapping[str, Any],
    ) -> str:
        params, target = {"Bucket": self._bucket, **params}, self.target(params["Key"])
        if self._md5:
            digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
            fields, params = {**fields, "Content-MD5": digest}, {**params, "ContentMD5": digest}
        failures = 0
        while (line := self._line) is not None:
            answer, wait = None, None
            try:
                answer = line.send(self._client, operation, params, fields, data, stop)
            except StaleConnection:
                continue
            except ConnectionBroken as error:
                problem = DestinationError(f"the connection to the store broke: {error}", target=target)
            except Exception as error:  # noqa: BLE001 - no link could be made: the client has its own errors for that
                problem = _as_error(error, target)
                break
            if stop.is_set():
                raise DestinationError("the upload was given up", target=target)
            failures += 1
            if answer is not None:
                if answer.status == 200:
                    self._proved = True
                    return answer.headers.get("ETag", "")
                problem = answer.error(target)
                if answer.code in _FINAL:
                    raise problem
                if not answer.passes:
                    break
                wait = parse_retry_after(answer.headers.get("Retry-After"))
            elif not self._proved and failures > 1:
                break
            if failures >= self._tries.count:
                raise problem
            self.pause(failures, stop, wait or 0.0)
        # Links may be refused where signed requests are not: by a policy, by a store that does not know them, by a
        # network that only the client has the way through.
        body = self.call(operation, Body=bytes(data), **{k: v for k, v in params.items() if k != "Bucket"})
        if self._line is not None:
            log.info("The store takes no bytes by signed links; they go through the client from here on")
            self._line = None
        return str(body.get("ETag", ""))

    def pause(self, failures: int, stop: threading.Event | None = None, asked: float = 0.0) -> None:
        """Wait before the next try.

        :param failures: How many there were in a row.
        :param stop: Ends it early.
        :param asked: Seconds that the store has asked for besides.
        """
        seconds = full_jitter(failures, base=self._tries.base, cap=self._tries.cap)
        (stop or threading.Event()).wait(min(asked, _MAX_WAIT) + seconds)

    def stop(self, stop: threading.Event) -> None:
        """End every :meth:`put` that was given this event; those threads wake at once."""
        stop.set()
        if (line := self._line) is not None:
            line.wake(stop)


def stored_as(size: int, etag: str | None) -> Stored:
    """Return what the store says of an object, by its ETag."""
    return Stored(size, f"etag:{etag}".replace('"', "") if etag else None)


def _as_error(error: Exception, target: str) -> DestinationError:
    answer = getattr(error, "response", None)
    if not isinstance(answer, Mapping):
        # The client's own errors: no credentials, no way to the endpoint, a parameter it does not know.
        kind = type(error).__name__
        return DestinationError(f"the store cannot be asked: {kind}: {error}", target=target, code=kind)
    said, facts = answer.get("Error", {}), answer.get("ResponseMetadata", {})
    code = str(said.get("Code") or facts.get("HTTPStatusCode"))
    return DestinationError(
        f"the store refused, with HTTP {facts.get('HTTPStatusCode')}: {str(said.get('Message') or code)[:300]}",
        target=target,
        code=code,
        request_id=facts.get("RequestId"),
    )
