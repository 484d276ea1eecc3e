"""What every API of this package must do, as pytest tests: name a hook and its service's answers, and run them.

::

    class TestMyService(ApiContract):
        hook_class = MyHook
        connection = {"password": "a token that shows nowhere"}
        ready = {"/jobs/4711/files": {"files": [{"name": "a.tif", "url": "{files}/a.tif?sign=s3cret"}]}}
        ...

A new subclass is tested by both clients, as the sensor waits and as the operator downloads; see ``docs/add-an-api.md``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from airflow_provider_taskdl.apis.readiness import Decision, LinkWatch
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    ServiceUnavailableError,
    TaskDownloadError,
    TaskFailedError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.hooks.base import TaskApiHook, task_hook
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.operators.job import make_job

# Path at the service (or "*", any other) to what it answers there: a JSON document, or HTTP status and document.
Answers = Mapping[str, Any]
CONTENT = b"the bytes of "


class Service:
    """A service of one's own and its file host, on this machine.

    :ivar answers: What is answered; ``None`` answers every question with a gateway's page.
    :ivar asked: The paths of the questions to the service.
    :ivar fetched: The header fields of each request for a file.
    """

    def __init__(self) -> None:
        self.answers: Answers | None = {}
        self.page = 503
        self.asked: list[str] = []
        self.fetched: list[Mapping[str, str]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                service.answer(self)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        if path.startswith("/files/"):
            self.fetched.append(dict(request.headers))
            name = path.removeprefix("/files/")
            disposition = {"Content-Disposition": f'attachment; filename="{name}"', "ETag": f'"{name}"'}
            self._send(
                request, 200, CONTENT + name.encode(), {"Content-Type": "application/octet-stream"} | disposition
            )
            return
        self.asked.append(path)
        if self.answers is None:
            self._send(request, self.page, b"<html>a gateway's page</html>", {"Content-Type": "text/html"})
            return
        found = self.answers.get(path, self.answers.get("*", (404, None)))
        status, document = found if isinstance(found, tuple) else (200, found)
        body = b"" if document is None else json.dumps(document).replace("{files}", f"{self.url}/files").encode()
        self._send(request, status, body, {"Content-Type": "application/json"})

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, fields: Mapping[str, str]) -> None:
        with suppress(ConnectionError):  # a client may have had enough
            request.send_response(status)
            for name, value in {**fields, "Content-Length": str(len(body))}.items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)


class ApiContract:
    """Base of the tests of one API; the class attributes say how its service answers.

    :cvar hook_class: The hook.
    :cvar connection: Login, password and extra of a connection, without the host.
    :cvar task_id: A task at the service.
    :cvar ready: Answers for a task whose files are there; ``{files}`` in a link stands for the file host.
    :cvar names: The names that the files must have in the end; each link leads to ``{files}/<name>``.
    :cvar waiting: Answers for tasks whose files are not there yet.
    :cvar failed: Answers for tasks that failed; none where the service does not tell.
    :cvar not_found: Answers for a task that the service does not know.
    :cvar refused: Answers to credentials that are wrong.
    :cvar accepted: Answers to the connection test where they are right.
    """

    hook_class: ClassVar[type[TaskApiHook]]
    connection: ClassVar[Mapping[str, Any]]
    task_id: ClassVar[str] = "4711"
    ready: ClassVar[Answers]
    names: ClassVar[Sequence[str]]
    waiting: ClassVar[Sequence[Answers]]
    failed: ClassVar[Sequence[Answers]] = ()
    not_found: ClassVar[Answers]
    refused: ClassVar[Answers]
    accepted: ClassVar[Answers]

    @pytest.fixture
    def service(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
        """The service, and the connection ``contract`` to it."""
        with closing(Service()) as service:
            facts = {"conn_type": self.hook_class.conn_type, "host": service.url, **self.connection}
            monkeypatch.setenv("AIRFLOW_CONN_CONTRACT", json.dumps(facts))
            yield service

    @pytest.fixture
    def hook(self, service: Service) -> Iterator[TaskApiHook]:
        """The hook, as sensor, trigger and operator get it: from the connection alone."""
        with closing(task_hook("contract")) as hook:
            yield hook

    def test_the_connection_type_leads_to_the_hook_and_has_a_form(self, hook: TaskApiHook) -> None:
        """What stands beside the hook in ``get_provider_info`` is true."""
        assert type(hook) is self.hook_class
        assert hook._form(), f"get_provider_info() has no connection type {hook.conn_type!r}"
        differ = set(hook._form()["conn-fields"]) ^ set(self.hook_class.extras_model.model_fields)
        assert not differ, f"in the form alone, or in the hook's extras_model alone: {differ}"

    def test_both_clients_list_the_same_files(self, service: Service, hook: TaskApiHook) -> None:
        """The listing has a link for each file."""
        service.answers = self.ready
        listing = hook.list_files(self.task_id)
        assert listing.is_ready, listing
        assert listing.remote_task_id == self.task_id, listing
        assert len(listing.files) == len(self.names), listing
        assert asyncio.run(self._alist(hook)) == listing

    def test_the_sensor_goes_on_when_all_links_are_there(self, service: Service, hook: TaskApiHook) -> None:
        """A look at a task that is done ends the wait."""
        service.answers = self.ready
        decision = self._look(hook)
        assert decision.listing == hook.list_files(self.task_id), decision

    def test_the_sensor_waits_while_they_are_not(self, service: Service, hook: TaskApiHook) -> None:
        """No answer but a full listing counts as success."""
        for service.answers in self.waiting:
            assert self._look(hook).listing is None, service.answers

    def test_a_task_that_failed_ends_the_wait(self, service: Service, hook: TaskApiHook) -> None:
        """With the service's own reason where there is one."""
        for service.answers in self.failed:
            with pytest.raises(TaskFailedError):
                self._look(hook)

    def test_a_task_that_is_not_known_is_not_found(self, service: Service, hook: TaskApiHook) -> None:
        """So that ``not_found="wait"`` means something."""
        service.answers = self.not_found
        self._refuses(hook, TaskNotFoundError)

    def test_credentials_that_are_refused_are_not_tried_again(self, service: Service, hook: TaskApiHook) -> None:
        """And the connection form says so."""
        service.answers = self.refused
        assert not self._refuses(hook, AuthenticationError).retryable
        worked, said = hook.test_connection()
        assert not worked, f"the probe took this for good credentials: {self.refused}"
        assert "refused the credentials" in said, said

    def test_the_connection_test_passes_where_the_credentials_do(self, service: Service, hook: TaskApiHook) -> None:
        """Whatever it asks for."""
        service.answers = self.accepted
        worked, said = hook.test_connection()
        assert worked, said

    @pytest.mark.parametrize(("status", "kind"), [(503, ServiceUnavailableError), (200, MalformedResponseError)])
    def test_bad_weather_is_sat_out(self, service: Service, hook: TaskApiHook, status: int, kind: type[Any]) -> None:
        """A gateway's page is no answer, whatever its status."""
        service.answers, service.page = None, status
        assert self._refuses(hook, kind).retryable
        assert self._look(hook).listing is None, "the wait is over"

    def test_what_is_no_task_id_reaches_no_service(self, service: Service, hook: TaskApiHook) -> None:
        """It will stand in a path and in a file's name."""
        for bad in ("", "../x", "a b", "1&x=2"):
            with pytest.raises(ConnectionConfigError):
                hook.list_files(bad)
        assert service.asked == [], service.asked

    def test_the_operator_brings_the_files(
        self, service: Service, hook: TaskApiHook, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whole, under their names, and with the credentials staying at home."""
        caplog.set_level(logging.DEBUG)
        service.answers = self.ready
        make_job(hook, self.task_id, Destination(str(tmp_path))).run()
        arrived = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        assert arrived == {name: CONTENT + name.encode() for name in self.names}, arrived
        assert service.fetched
        for secret in hook.access.secrets:
            assert not any(secret in str(fields) for fields in service.fetched), "the file host saw a credential"
            assert secret not in caplog.text, "the log shows a credential"

    def _look(self, hook: TaskApiHook) -> Decision:
        return hook.run_steps(LinkWatch(hook.api, self.task_id, interval=1.0).look())

    def _refuses(self, hook: TaskApiHook, kind: type[TaskDownloadError]) -> TaskDownloadError:
        asks: Sequence[Callable[[], FileListing]] = (
            lambda: hook.list_files(self.task_id),
            lambda: asyncio.run(self._alist(hook)),
        )
        for ask in asks:
            with pytest.raises(kind) as caught:
                ask()
            for secret in hook.access.secrets:
                shown = f"{caught.value!r} {caught.value} {caught.value.to_dict()}"
                assert secret not in shown, "the error shows a credential"
        return caught.value

    async def _alist(self, hook: TaskApiHook) -> FileListing:
        try:
            return await hook.alist_files(self.task_id)
        finally:
            await hook.aclose()
