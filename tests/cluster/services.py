"""PostgreSQL and Redis for a test: on this machine only, each with a password of its own, gone in the end."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.needs import missing, program
from tests.servers import free_port, running

# Debian keeps PostgreSQL's programs out of PATH, each version's in a directory of its own.
_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass
class Service:
    """A running server.

    :param user: Who may use it.
    """

    user: str = ""
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    port: int = field(default_factory=free_port)

    def url(self, scheme: str, database: str) -> str:
        """Return its address for a client.

        :param scheme: Such as ``redis``.
        :param database: Which of its databases.
        """
        return f"{scheme}://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"


class Postgres(Service):
    """A PostgreSQL server."""

    def dump(self) -> str:
        """Return all that is in its database, values of bytes as text after it."""
        command = [program("pg_dump", *_POSTGRES), "--dbname", self.url("postgresql", "postgres")]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        hidden = [word[3:] for word in text.split() if word.startswith("\\\\x")]
        return "\n".join([text, *(bytes.fromhex(digits).decode("utf-8", "replace") for digits in hidden)])


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run PostgreSQL with an empty database, ``postgres``; it forgets everything, so it need not wait for a disk."""
    import psycopg2

    initdb, server = program("initdb", *_POSTGRES), program("postgres", *_POSTGRES)
    service = Postgres("airflow")
    # It refuses root. Not in pytest's own directories: no other account may look into these.
    account: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if not os.geteuid() else {}
    with tempfile.TemporaryDirectory(prefix="taskdl-postgres-") as name:
        folder, data, password = Path(name), Path(name, "data"), Path(name, "password")
        password.write_text(service.password)
        for path in (folder, password) if account else ():
            shutil.chown(path, "postgres", "postgres")
        options = ["--username", service.user, "--auth", "scram-sha-256", "--pwfile", str(password), "--encoding=UTF8"]
        command = [initdb, "--pgdata", str(data), *options, "--no-sync", "--no-locale"]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **account)
        if made.returncode:
            missing(f"PostgreSQL cannot be started here: {made.stdout}{made.stderr}")
        service.port = free_port()  # making the database took its time
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": service.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
        }
        command = [server, "-D", str(data), *(f"--{key}={value}" for key, value in settings.items())]

        def connect() -> None:
            psycopg2.connect(service.url("postgresql", "postgres")).close()

        with running(command, folder / "server.log", connect, end=signal.SIGINT, start_new_session=True, **account):
            yield service


@contextmanager
def redis() -> Iterator[Service]:
    """Run Redis, which keeps all in memory."""
    import redis as client

    service = Service()
    settings = {"bind": "127.0.0.1", "port": service.port, "requirepass": service.password, "save": '""'}
    with tempfile.TemporaryDirectory(prefix="taskdl-redis-") as name:
        file = Path(name, "redis.conf")
        file.write_text("\n".join(f"{key} {value}" for key, value in settings.items()))

        def connect() -> None:
            with client.Redis.from_url(service.url("redis", "0")) as connection:
                connection.ping()

        with running([program("redis-server"), file], Path(name, "server.log"), connect):
            yield service
