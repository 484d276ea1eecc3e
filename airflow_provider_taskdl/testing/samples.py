"""Files such as the services make: access logs, a vegetation raster and its report. The same seed, the same bytes."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_taskdl.listing import parse_time

_DAY = datetime(2025, 11, 3, tzinfo=timezone.utc)
_PATHS = (
    "/", "/api/v1/orders", "/api/v1/orders/{}", "/api/v1/products/{}", "/api/v1/search?q={}", "/assets/app.js",
    "/assets/site.css", "/images/{}.webp", "/login", "/health",
)  # fmt: skip
_PATH_WEIGHTS = (12, 10, 8, 18, 9, 10, 10, 16, 2, 5)
_STATUSES = (200, 304, 201, 301, 400, 401, 404, 429, 500, 502, 503)
_STATUS_WEIGHTS = (820, 70, 40, 15, 8, 7, 28, 3, 5, 2, 2)
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/18.6 Mobile Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "okhttp/4.12.0",
    "curl/8.14.1",
)


def access_log(
    lines: int = 100_000,
    seed: int = 0,
    start: datetime = _DAY,
    hours: float = 24.0,
    *,
    format: str = "json",
    newest_first: bool = False,
) -> bytes:
    """Return a web server's access log with a quiet night and a busy evening.

    :param lines: How many records.
    :param seed: Another seed gives other records.
    :param start: Time of the first.
    :param hours: Until when after that.
    :param format: ``json`` (one object per line) or ``csv``.
    :param newest_first: Order them by time from late to early.
    """
    rng = random.Random(seed)
    times = sorted(_moments(rng, lines, start, hours), reverse=newest_first)
    paths = rng.choices(_PATHS, _PATH_WEIGHTS, k=lines)
    statuses = rng.choices(_STATUSES, _STATUS_WEIGHTS, k=lines)
    records = (_record(rng, start, *facts) for facts in zip(times, paths, statuses, strict=True))
    if format == "csv":
        return _as_csv(records)
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def access_log_for(request: Mapping[str, Any]) -> bytes:
    """Return the access log that a request for a BLS download task asks for, about a hundred records a minute.

    :param request: The request's fields: ``queryStartTime``, ``queryEndTime``, ``limit``, ``format``, ``order``.
    """
    start, end = parse_time(request["queryStartTime"]), parse_time(request["queryEndTime"])
    hours = (end - start).total_seconds() / 3600
    lines = min(int(hours * 6000), request.get("limit", 1_000_000), 100_000)
    newest_first = request.get("order", "desc") == "desc"
    return access_log(lines, 0, start, hours, format=request.get("format", "json"), newest_first=newest_first)


def rasters_for(request: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of an analysis task that is asked for: a small raster for each algorithm.

    :param request: The request's fields; of them ``algorithms``.
    """
    codes = [algorithm["algorithm"] for algorithm in request["algorithms"]]
    return {f"{code}.tif": geotiff(256, 256, seed) for seed, code in enumerate(codes)}


