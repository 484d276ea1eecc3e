"""``python -m airflow_provider_taskdl.testing``: the services on this machine, with example tasks."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from pathlib import Path

from airflow_provider_taskdl.testing import rules
from airflow_provider_taskdl.testing.samples import access_log, geotiff, pdf_report
from airflow_provider_taskdl.testing.server import EmulatorServer
from airflow_provider_taskdl.testing.state import Emulator
from airflow_provider_taskdl.testing.tasks import Task

BLS_TASK = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
EO_TASK = "12345"
EO_MOSAIC = "12346"
MARKET_ORDER = "20260101"


def main(arguments: list[str] | None = None, prog: str = "python -m airflow_provider_taskdl.testing") -> int:
    """Serve until interrupted, and return the exit code: 3 if it cannot serve.

    :param arguments: The command line; by default this process's own.
    :param prog: How this program was called.
    """
    options = parser(prog).parse_args(arguments)
    emulator = Emulator(
        eo_prefix=options.eo_prefix,
        link_seconds=options.link_seconds,
        status_endpoint=options.status_endpoint,
        ready_after=options.ready_after,
        starts="asked",
    )
    emulator.rules += options.fault
    add_example_tasks(emulator, ready_after=options.ready_after)
    server = EmulatorServer(
        emulator, options.port, host=options.host, certfile=options.certfile, keyfile=options.keyfile
    )
    # Stopped from outside (a container, a script) it ends in the same way as by Ctrl-C.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server.start()
    except (OSError, OverflowError) as error:  # the port is taken or no port, the certificate is none
        sys.stderr.write(f"The emulator cannot serve: {getattr(error, 'strerror', None) or error}\n")
        return 3
    try:
        sys.stdout.write(how_to(server))
        sys.stdout.flush()
        stop.wait()
    finally:
        server.stop()
    return 0


def add_example_tasks(emulator: Emulator, *, ready_after: float = 0.0) -> tuple[Task, Task, Task]:
    """Add the tasks of the documentation's examples: a BLS log export, two NDVI analyses (one of many tiles), an order.

    :param emulator: Where to.
    :param ready_after: Seconds from the first question about a task until it is done.
    :returns: The tasks of the first three.
    """
    log = access_log()
    name = f"test_json_{BLS_TASK}.json"
    about = {"limit": 1_000_000, "writtenRows": log.count(b"\n")}
    bls = emulator.bls_task(
        log, id=BLS_TASK, name=name, checksums=True, ready_after=ready_after, starts="asked", request=about
    )
    files = {"ndvi_result.tif": geotiff(), "analysis_report.pdf": pdf_report()}
    eo = emulator.eo_task(files, id=EO_TASK, checksums=True, ready_after=ready_after, starts="asked")
    tiles = {f"ndvi_{n // 6}_{n % 6}.tif": geotiff(64, 64, seed=n, tile=64) for n in range(24)}
    mosaic = emulator.eo_task(tiles, id=EO_MOSAIC, checksums=True, ready_after=ready_after, starts="asked")
    scenes = {"scene_1.tif": geotiff(256, 256, seed=1), "scene_1.json": b'{"cloud_cover": 0.04}'}
    emulator.market_order(scenes, id=MARKET_ORDER, ready_after=ready_after, starts="asked")
    return bls, eo, mosaic


def how_to(server: EmulatorServer) -> str:
    """Return the text that says how to use a running server.

    :param server: The server.
    """
    variables = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in server.environment().items())
    return (
        f"Serving the services at {server.base_url}; Ctrl-C ends it.\n\n"
        f"BLS task  {BLS_TASK}\nEO tasks  {EO_TASK}, {EO_MOSAIC}\nEO order  {MARKET_ORDER}\n\n"
        f"Connections, for Airflow's environment:\n\n{variables}\n\n"
        f"The same for `airflow connections import`:\n\n{json.dumps(server.airflow_connections(), indent=2)}\n"
    )


def parser(prog: str) -> argparse.ArgumentParser:
    """Return what reads the command line.

    :param prog: How this program was called.
    """
    made = argparse.ArgumentParser(
        prog=prog,
        description="The services on this machine, with example tasks; runs until Ctrl-C.",
        epilog=rules.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen at (default %(default)s)")
    made.add_argument("--port", type=int, default=8099, help="port; 0 for any free one (default %(default)s)")
    made.add_argument(
        "--ready-after", type=float, default=0, metavar="SECONDS", help="a task's time from its first question to done"
    )
    made.add_argument(
        "--link-seconds", type=int, default=300, metavar="SECONDS", help="life of a link (default %(default)s)"
    )
    made.add_argument("--eo-prefix", default="", metavar="PATH", help="path prefix of the analysis platform")
    made.add_argument(
        "--no-status", dest="status_endpoint", action="store_false", help="the services cannot tell a task's state"
    )
    made.add_argument(
        "--fault", type=_rule, action="append", default=[], metavar="RULE", help="what goes wrong; may be repeated"
    )
    made.add_argument("--certfile", type=_file, help="certificate chain for https (PEM)")
    made.add_argument("--keyfile", type=_file, help="its private key (PEM)")
    return made


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file")
    return Path(text)


def _rule(text: str) -> rules.Rule:
    try:
        return rules.parse_rule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
