from __future__ import annotations

import base64
import hashlib
import zlib
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_taskdl.hooks.bls import BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.testing import Disk, Emulator, EmulatorServer, Memory, Synthetic, Task
from airflow_provider_taskdl.testing.links import make_link

pytest_plugins = ["airflow_provider_taskdl.testing.fixtures"]

DATA = bytes(range(256)) * 40


@pytest.fixture(params=["bls", "eo"])
def task(request: pytest.FixtureRequest, taskdl_emulator: Emulator) -> Task:
    if request.param == "bls":
        return taskdl_emulator.bls_task(DATA, name="f.bin")
    return taskdl_emulator.eo_task({"f.bin": DATA})


@pytest.fixture
def link(task: Task, taskdl_server: EmulatorServer) -> str:
    return link_to(taskdl_server, task)


def link_to(server: EmulatorServer, task: Task) -> str:
    return make_link(server.emulator, task, task.files[0], server.base_url)[0]


def test_tasks_whose_files_share_name_and_directory_keep_their_own(taskdl_server: EmulatorServer) -> None:
    tasks = [taskdl_server.emulator.bls_task(bytes([number]), name="log.json") for number in range(4)]
    assert [httpx.get(link_to(taskdl_server, task)).content for task in tasks] == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-", 0, 10240), ("bytes=5-9", 5, 10), ("bytes=10239-", 10239, 10240), ("bytes=9-99999", 9, 10240),
     ("bytes=-3", 10237, 10240), ("bytes=-99999", 0, 10240)],
)  # fmt: skip
def test_a_range_is_answered_with_that_range(link: str, asked: str, first: int, end: int) -> None:
    answer = httpx.get(link, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/10240"
    assert answer.content == DATA[first:end]


@pytest.mark.parametrize("asked", ["bytes=", "bytes=-", "bytes=9-5", "bytes=0-1,4-5", "lines=1-2", "nonsense"])
def test_what_is_not_one_range_gives_the_whole_file(link: str, asked: str) -> None:
    answer = httpx.get(link, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-range" not in answer.headers


def test_a_range_behind_the_end_is_refused_with_the_size(link: str) -> None:
    answer = httpx.get(link, headers={"Range": "bytes=10240-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10240")


def test_a_range_of_nothing_is_refused_and_nothing_itself_is_not(taskdl_server: EmulatorServer) -> None:
    for task, status in (
        (taskdl_server.emulator.bls_task(b""), 400),
        (taskdl_server.emulator.eo_task({"e": b""}), 416),
    ):
        link = link_to(taskdl_server, task)
        assert httpx.get(link, headers={"Range": "bytes=0-"}).status_code == status
        assert (httpx.get(link).status_code, httpx.get(link).content) == (200, b"")


def test_a_condition_holds_only_for_the_same_file(link: str, task: Task) -> None:
    whole = httpx.get(link)
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    assert etag.startswith('"')

    def status(**headers: str) -> int:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(link, headers={"Range": "bytes=1-2", **fields}).status_code

    assert [status(If_Range=etag), status(If_Range=modified), status(If_Match=etag)] == [206, 206, 206]
    assert status(If_Range=f"W/{etag}") == 200
    task.file("f.bin").change()
    assert httpx.get(link).headers["etag"] != etag
    assert [status(If_Range=etag), status(If_Range=modified), status(If_Match=etag)] == [200, 200, 412]
    assert status(If_Range=formatdate(0, usegmt=True)) == 200


def test_digests_are_sent_where_asked_for(taskdl_server: EmulatorServer) -> None:
    link = link_to(taskdl_server, taskdl_server.emulator.eo_task({"f": DATA}, checksums=True))
    whole, part = httpx.get(link), httpx.get(link, headers={"Range": "bytes=1-2"})
    assert whole.headers["content-md5"] == base64.b64encode(hashlib.md5(DATA).digest()).decode()
    assert whole.headers["x-bce-content-crc32"] == part.headers["x-bce-content-crc32"] == str(zlib.crc32(DATA))
    assert "content-md5" not in part.headers


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_a_link_is_for_get_only(link: str, method: str) -> None:
    assert httpx.request(method, link).status_code == 403


def test_a_link_that_was_touched_is_forged(link: str) -> None:
    signed = link[-20]
    for touched in (
        link.partition("?")[0],
        link.replace("f.bin", "g.bin", 1),
        link + "&x=1",
        f"{link[:-20]}{'0' if signed != '0' else '1'}{link[-19:]}",
    ):
        answer = httpx.get(touched)
        assert (answer.status_code, answer.json()["code"]) == (403, "SignatureDoesNotMatch")


def test_a_link_belongs_to_one_file(taskdl_server: EmulatorServer) -> None:
    a = taskdl_server.emulator.eo_task({"a": b"a", "b": b"b"}, id="1")
    link = link_to(taskdl_server, a)
    assert httpx.get(link.replace("/1/a?", "/1/b?")).status_code == 403


@pytest.mark.parametrize("status", [400, 403])
def test_an_expired_link_is_refused_as_such_and_a_fresh_one_is_not(
    taskdl_server: EmulatorServer, task: Task, status: Any
) -> None:
    emulator = taskdl_server.emulator
    emulator.expired_status = status
    old = link_to(taskdl_server, task)
    emulator.expire_links()
    answer = httpx.get(old)
    assert (answer.status_code, answer.json()["code"]) == (status, "RequestExpired")
    assert httpx.get(link_to(taskdl_server, task)).content == DATA


@pytest.mark.parametrize("field", ["Authorization", "Cookie", "x-bce-date", "x-bce-security-token"])
def test_other_credentials_on_a_link_are_refused_and_remembered(
    taskdl_emulator: Emulator, link: str, field: str
) -> None:
    assert httpx.get(link).status_code == 200
    assert not taskdl_emulator.leaks
    assert httpx.get(link, headers={field: "x"}).status_code == 400
    assert [seen.leaked for seen in taskdl_emulator.leaks] == [(field.lower(),)]


def test_the_token_header_of_the_api_is_a_credential_too(link: str, taskdl_emulator: Emulator) -> None:
    taskdl_emulator.header_name = "X-Api-Key"
    assert httpx.get(link, headers={"x-api-key": "x"}).status_code == 400


def test_content_comes_from_memory_disk_or_nowhere(taskdl_server: EmulatorServer, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(DATA)
    made = Synthetic(3_000_001, seed=7)
    task = taskdl_server.emulator.eo_task({"disk": path, "made": made, "text": "grün"})
    bodies = [
        httpx.get(make_link(taskdl_server.emulator, task, file, taskdl_server.base_url)[0]).content
        for file in task.files
    ]
    assert bodies == [DATA, made.read(0, made.size), "grün".encode()]
    assert hashlib.sha256(bodies[1]).hexdigest() == made.sha256


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (65_535, 2), (65_536, 65_536), (199_999, 5), (5, 10**9)])
def test_made_up_content_is_the_same_however_it_is_read(offset: int, length: int) -> None:
    content = Synthetic(200_000, seed=3)
    whole = b"".join(content.blocks())
    assert content.read(offset, length) == whole[offset : offset + length]
    assert len(whole) == 200_000
    assert Synthetic(200_000, seed=4).read(0, 100) != whole[:100]


def test_contents_of_one_kind_agree_on_digests(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    disk, memory = Disk(tmp_path / "f"), Memory(DATA)
    assert (disk.sha256, disk.md5, disk.crc32) == (memory.sha256, memory.md5, memory.crc32)


def test_a_huge_file_can_be_read_at_its_end(taskdl_server: EmulatorServer) -> None:
    huge = Synthetic(2**41)
    link = link_to(taskdl_server, taskdl_server.emulator.eo_task({"huge": huge}))
    answer = httpx.get(link, headers={"Range": "bytes=-10"})
    assert answer.headers["content-range"].endswith(f"/{2**41}")
    assert answer.content == huge.read(2**41 - 10, 10)


def test_links_can_name_another_host_than_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator(link_origin="https://bls-test.bj.bcebos.com")
    tasks = emulator.bls_task(b"x"), emulator.eo_task({"f": b"x"})
    with EmulatorServer(emulator) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        for hook, task in zip((BlsHook(), EoAnalysisHook()), tasks, strict=True):
            link = hook.list_files(task.id).files[0].link
            assert str(link).startswith("https://bls-test.bj.bcebos.com/")
            hook.close()
