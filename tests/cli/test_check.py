"""What `check` says of connections that are right, and of each way to be wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from tests.airflow_versions import since
from tests.cli.conftest import PASSWORD, Command, Said, start
from tests.transfer.conftest import Certificate

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]


def lines(said: Said) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in said.out.splitlines()]


def wrong(said: Said) -> list[str]:
    assert said.code == 1
    return [f"{what}: {text}" for mark, what, text in lines(said) if mark == "WRONG"]


@pytest.mark.parametrize("conn_id", ["baidu_bls_default", "eo_analysis_default"])
def test_a_connection_that_works_is_found_to_be_right(
    command: Command, taskdl_server: EmulatorServer, conn_id: str
) -> None:
    said = command("check", conn_id)
    assert said.code == 0, said
    assert [(mark, what) for mark, what, _ in lines(said)] == [
        ("ok", "connection"), ("ok", "settings"), ("ok", "host"), ("ok", "credentials"),
    ]  # fmt: skip
    assert taskdl_server.base_url in said.out
    assert said.err == ""


def test_a_connection_that_nobody_made(command: Command) -> None:
    (said,) = wrong(command("check", "nobodys"))
    assert "there is no connection 'nobodys'" in said
    assert "AIRFLOW_CONN_NOBODYS" in said


@since(3, 0, "it logs its own traceback")
def test_a_variable_that_is_no_connection(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", f'{{"password": "{PASSWORD}')
    assert wrong(command("check", "broken")) == [
        "connection: AIRFLOW_CONN_BROKEN is set, but it is neither a connection's JSON nor its URI"
    ]


def test_a_connection_of_another_kind(command: Command, connection: Callable[..., str]) -> None:
    (said,) = wrong(command("check", connection(conn_type="sqlite")))
    assert "of type 'sqlite', which lists no task files; use one of baidu_bls, eo_analysis" in said


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "the connection needs a host"),
        ({"host": "h.example", "password": ""}, "Password (the API token) is empty"),
        ({"host": "h.example", "extra": {"timeout": "soon"}}, "timeout: "),
        ({"host": "h.example", "extra": {"verify": "/no/such/bundle.pem"}}, "CA bundle '/no/such/bundle.pem'"),
        ({"conn_type": "baidu_bls", "login": ""}, "Login (Access Key ID) is empty"),
    ],
)
def test_settings_that_cannot_be_used(
    command: Command, connection: Callable[..., str], fields: dict[str, object], expected: str
) -> None:
    (said,) = wrong(command("check", connection(**fields)))
    assert said.startswith("settings: ")
    assert expected in said


def test_an_extra_that_means_nothing_does_not_hide_refused_credentials(
    command: Command, connection: Callable[..., str], taskdl_server: EmulatorServer
) -> None:
    said = command("check", connection(host=taskdl_server.base_url, extra={"verfiy": "true"}))
    unknown, refused = wrong(said)
    assert unknown.startswith("settings: unknown in the connection's extra: verfiy (known: ")
    assert refused.startswith("credentials: The service can be reached; it refused the credentials.")


def test_a_host_whose_name_is_not_known(command: Command, connection: Callable[..., str]) -> None:
    assert wrong(command("check", connection(host="no-such-host.invalid")))[0].startswith(
        "host: the name 'no-such-host.invalid' cannot be resolved"
    )


def test_a_host_that_does_not_answer(command: Command, connection: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    (said,) = wrong(command("check", connection(host=f"http://127.0.0.1:{port}")))
    assert said == f"host: 127.0.0.1 does not answer at 127.0.0.1 port {port}: Connection refused"


def test_a_host_that_speaks_no_tls(
    command: Command, connection: Callable[..., str], taskdl_server: EmulatorServer
) -> None:
    (said,) = wrong(command("check", connection(host=taskdl_server.base_url.removeprefix("http://"))))
    assert said.startswith("TLS: 127.0.0.1 does not speak TLS at this port")
    assert "write http:// in Host" in said


@pytest.mark.parametrize(
    ("verify", "mark", "text"),
    [
        ("true", "WRONG", "the certificate of localhost is not trusted"),
        ("false", "note", "the certificate is not checked"),
        (None, "ok", "the certificate is trusted"),
    ],
)
def test_a_certificate(
    command: Command, connection: Callable[..., str], certificate: Certificate, verify: str | None, mark: str,
    text: str,
) -> None:  # fmt: skip
    emulator = Emulator(token=PASSWORD)
    with EmulatorServer(emulator, host="localhost", certfile=certificate.chain, keyfile=certificate.key) as server:
        said = command("check", connection(host=server.base_url, extra={"verify": verify or str(certificate.chain)}))
    assert said.code == (mark == "WRONG")
    (found,) = [(mark, text) for mark, what, text in lines(said) if what == "TLS"]
    assert found[0] == mark
    assert text in found[1]
    assert ("credentials" in said.out) == (mark != "WRONG")


def test_behind_a_proxy_the_proxy_is_looked_at(
    command: Command, connection: Callable[..., str], taskdl_server: EmulatorServer
) -> None:
    proxy = taskdl_server.base_url.replace("//", f"//user:{PASSWORD}@")
    said = command("check", connection(host="no-such-host.invalid", extra={"proxy": proxy}))
    assert "ok     proxy        the proxy 127.0.0.1 answers" in said.out
    (refused,) = wrong(said)
    assert "ProxyError" in refused


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_the_environments_proxy_is_looked_at(
    command: Command,
    connection: Callable[..., str],
    taskdl_server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv(name, taskdl_server.base_url.replace("//", f"//user:{PASSWORD}@"))
    said = command("check", connection(host="http://no-such-host.invalid"))
    assert "ok     proxy        the proxy 127.0.0.1 answers" in said.out
    assert "cannot be resolved" not in said.out
    monkeypatch.setenv("no_proxy", "no-such-host.invalid")
    assert wrong(command("check", "made"))[0].startswith("host: the name 'no-such-host.invalid'")


@pytest.mark.parametrize("proxy", ["http://user:{}/x@proxy:3128", "http://user:{}@[::proxy:3128"])
def test_a_proxy_of_the_environment_that_is_no_url(
    command: Command, connection: Callable[..., str], monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(PASSWORD))
    (said,) = wrong(command("check", connection(host="no-such-host.invalid")))
    assert said == "proxy: the proxy that the environment names is no URL"


@pytest.mark.airflow
@pytest.mark.timeout(300)
def test_a_connection_of_airflows_database_is_found(airflow_db: None, taskdl_server: EmulatorServer) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    eo = taskdl_server.airflow_connections()["eo_analysis_default"]
    with create_session() as session:
        session.add(Connection("cli_stored", "eo_analysis", host=eo["host"], password=eo["password"]))
    process = start("check", "cli_stored")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    assert "ok     credentials" in out
    assert eo["password"] not in out + err
