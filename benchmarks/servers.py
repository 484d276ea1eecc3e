"""The hosts of a benchmark, all on loopback: a file host, one that caps connections, two S3 endpoints."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

MIB = 1024 * 1024
CAP = 20_000_000  # bytes per second and connection
BUCKET, ACCESS_KEY, SECRET_KEY = "bench", "bench-access-key", "bench-secret-key"
API = "/api"
# Debian keeps it where only root looks.
_PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"])
_NGINX = """
daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log stderr warn; {user}
events {{ worker_connections 1024; }}
http {{
    log_format sent '$body_bytes_sent';
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;
    client_body_temp_path {folder}/nginx-1; proxy_temp_path {folder}/nginx-2; fastcgi_temp_path {folder}/nginx-3;
    uwsgi_temp_path {folder}/nginx-4; scgi_temp_path {folder}/nginx-5;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_cache shared:tls:1m;
    server {{
        listen 127.0.0.1:{port} ssl;
        location /files/ {{ alias {files}/; access_log {folder}/sent.log sent; }}
        location = {api}/analysis/task/get/Download/url {{
            default_type application/json; alias {tasks}/$arg_taskId.json;
        }}
    }}
}}
"""


class Missing(Exception):
    """A program that is needed is not installed."""


def find(program: str) -> str:
    """Return a program's path.

    :raises Missing: It is not installed.
    """
    path = shutil.which(program, path=_PLACES)
    if path is None:
        raise Missing(f"{program} is not installed")
    return path


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine's loopback; return its file and that of its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [find("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@dataclass(frozen=True)
class File:
    """A file of the file host.

    :ivar url: Where it is fetched from.
    :ivar path: Where it lies.
    """

    name: str
    size: int
    url: str
    path: Path


@dataclass(frozen=True)
class S3:
    """An S3 endpoint.

    :ivar root: Where it keeps its buckets, if it keeps anything.
    :ivar wants_lengths: Whether it refuses uploads with a checksum behind the data, as botocore sends them over TLS
        unless it is told not to.
    """

    name: str
    port: int
    root: Path | None
    wants_lengths: bool

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"https://127.0.0.1:{self.port}"


class Servers:
    """Starts the hosts, makes files for them and ends what it started.

    :param room: Bytes of memory that the files may take at a time.
    """

    def __init__(self, room: int) -> None:
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        memory = Path("/dev/shm")
        self.in_memory = memory.is_dir() and shutil.disk_usage(memory).free > room
        parent = memory if self.in_memory else None
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory("", "taskdl-bench-", parent)))
        self._files, self._tasks = self.folder / "files", self.folder / "tasks"
        for folder in (self._files, self._tasks):
            folder.mkdir()

    def __enter__(self) -> Servers:
        """Start all hosts."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def host(self) -> str:
        """URL of the file host."""
        return f"https://127.0.0.1:{self._port}"

    def free(self) -> int:
        """Return how many bytes still fit beside the files."""
        return shutil.disk_usage(self.folder).free

    def make_files(self, folder: str, count: int, size: int, *, capped: bool = False, hollow: bool = False) -> str:
        """Make files and a task that lists them; return the task's id.

        :param folder: Where to put them, and the task's id.
        :param capped: Whether the links lead to the host that caps connections.
        :param hollow: Whether the files are holes that take no room.
        """
        place = self._files / folder
        if place.is_dir():
            return folder
        place.mkdir()
        host = f"https://127.0.0.1:{self._capped_port}" if capped else f"{self.host}/files"
        urls = []
        block = os.urandom(min(size, 16 * MIB))
        for number in range(count):
            name = f"{number:05}.bin"
            with (place / name).open("wb") as file:
                if not hollow:
                    # Another beginning for each, so that a mix-up would show.
                    file.write(number.to_bytes(8, "big"))
                    while (left := size - file.tell()) > 0:
                        file.write(block[:left])
                file.truncate(size)
            url = f"{host}/{folder}/{name}"
            urls.append({"fileName": name, "downloadUrl": url, "fileSize": size})
        answer = {"code": 200, "message": "OK", "data": {"downloadUrls": urls, "totalSize": count * size}}
        (self._tasks / f"{folder}.json").write_text(json.dumps(answer))
        return folder

    def files(self, task: str) -> list[File]:
        """Return a task's files."""
        listed = json.loads((self._tasks / f"{task}.json").read_text())["data"]["downloadUrls"]
        return [
            File(each["fileName"], each["fileSize"], each["downloadUrl"], self._files / task / each["fileName"])
            for each in listed
        ]

    def remove_files(self, task: str) -> None:
        """Remove a task and its files."""
        shutil.rmtree(self._files / task, ignore_errors=True)
        (self._tasks / f"{task}.json").unlink(missing_ok=True)

    def cpu(self) -> float:
        """Return the user and system time that the hosts have used so far."""
        return sum(_cpu(process.pid) for process in self._processes)

    def sent(self) -> int:
        """Return how many bytes of files the file host has sent, by answers that are over."""
        log = self.folder / "sent.log"
        return sum(map(int, log.read_text().split())) if log.exists() else 0

    def size_in(self, store: S3, key: str) -> int:
        """Return the length of an object, or -1 where there is none."""
        if store.root is not None:
            path = store.root / BUCKET / key
            return path.stat().st_size if path.is_file() else -1
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", store.port, context=context)
        try:
            connection.request("HEAD", f"/{BUCKET}/{quote(key)}")
            answer = connection.getresponse()
            return int(answer.headers["Content-Length"]) if answer.status == 200 else -1
        finally:
            connection.close()

    def _start(self) -> None:
        self.certificate, self._key = make_certificate(self.folder)
        self._port, self._capped_port, swallow, rclone = _free_ports(4)
        self._start_nginx()
        python = [sys.executable, "-m"]
        tls = [str(self.certificate), str(self._key)]
        self._begin(
            [*python, "benchmarks.capped_host", str(self._capped_port), *tls, str(self._files), str(CAP)],
            self._capped_port,
        )
        self._begin([*python, "benchmarks.swallow", str(swallow), *tls], swallow)
        root = self.folder / "s3"
        (root / BUCKET).mkdir(parents=True)
        self._begin(
            [find("rclone"), "serve", "s3", str(root), "--addr", f"127.0.0.1:{rclone}", "--cert", tls[0],
             "--key", tls[1], "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"],
            rclone, {"RCLONE_CONFIG": os.devnull},
        )  # fmt: skip
        self.swallow = S3("an S3 endpoint that swallows", swallow, None, wants_lengths=False)
        self.rclone = S3("rclone's S3 server", rclone, root, wants_lengths=True)

    def _start_nginx(self) -> None:
        config = self.folder / "nginx.conf"
        text = _NGINX.format(
            folder=self.folder, files=self._files, tasks=self._tasks, certificate=self.certificate, key=self._key,
            port=self._port, api=API, user="user root;" if os.geteuid() == 0 else "",
        )  # fmt: skip
        config.write_text(text)
        self._begin([find("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(config)], self._port)

    def _begin(self, argv: Sequence[str], port: int, env: Mapping[str, str] | None = None) -> None:
        log = self.folder / f"{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,  # Ctrl-C is for the benchmark, which then ends them in order
            )  # fmt: skip
        self._processes.append(process)
        self._stack.callback(_end, process)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"{argv[0]} does not serve: {log.read_text(errors='replace')[-500:]}")


def _cpu(pid: int) -> float:
    """Return what a process and its children have used, as Linux tells it."""
    process = Path(f"/proc/{pid}")
    user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    children = (process / f"task/{pid}/children").read_text().split()
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") + sum(_cpu(int(child)) for child in children)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
