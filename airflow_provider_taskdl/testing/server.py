"""The emulator on a port of this machine."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import threading
import time
from types import TracebackType
from typing import Any

try:
    import uvicorn
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:  # Airflow 2 does not bring them
    raise ImportError(
        f"{error.name} is missing; the emulator needs: pip install 'airflow-provider-taskdl[testing]'", name=error.name
    ) from error

from airflow_provider_taskdl.testing.app import make_app
from airflow_provider_taskdl.testing.delivery import TRANSPORT
from airflow_provider_taskdl.testing.state import Emulator

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


class EmulatorServer:
    """Runs an emulator in a thread of this process, as a context manager.

    :param emulator: The world to serve.
    :param port: The port; 0 takes any free one.
    :param host: The address to listen at.
    :param certfile: Certificate chain for https, a PEM file.
    :param keyfile: Its private key.
    """

    def __init__(
        self,
        emulator: Emulator,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
    ) -> None:
        self.emulator = emulator
        self._address = (host, port)
        self._certfile = certfile
        self._keyfile = keyfile
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        host, port = self._address
        return f"{'https' if self._certfile else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def airflow_connections(self) -> dict[str, dict[str, Any]]:
        """Return the connections to the services: connection id to the JSON object that Airflow takes."""
        emulator = self.emulator
        common = {"verify": str(self._certfile)} if self._certfile else {}
        # Never empty: ``airflow connections import`` of Airflow 3.3 cannot store ``{}``.
        region = {"region": "bj"}
        token = {"security_token": emulator.security_token} if emulator.security_token else {}
        header = {"header_name": emulator.header_name, "header_prefix": emulator.header_prefix}
        return {
            "baidu_bls_default": {
                "conn_type": "baidu_bls",
                "host": self.base_url,
                "login": emulator.access_key_id,
                "password": emulator.secret_access_key,
                "extra": {**region, **common, **token},
            },
            "eo_analysis_default": {
                "conn_type": "eo_analysis",
                "host": self.base_url + emulator.eo_prefix,
                "password": emulator.token,
                "extra": {**common, **header},
            },
            "eo_market_default": {
                "conn_type": "eo_market",
                "host": self.base_url + emulator.eo_prefix,
                "password": emulator.token,
                "extra": {**common, "header_name": "X-API-Key"},
            },
        }

    def environment(self) -> dict[str, str]:
        """Return the connections as the environment variables that Airflow reads."""
        connections = self.airflow_connections()
        return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(connection) for name, connection in connections.items()}

    def start(self) -> None:
        """Listen, and answer from now on.

        :raises OSError: The port is taken, or the certificate is none.
        :raises RuntimeError: The server did not start.
        """
        host, port = self._address
        config = uvicorn.Config(
            make_app(self.emulator),
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ssl_certfile=self._certfile,
            ssl_keyfile=self._keyfile,
        )
        config.load()  # here, or it would be the thread that fails for a certificate that is none
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
        # Its connections inherit it; without it the second answer on a connection comes 40 ms late.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address = (host, listener.getsockname()[1])
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="taskdl-emulator", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                listener.close()
                raise RuntimeError("the emulator did not start; see the log")
            time.sleep(0.005)

    def stop(self) -> None:
        """End all connections and stop.

        :raises RuntimeError: The server did not stop.
        """
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(2 * _STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError("the emulator did not stop: something keeps its event loop, or has changed its clock")
        self._server = self._thread = None

    def __enter__(self) -> EmulatorServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(uvicorn.Server):
    """Starts and ends in milliseconds, for tests that each want a server of their own."""

    async def main_loop(self) -> None:
        for turn in itertools.count():
            if self.should_exit:
                return
            if turn % 10 == 0:
                await self.on_tick(turn // 10)
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        for protocol in tuple(self.server_state.connections):
            # Nobody wants the rest of a stalled or unfinished answer, and it ends with its connection.
            transport: Any = getattr(protocol, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)  # the connections hear of it
        if self.server_state.tasks:
            await asyncio.wait(tuple(self.server_state.tasks), timeout=_STOP_SECONDS)


class _Protocol(H11Protocol):
    """HTTP, with the connection's transport in the scope for replies that end it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app: ASGIApp = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope[TRANSPORT] = self.transport
            await app(scope, receive, send)

        self.app = with_transport
