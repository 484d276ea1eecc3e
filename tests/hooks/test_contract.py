"""The contract that a new API is tested by holds for those that are there."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from airflow_provider_taskdl.apis.bls import _NO_TASK
from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.testing.contract import Answers, ApiContract

UUID = "cfa6a654-06e9-66ca-3e24-71b1764d0455"
STATE, LINK = f"/v2/logstore/download/{UUID}", f"/v2/logstore/download/link/{UUID}"
NO_TASK = f"/v2/logstore/download/link/{_NO_TASK}"
URLS, DETAIL = "/analysis/task/get/Download/url", "/analysis/task/query/detailV2"


def bls(result: Any) -> dict[str, Any]:
    """Return BLS's envelope."""
    return {"success": True, "code": "OK", "result": result}


def state(word: str) -> dict[str, Any]:
    """Return what BLS says of a task in a state."""
    return {STATE: bls({"task": {"uuid": UUID, "state": word}})}


def eo(data: Any, code: int = 200) -> dict[str, Any]:
    """Return the platform's envelope."""
    return {"code": code, "message": "why", "data": data}


class TestBls(ApiContract):
    hook_class = BlsHook
    connection: ClassVar[Any] = {"login": "key", "password": "a-secret-key"}
    task_id = UUID
    names = ("a.json",)
    ready: ClassVar[Answers] = {
        **state("SUCCESS"),
        LINK: bls({"fileName": "a.json", "link": "{files}/a.json?authorization=s"}),
    }
    waiting = (state("RUNNING"), {LINK: bls({"fileName": "a.json", "link": ""})}, {LINK: bls(None)})
    failed = (state("FAILED"), state("EXPIRED"))
    not_found: ClassVar[Answers] = {LINK: (404, {"code": "DownloadTaskNotFound", "message": "not found"})}
    refused: ClassVar[Answers] = {"*": (403, {"code": "AccessDenied"})}
    accepted: ClassVar[Answers] = {NO_TASK: (404, {"code": "DownloadTaskNotFound", "message": "not found"})}


class TestEoAnalysis(ApiContract):
    hook_class = EoAnalysisHook
    connection: ClassVar[Any] = {"password": "a-secret-token"}
    names = ("a", "b")
    ready: ClassVar[Answers] = {
        DETAIL: eo({"taskStatus": 3}),
        URLS: eo({"downloadUrls": [{"fileName": n, "downloadUrl": f"{{files}}/{n}?token=s"} for n in names]}),
    }
    waiting = ({DETAIL: eo({"taskStatus": 2})}, {URLS: eo(None)}, {URLS: eo({"downloadUrls": []})})
    failed = ({DETAIL: eo({"taskStatus": 4})},)
    not_found: ClassVar[Answers] = {URLS: eo(None, 404)}
    refused: ClassVar[Answers] = {URLS: eo(None, 401)}
    accepted = not_found


@pytest.mark.parametrize("contract", [TestBls, TestEoAnalysis])
def test_no_secret_is_part_of_an_answer(contract: type[ApiContract]) -> None:
    assert contract.connection["password"] not in json.dumps(contract.ready)