def geotiff(width: int = 1024, height: int = 1024, seed: int = 0, tile: int = 256) -> bytes:
    """Return a GeoTIFF with a vegetation index (NDVI): one float32 band, tiled, WGS 84, no-data value -9999.

    :param width: Pixels per row.
    :param height: Rows.
    :param seed: Another seed gives another landscape.
    :param tile: Pixels of a tile's side, a multiple of 16.
    """
    across, down = -(-width // tile), -(-height // tile)
    land = _Landscape(seed, width, height)
    tiles = [land.tile(column * tile, row * tile, tile) for row in range(down) for column in range(across)]
    pixel = 10 / 111_320  # ten metres, in degrees
    entries: list[tuple[int, str, tuple[Any, ...] | bytes]] = [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", (32,)),  # bits per sample
        (259, "H", (1,)),  # no compression
        (262, "H", (1,)),  # small is dark
        (270, "s", f"NDVI, emulated, seed {seed}\0".encode()),
        (277, "H", (1,)),  # samples per pixel
        (284, "H", (1,)),  # planar configuration: contiguous
        (322, "I", (tile,)),
        (323, "I", (tile,)),
        (324, "I", (0,) * len(tiles)),  # offsets, known once the head is laid out
        (325, "I", tuple(map(len, tiles))),
        (339, "H", (3,)),  # sample format: floating point
        (33550, "d", (pixel, pixel, 0.0)),  # pixel scale
        (33922, "d", (0.0, 0.0, 0.0, 116.30, 40.05, 0.0)),  # upper left corner
        # Keys: geographic model, pixel is area, WGS 84, degrees.
        (34735, "H", (1, 1, 0, 4, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326, 2054, 0, 1, 9102)),
        (42113, "s", b"-9999\0"),  # no data
    ]
    first = len(_tiff_head(entries))
    offsets = [first]
    for data in tiles[:-1]:
        offsets.append(offsets[-1] + len(data))
    entries = [(tag, kind, tuple(offsets) if tag == 324 else values) for tag, kind, values in entries]
    return _tiff_head(entries) + b"".join(tiles)


def pdf_report(title: str = "NDVI analysis report", values: Mapping[str, float] | None = None) -> bytes:
    """Return a one-page PDF with a heading and a bar chart.

    :param title: The heading, in Latin letters.
    :param values: Label to a bar's height from 0 to 1; by default shares of land by vegetation.
    """
    bars = values or {"water": 0.06, "bare soil": 0.18, "sparse": 0.27, "dense": 0.49}
    draw = [f"BT /F1 22 Tf 72 760 Td ({_pdf_text(title)}) Tj ET"]
    draw.append("BT /F1 11 Tf 72 735 Td (Share of the area by class) Tj ET")
    for place, (label, share) in enumerate(bars.items()):
        left = 90 + place * 110
        draw.append(f"0.2 {0.35 + 0.12 * (place % 5):.2f} 0.3 rg {left} 420 70 {share * 280:.1f} re f 0 g")
        draw.append(f"BT /F1 10 Tf {left} 404 Td ({_pdf_text(label)}) Tj ET")
        draw.append(f"BT /F1 10 Tf {left} {share * 280 + 426:.1f} Td ({share * 100:.0f} %) Tj ET")
    page = "\n".join(draw).encode("latin-1", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    out, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)


def _moments(rng: random.Random, lines: int, start: datetime, hours: float) -> list[float]:
    # Each quarter of an hour is as busy as its time of day: least at four in the morning, most in the evening.
    slots = max(1, math.ceil(hours * 4))
    seconds = hours * 3600 / slots
    clock = [(start.hour + start.minute / 60 + slot * seconds / 3600) % 24 for slot in range(slots)]
    busy = [1.0 - 0.8 * math.cos((hour - 4) / 24 * 2 * math.pi) + (0.5 if 18 <= hour < 22 else 0.0) for hour in clock]
    return [(slot + rng.random()) * seconds for slot in rng.choices(range(slots), busy, k=lines)]


def _record(rng: random.Random, start: datetime, second: float, path: str, status: int) -> dict[str, Any]:
    draw = rng.getrandbits(62)
    return {
        "time": (start + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "client": f"198.51.{100 + draw % 4}.{draw // 4 % 254 + 1}",
        "method": "POST" if status == 201 or path == "/login" else "GET",
        "path": path.format(draw // 1024 % 50_000),
        "status": status,
        "bytes": 0 if status == 304 else 180 + (draw >> 30) % 24_000,
        "duration_ms": round(4 + rng.expovariate(1 / 40) + (800 if status >= 500 else 0), 1),
        "user_agent": _AGENTS[(draw >> 50) % len(_AGENTS)],
    }


def _as_csv(records: Iterable[Mapping[str, Any]]) -> bytes:
    names = ("time", "client", "method", "path", "status", "bytes", "duration_ms", "user_agent")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


class _Landscape:
    """Hills, a river without data, and grain: cheap to compute row by row."""

    _WAVES = 4096

    def __init__(self, seed: int, width: int, height: int) -> None:
        rng = random.Random(seed)
        self._size = (width, height)
        self._west_east = self._profile(rng)
        self._north_south = self._profile(rng)
        self._grain = [rng.uniform(-0.03, 0.03) for _ in range(self._WAVES)]

    def tile(self, left: int, top: int, side: int) -> bytes:
        """Return one tile's pixels, those outside the image without data."""
        width, height = self._size
        columns = [self._west_east[x % self._WAVES] if x < width else None for x in range(left, left + side)]
        pack = struct.Struct(f"<{side}f").pack
        rows = []
        for y in range(top, top + side):
            if y >= height:
                rows.append(pack(*[-9999.0] * side))
                continue
            base = 0.45 + self._north_south[y % self._WAVES]
            begin = (y * 1103 + left * 7) % (self._WAVES - side)
            grain = self._grain[begin : begin + side]
            river = int(width * (0.5 + self._north_south[y // 2 % self._WAVES] / 3)) - left
            row = [-9999.0 if c is None else base + c + g for c, g in zip(columns, grain, strict=True)]
            for x in range(max(river, 0), min(river + max(width // 64, 1), side)):
                row[x] = -9999.0
            rows.append(pack(*row))
        return b"".join(rows)

    def _profile(self, rng: random.Random) -> list[float]:
        waves = [(rng.uniform(40, 900), rng.uniform(0, 2 * math.pi), rng.uniform(0.02, 0.1)) for _ in range(4)]
        return [sum(a * math.sin(x / length + phase) for length, phase, a in waves) for x in range(self._WAVES)]


def _tiff_head(entries: list[tuple[int, str, tuple[Any, ...] | bytes]]) -> bytes:
    # A little-endian TIFF: header, one directory of 12-byte entries, then the values that do not fit into four bytes.
    types = {"s": 2, "H": 3, "I": 4, "d": 12}
    directory, extra = bytearray(), bytearray()
    values_at = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, values in entries:
        data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{kind}", *values)
        directory += struct.pack("<HHI", tag, types[kind], len(values))
        if len(data) <= 4:
            directory += data.ljust(4, b"\0")
        else:
            directory += struct.pack("<I", values_at + len(extra))
            extra += data + b"\0" * (len(data) % 2)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + b"\0\0\0\0" + extra


def _pdf_text(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
