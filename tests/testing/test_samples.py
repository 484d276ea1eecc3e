from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pypdf
import pytest
import rasterio

from airflow_provider_taskdl.testing import access_log, geotiff, pdf_report
from airflow_provider_taskdl.testing.samples import access_log_for

START = datetime(2025, 11, 3, tzinfo=timezone.utc)


def test_an_access_log_reads_like_a_servers() -> None:
    records = [json.loads(line) for line in access_log(20_000, start=START).splitlines()]
    times = [datetime.fromisoformat(record["time"].replace("Z", "+00:00")) for record in records]
    assert times == sorted(times)
    assert START <= times[0] <= times[-1] < START + timedelta(hours=24)
    by_hour = Counter(time.hour for time in times)
    assert by_hour[4] * 3 < by_hour[20]
    failed = sum(record["status"] >= 500 for record in records) / len(records)
    assert 0.002 < failed < 0.03
    assert {"time", "method", "path", "status", "bytes", "duration_ms", "client", "user_agent"} == set(records[0])


def test_a_log_of_the_usual_size_is_a_file_worth_fetching() -> None:
    assert len(access_log()) > 10_000_000


def test_the_log_that_was_asked_for_keeps_window_format_order_and_limit() -> None:
    window = {"queryStartTime": "2025-11-03T10:00:00Z", "queryEndTime": "2025-11-03T11:00:00Z"}
    rows = list(csv.DictReader(io.StringIO(access_log_for({**window, "format": "csv", "limit": 30}).decode())))
    times = [row["time"] for row in rows]
    assert len(rows) == 30
    assert times == sorted(times, reverse=True)
    assert all(time.startswith("2025-11-03T10:") for time in times)
    assert len(access_log_for(window).splitlines()) == 6000
    assert access_log_for({**window, "queryEndTime": window["queryStartTime"]}) == b""


@pytest.mark.parametrize(("width", "height", "tile"), [(1024, 1024, 256), (300, 200, 64), (16, 16, 16), (5, 1, 16)])
def test_a_raster_opens_where_it_belongs(tmp_path: Path, width: int, height: int, tile: int) -> None:
    path = tmp_path / "ndvi.tif"
    path.write_bytes(geotiff(width, height, tile=tile))
    with rasterio.open(path) as raster:
        assert (raster.width, raster.height, raster.count, raster.dtypes) == (width, height, 1, ("float32",))
        assert raster.crs.to_epsg() == 4326
        assert (raster.transform.c, raster.transform.f) == pytest.approx((116.30, 40.05))
        assert (raster.transform.a, raster.transform.e) == pytest.approx((10 / 111_320, -10 / 111_320))
        assert raster.nodata == -9999
        assert "NDVI" in raster.tags()["TIFFTAG_IMAGEDESCRIPTION"]
        pixels = raster.read(1, masked=True)
    assert -1 <= pixels.min() <= pixels.max() <= 1
    if width > 100:
        assert pixels.std() > 0.02
        assert 0 < pixels.mask.mean() < 0.1


def test_a_report_opens_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf_report("NDVI (spring)", {"water": 0.25, r"a\b": 0.75}))
    with pypdf.PdfReader(path, strict=True) as reader:
        (page,) = reader.pages
        text = page.extract_text()
    assert "NDVI (spring)" in text
    assert "25 %" in text
    assert r"a\b" in text


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert access_log(100, seed=1) == access_log(100, seed=1) != access_log(100, seed=2)
    assert geotiff(64, 64, seed=1) == geotiff(64, 64, seed=1) != geotiff(64, 64, seed=2)
    assert pdf_report() == pdf_report()
