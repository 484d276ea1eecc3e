"""Where Airflow sends metrics: a StatsD server and an OpenTelemetry collector, as far as they receive."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

# With tags as InfluxDB's protocol has them: Airflow's StatsD client sends none, or these.
_LINE = re.compile(r"(?P<name>[\w.-]+)(?P<tags>(,\w+=[^,:|]+)*):(?P<value>[^|]+)\|(?P<type>c|ms|g)")
Tags = frozenset[tuple[str, str]]


@dataclass
class Series:
    """What one metric with one set of tags came to.

    :ivar type: ``c`` (counter), ``ms`` (timer, milliseconds) or ``g`` (gauge).
    :ivar count: How many values, of a timer.
    :ivar sum: All values together.
    """

    type: str
    count: int = 0
    sum: float = 0.0


Received = dict[tuple[str, Tags], Series]


@dataclass
class Sink:
    """A running one.

    :ivar settings: The environment that leads Airflow to it.
    :ivar raw: All bytes that came.
    :ivar read: Gives what they say.
    :ivar settle: Waits until all that was sent is in ``raw``.
    """

    settings: Mapping[str, str]
    raw: list[bytes]
    read: Callable[[list[bytes]], Received]
    settle: Callable[[], None] = lambda: None

    def received(self) -> Received:
        """Return what was sent until now."""
        self.settle()
        return self.read(list(self.raw))


@contextmanager
def statsd() -> Iterator[Sink]:
    """Listen for StatsD's datagrams."""
    raw: list[bytes] = []
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        listener.bind(("127.0.0.1", 0))
        end, marker, marked = b"the end", b"until here", threading.Event()

        def listen() -> None:
            while (datagram := listener.recv(65536)) != end:
                if datagram == marker:
                    marked.set()
                else:
                    raw.append(datagram)

        def settle() -> None:
            marked.clear()
            listener.sendto(marker, listener.getsockname())
            assert marked.wait(60), "the datagrams are not read"

        thread = threading.Thread(target=listen)
        thread.start()
        settings = {
            "STATSD_ON": "True",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(listener.getsockname()[1]),
            "STATSD_INFLUXDB_ENABLED": "True",
        }
        try:
            yield Sink(
                {f"AIRFLOW__METRICS__{name}": value for name, value in settings.items()}, raw, _read_statsd, settle
            )
        finally:
            listener.sendto(end, listener.getsockname())
            thread.join()


def _read_statsd(raw: list[bytes]) -> Received:
    received: Received = {}
    for line in b"\n".join(raw).decode().splitlines():
        found = _LINE.fullmatch(line)
        assert found, line
        tags = frozenset((name, value) for name, _, value in (t.partition("=") for t in found["tags"].split(",")[1:]))
        series = received.setdefault((found["name"], tags), Series(found["type"]))
        assert series.type == found["type"]
        series.count += 1
        series.sum += float(found["value"])
    return received


@contextmanager
def opentelemetry() -> Iterator[Sink]:
    """Listen for OTLP over HTTP."""
    raw: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                raw.append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        try:
            yield Sink(settings, raw, _read_opentelemetry)
        finally:
            server.shutdown()
            thread.join()


def _read_opentelemetry(raw: list[bytes]) -> Received:
    received: Received = {}
    for body in raw:  # each says all since the process began
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    received.update({(metric.name, tags): series for tags, series in _points(metric)})
    return received


def _points(metric: Metric) -> Iterator[tuple[Tags, Series]]:
    for number in (*metric.sum.data_points, *metric.gauge.data_points):
        tags = frozenset((attribute.key, attribute.value.string_value) for attribute in number.attributes)
        kind = "c" if metric.HasField("sum") and metric.sum.is_monotonic else "g"
        yield tags, Series(kind, 0, number.as_int or number.as_double)
    for times in (*metric.histogram.data_points, *metric.exponential_histogram.data_points):
        tags = frozenset((attribute.key, attribute.value.string_value) for attribute in times.attributes)
        yield tags, Series(metric.unit, times.count, times.sum)
