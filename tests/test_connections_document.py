"""What docs/connections.md says of connections is what the package does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_taskdl.get_provider_info import get_provider_info
from airflow_provider_taskdl.hooks.base import TaskApiHook, task_hook

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/connections.md").read_text(encoding="utf-8")
SOURCE = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "airflow_provider_taskdl").rglob("*.py"))
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("| ")]
FORMS = get_provider_info()["connection-types"]
MESSAGES = [row[0] for row in ROWS if len(row) == 2 and row[0] not in ("what is said", "Bad Request")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["connection-type"])
def test_every_extra_is_in_a_table_with_its_label_and_default(form: Mapping[str, Any]) -> None:
    described = {row[1].split("`")[1]: (row[0], row[3].strip("`")) for row in ROWS if "`" in row[1] and len(row) == 5}
    for name, field in form["conn-fields"].items():
        label, default = described[name]
        assert label == field["label"]
        declared = field["schema"].get("default")
        shown = (default,) if form["connection-type"] != "eo_market" else (default, "X-API-Key", "")
        assert declared is None or {declared, str(declared).lower()} & {*shown}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form["connection-type"])
def test_every_label_of_a_standard_field_is_in_a_table(form: Mapping[str, Any]) -> None:
    described = {row[1].lower(): row[0] for row in ROWS if len(row) == 5 and "extra" not in row[1]}
    labels = [row[0] for row in ROWS if len(row) == 5]
    for name, label in form["ui-field-behaviour"]["relabeling"].items():
        assert name in described
        assert label in labels or f"*{label}*" in TEXT


@pytest.mark.parametrize("text", re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
def test_a_connection_as_json_can_be_used(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOWN", text)
    hook = task_hook("shown")
    assert hook.conn_type == json.loads(text)["conn_type"]
    assert hook.access.base_url.startswith("https://")
    assert hook.unknown_extras == []


@pytest.mark.parametrize("uri", re.findall(r"^(?:baidu-bls|eo-analysis)://\S+$", TEXT, re.MULTILINE))
def test_a_connection_as_uri_can_be_used(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOWN", uri)
    hook = task_hook("shown")
    assert isinstance(hook, TaskApiHook)
    addresses = (
        "https://bls-log.gz.baidubce.com",
        "https://bls.example.org:8443",
        "https://eo.example.org/api/openapi",
    )
    assert hook.access.base_url in addresses
    assert hook.unknown_extras == []


def test_a_uri_with_an_underscore_finds_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOWN", "baidu_bls://KEY:SECRET@/")
    assert not BaseHook.get_connection("shown").login


@pytest.mark.parametrize("message", MESSAGES)
def test_what_a_test_of_the_connection_says_is_in_the_code(message: str) -> None:
    parts = [part.strip(" ;*()") for part in re.split(r"\*\(.*?\)\*|…", message)]
    known = [part for part in parts if len(part) > 6]
    assert known
    for part in known:
        assert part in SOURCE
