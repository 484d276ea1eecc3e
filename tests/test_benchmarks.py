"""What the benchmarks say: numbers from the results, and no uploads after a kill only where there are none."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks import kills, lists, report, waiting, workers
from tests.s3 import KEY, SECRET, S3Server, uploads_in


def test_the_section_on_kills_says_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = report.TEMPLATE.read_text().partition("## 6. Kills")[2].partition("\n## ")[0]
    (tmp_path / "template").write_text(section)
    (tmp_path / "kills.json").write_text(json.dumps({"mib": 7, "allowed_mib": 3, "kept": []}))
    for name in ("template", "plots", "document"):
        monkeypatch.setattr(report, name.upper(), tmp_path / name)
    report.write(tmp_path)
    written = (tmp_path / "document").read_text()
    assert "a file of 7 MiB" in written
    assert "one more, 3 MiB" in written
    assert "GiB" not in written


@pytest.mark.s3
def test_only_the_servers_word_for_no_uploads_means_that_there_are_none(s3_server: S3Server) -> None:
    client = s3_server.client()
    assert uploads_in(client, s3_server.bucket()) == []
    with pytest.raises(ClientError):
        uploads_in(client, "no-such-bucket")
    client.close()


@pytest.mark.s3
def test_a_refusal_is_not_taken_for_no_uploads_after_a_kill(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job: Any = SimpleNamespace(store=SimpleNamespace(endpoint=s3_server.url), servers=SimpleNamespace(certificate="-"))
    monkeypatch.setattr(kills, "ACCESS_KEY", "unknown")
    with pytest.raises(ClientError):
        kills._uploads(job)
    monkeypatch.setattr(kills, "ACCESS_KEY", KEY)
    monkeypatch.setattr(kills, "SECRET_KEY", SECRET)
    monkeypatch.setattr(kills, "BUCKET", s3_server.bucket())
    assert kills._uploads(job) == []


def test_the_page_on_workers_says_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "DOCUMENT", tmp_path / "document")
    rows = [{"workers": count, "seconds": seconds} for count, seconds in ((1, 40), (1, 44), (1, 60), (2, 20), (2, 22))]
    about = {"when": "2026-01-01", "cores": 3, "processor": "p", "memory_gib": 5, "versions": {"celery": "5"}}
    results = {**about, "files": 32, "mib": 4, "rate": 0.5, "load": 0.1, "rows": rows}
    assert workers.ratio(results) == pytest.approx(44 / 21)
    workers.write(results)
    written = (tmp_path / "document").read_text()
    assert "{{" not in written
    assert "| 1 | 44.0 | 2.91 | 1.00 | 64.0 |" in written
    assert "| 2 | 21.0 | 6.10 | 2.10 | 32.0 |" in written
    assert "32 files of 4 MiB" in written
    assert "medians of 3 runs" in written


def test_a_run_lasts_from_the_first_start_to_the_last_end() -> None:
    def task(host: str, start: int, end: int) -> dict[str, Any]:
        day = "2026-01-01T00:00"
        return {"hostname": host, "start_date": f"{day}:{start:02}Z", "end_date": f"{day}:{end:02}.500000Z"}

    span = workers._span([task("b", 3, 9), task("a", 1, 4), task("a", 5, 11), task("b", 10, 12)])
    assert span == {"seconds": 11.5, "each": 5.0, "shards": {"a": 2, "b": 2}}


def test_the_page_on_waiting_says_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "DOCUMENT", tmp_path / "document")
    monkeypatch.setattr(lists, "RESULTS", tmp_path / "lists.json")
    facts = {"ended": 20, "told": 19, "errors": 0}
    rows = [
        {**facts, "with_lists": True, "requests": 115, "lists": 30, "late": {"p50": 0.31, "max": 0.654}},
        {**facts, "with_lists": False, "requests": 1980, "lists": 2, "late": {"p50": 0.5, "max": 1.0}, "told": 20},
    ]
    about = {"when": "2026-01-01", "cores": 3, "processor": "p", "versions": {"httpx": "5"}}
    results = {**about, "count": 100, "interval": 6.0, "intervals": 20, "rows": rows}
    (tmp_path / "lists.json").write_text(json.dumps(results))
    waiting.write(json.loads(waiting.RESULTS.read_text()))
    written = (tmp_path / "document").read_text()
    assert "{{" not in written
    assert "100 waits for BLS exports on one connection, for 20 intervals of 6 s" in written
    assert "| with lists | 115 | 30 | 0.038 | 0.31 / 0.65 | 1 |" in written
    assert "| the list refused | 1,980 | 2 | 0.970 | 0.50 / 1.00 | 0 |" in written
    assert "takes 4 minutes" in written
