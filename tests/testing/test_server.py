from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import airflow_provider_taskdl
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.listing import TaskState
from airflow_provider_taskdl.testing import Emulator, EmulatorServer, Stall, Synthetic
from airflow_provider_taskdl.testing.__main__ import BLS_TASK, EO_TASK, add_example_tasks
from airflow_provider_taskdl.testing.links import make_link

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

PARENT = str(Path(airflow_provider_taskdl.__path__[0]).parent)


def hooks_work(server: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    for hook, task in ((BlsHook(), BLS_TASK), (EoAnalysisHook(), EO_TASK)):
        assert hook.test_connection()[0], hook.test_connection()[1]
        assert hook.list_files(task).is_ready
        hook.close()


@pytest.mark.parametrize(
    "options",
    [{}, {"security_token": "sts", "eo_prefix": "api/v1", "header_name": "X-Token", "header_prefix": ""}],
)
def test_the_connections_it_gives_fit_its_settings(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(**options)
    add_example_tasks(emulator)
    with EmulatorServer(emulator) as server:
        hooks_work(server, monkeypatch)


def test_it_speaks_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    emulator = Emulator()
    add_example_tasks(emulator)
    server = EmulatorServer(emulator, host="localhost", certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem")
    with server:
        assert server.base_url.startswith("https://localhost:")
        hooks_work(server, monkeypatch)


def test_two_servers_live_side_by_side_and_a_taken_port_is_refused() -> None:
    with EmulatorServer(Emulator()) as one, EmulatorServer(Emulator()) as two:
        assert one.base_url != two.base_url
        with pytest.raises(OSError, match="in use"), EmulatorServer(Emulator(), int(one.base_url.rpartition(":")[2])):
            pass


def test_a_server_can_be_started_again_at_the_same_address() -> None:
    server = EmulatorServer(Emulator())
    with server:
        first = server.base_url
    server.stop()
    with server:
        assert server.base_url == first
        assert httpx.get(first + "/a").status_code == 403


def test_stopping_ends_stalled_and_idle_connections_at_once(caplog: pytest.LogCaptureFixture) -> None:
    emulator = Emulator()
    task = emulator.eo_task({"f": Synthetic(2**33)})
    emulator.fault("file", Stall(60, at=10), times=1)
    server = EmulatorServer(emulator)

    def fetch() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(make_link(emulator, task, task.files[0], server.base_url)[0])

    with server:
        idle = socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])))
        clients = [threading.Thread(target=fetch) for _ in range(2)]
        for client in clients:
            client.start()
            while emulator.count("file") < clients.index(client) + 1:
                time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    for client in clients:
        client.join(5)
        assert not client.is_alive()
    idle.close()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_the_fixture_serves_what_the_environment_names(
    taskdl_emulator: Emulator, taskdl_server: EmulatorServer
) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_EO_ANALYSIS_DEFAULT"])
    assert connection["host"] == taskdl_server.base_url
    assert taskdl_server.emulator is taskdl_emulator


@contextlib.contextmanager
def _command(monkeypatch: pytest.MonkeyPatch, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command runs, and the environment has the connections that it names."""
    command = [sys.executable, "-m", "airflow_provider_taskdl.testing", "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": PARENT}
    )
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    monkeypatch.setenv(name, value.strip("'"))
                if line.startswith("}"):
                    break
            yield process
        finally:
            process.kill()


def test_the_command_serves_the_examples_until_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    with _command(monkeypatch, "--ready-after", "0", "--fault", "eo.status status 503 times=1") as process:
        with contextlib.closing(EoAnalysisHook()) as hook:
            assert hook.list_files(EO_TASK).summary()["file_names"] == ["ndvi_result.tif", "analysis_report.pdf"]
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=20)
        assert (process.returncode, complaints) == (0, "")


def test_what_is_created_at_the_command_takes_its_time_from_the_first_question_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _command(monkeypatch, "--ready-after", "1"), contextlib.closing(BlsHook()) as hook:
        task_id = hook.create_download_task(
            log_store_name="log", query_start_time="2026-01-01", query_end_time="2026-01-02"
        )
        time.sleep(1.2)
        assert hook.get_state(task_id) is TaskState.RUNNING
        time.sleep(1.2)
        assert hook.get_state(task_id) is TaskState.SUCCESS


def test_a_bad_rule_on_the_command_line_is_explained() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow_provider_taskdl.testing", "--fault", "file cot"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": PARENT},
    )  # fmt: skip
    assert done.returncode == 2
    assert "'cot' is no fault; known: body" in done.stderr


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_had_is_said_in_a_sentence(port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_provider_taskdl.testing",
             "--port", str(taken.getsockname()[1]) if port == "taken" else port],
            capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": PARENT},
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith("The emulator cannot serve: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_certificate_that_is_none_is_the_callers_error(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(b"no certificate")
    with pytest.raises(ssl.SSLError), EmulatorServer(Emulator(), certfile=tmp_path / "cert.pem"):
        pass


def test_importing_the_package_loads_no_server_and_no_airflow() -> None:
    program = "import sys, airflow_provider_taskdl.testing; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": PARENT},
    )  # fmt: skip
    assert not {"airflow", "starlette", "uvicorn", "httpx"} & set(done.stdout.split())


def test_the_server_is_importable_from_the_package() -> None:
    assert airflow_provider_taskdl.testing.EmulatorServer is EmulatorServer
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = airflow_provider_taskdl.testing.nothing


def test_two_tasks_of_one_id_are_a_mistake() -> None:
    emulator = Emulator()
    emulator.eo_task(id="1")
    emulator.bls_task(id="1")
    with pytest.raises(ValueError, match="already"):
        emulator.eo_task(id=1)
    with pytest.raises(ValueError, match="starts"):
        emulator.eo_task(starts="later")  # type: ignore[arg-type]


def test_no_fault_of_the_emulator_itself_stays_hidden(
    taskdl_server: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    taskdl_server.emulator.clear_faults()
    taskdl_server.emulator.header_name = None  # type: ignore[assignment]
    assert httpx.get(f"{taskdl_server.base_url}/analysis/task/query/detailV2?id=1").status_code == 500
    assert "The emulator failed at GET /analysis/task/query/detailV2" in caplog.text


@pytest.mark.parametrize("library", ["starlette.types", "uvicorn"])
def test_what_is_missing_to_serve_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "airflow_provider_taskdl.testing.server")
    with pytest.raises(ImportError, match=r"airflow-provider-taskdl\[testing\]"):
        importlib.import_module("airflow_provider_taskdl.testing.server")
