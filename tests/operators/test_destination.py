from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import ConnectionConfigError, DestinationError, UnsafeFileNameError
from airflow_provider_taskdl.operators import destination as module
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.transfer.names import check_names
from airflow_provider_taskdl.transfer.sinks.local import LocalStore
from airflow_provider_taskdl.transfer.sinks.object_store import ObjectStore
from airflow_provider_taskdl.transfer.sinks.s3 import S3Store
from tests import needs
from tests.airflow_versions import conn_id_of

NAMES = [
    "plain.tif", "a b.tif", "a#b", "#a", "a?b", "?a", "a?b#c", "100%", "%41", "ü雪.tif", "a+b&c=d;e", "x@y", "a:b",
    "[x]", "{{ x }}", "'\"", "~a", ".hidden", "a..b", "C:x", "s3:x", "a%2Fb",
]  # fmt: skip


@pytest.fixture
def store_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ``store``; nothing answers at its address."""
    needs.package("airflow.providers.amazon", "extra s3")
    extra = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
    facts = {"conn_type": "aws", "login": "key-id-1", "password": "secret-key-1", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(facts))


@pytest.mark.parametrize(
    ("where", "root"),
    [
        ("/data/in", "/data/in"),
        ("/data/in/", "/data/in"),
        ("  /data/in ", "/data/in"),
        ("//data//in//", "/data/in"),
        ("file:///data/in", "/data/in"),
        ("file:///data/in/", "/data/in"),
        ("/a b/#1/x?y/100%/ü", "/a b/#1/x?y/100%/ü"),
        ("file:///a b/#1/x?y/100%/ü", "/a b/#1/x?y/100%/ü"),
        ("FILE:///data/in", "/data/in"),
        (Path("/data/in"), "/data/in"),
        (ObjectStoragePath("/data/in"), "/data/in"),
        (ObjectStoragePath("file:///data/in"), "/data/in"),
    ],
)
def test_a_disk_is_written_in_place(where: Any, root: str) -> None:
    destination = Destination(where)
    assert isinstance(destination.store, LocalStore)
    assert destination.store.root == Path(root)
    assert destination.path_of("x") == f"file://{root}/x"


def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Destination("data/in").path_of("x") == f"file://{tmp_path}/data/in/x"


@pytest.mark.usefixtures("store_connection")
@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("s3://store@bucket", "s3://store@bucket/x"),
        ("s3://store@bucket/", "s3://store@bucket/x"),
        ("s3://store@bucket/in/day=1/", "s3://store@bucket/in/day=1/x"),
        ("s3://store@bucket/a b/#1/q?r/ü%20", "s3://store@bucket/a b/#1/q?r/ü%20/x"),
        ("s3://store@bucket/in//day=1", "s3://store@bucket/in//day=1/x"),
        ("S3://store@bucket/in", "s3://store@bucket/in/x"),
    ],
)
def test_an_object_store_keeps_its_connection(where: str, path: str) -> None:
    destination = Destination(where)
    assert isinstance(destination.store, S3Store)
    assert f"s3://store@{destination.store.bucket}/{destination.store.prefix}x" == path
    assert destination.path_of("x") == path
    assert conn_id_of(ObjectStoragePath(destination.path_of("x"))) == "store"


@pytest.mark.usefixtures("store_connection")
def test_a_path_object_keeps_its_connection() -> None:
    for where in (ObjectStoragePath("s3://bucket/in", conn_id="store"), ObjectStoragePath("s3://store@bucket/in")):
        assert Destination(where).path_of("x") == "s3://store@bucket/in/x"


@pytest.mark.usefixtures("store_connection")
@pytest.mark.parametrize("where", ["file:///a b/#1/x?y", "s3://store@bucket", "s3://store@bucket/a b/#1/x?y/ü%20"])
@pytest.mark.parametrize("name", NAMES)
def test_a_path_comes_back_as_the_place_that_was_written(where: str, name: str) -> None:
    destination = Destination(where)
    destination.check_names([name])
    path = ObjectStoragePath(destination.path_of(name))
    place = where.partition("://")[2].rpartition("@")[2]
    assert path.path == f"{place}/{name}"
    assert str(path) == destination.path_of(name)
    assert str(ObjectStoragePath(where, conn_id=conn_id_of(path)) / name) == destination.path_of(name)


@given(
    st.lists(st.sampled_from([*":?#%[]@&=+;,!$'()*~.{}|^<> \"aäＡ／：", "::", "%2F", "s3:"]), max_size=6).map("".join)
)
def test_a_name_is_refused_or_its_path_opens_it(name: str) -> None:
    try:
        check_names([name])
        Destination("/data").check_names([name])
    except UnsafeFileNameError:
        return
    for where, place in (("file:///data", "/data"), ("s3://bucket/in", "bucket/in")):
        path = ObjectStoragePath(f"{where}/{name}")
        assert (path.path, str(path)) == (f"{place}/{name}", f"{where}/{name}")


@pytest.mark.parametrize("name", ["core::net.log", "::", "a:::b", "simplecache::x", "s3::x", "x::", "::x"])
def test_a_name_that_would_chain_file_systems_is_refused(name: str) -> None:
    with pytest.raises(UnsafeFileNameError, match="holds '::'") as caught:
        Destination("/data").check_names(["core", name])
    assert caught.value.file == name


@pytest.mark.parametrize("name", ["scene.tif?versionId=3", "a?VERSIONID=", "x?a=1?versionid=2"])
def test_a_name_that_a_stores_client_would_cut_is_refused(name: str) -> None:
    with pytest.raises(UnsafeFileNameError, match="holds '\\?versionId='"):
        Destination("/data").check_names(["good?version=3", name])


@pytest.mark.usefixtures("store_connection")
def test_a_name_that_azures_client_would_turn_round_is_refused_there() -> None:
    Destination("s3://store@bucket").check_names(["x?y#z"])
    needs.package("airflow.providers.microsoft.azure")
    account = "DefaultEndpointsProtocol=https;AccountName=nobody;AccountKey=a2V5;EndpointSuffix=core.windows.net"
    facts = {"conn_type": "wasb", "extra": {"connection_string": account}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_AZURES", json.dumps(facts))
        destination = Destination("abfs://azures@box/in")
        destination.check_names(["x#y?z"])
        with pytest.raises(UnsafeFileNameError, match="the client of Azure exchanges"):
            destination.check_names(["x?y#z"])


@pytest.mark.parametrize("where", [None, 5, 5.0, ["/data"], {"a": 1}, b"/data", True])
def test_what_is_no_text_is_no_destination(where: Any) -> None:
    with pytest.raises(ConnectionConfigError, match=r"must be text or a path, not .*what did that give\?"):
        Destination(where)


def test_a_key_in_a_connections_place_is_not_shown() -> None:
    with pytest.raises(ConnectionConfigError, match="not shown") as caught:
        Destination("s3://AKIAKEY:GEHEIM@bucket/x")
    assert "GEHEIM" not in str(caught.value)


@pytest.mark.parametrize("name", ["a?", "a#", "?", "#", "a?#b", "a?b#"])
def test_a_name_whose_path_would_be_another_one_is_refused(name: str) -> None:
    with pytest.raises(UnsafeFileNameError) as caught:
        Destination("/data").check_names(["good", name])
    assert caught.value.file == name
    assert ObjectStoragePath(f"file:///data/{name}").path != f"/data/{name}"


@pytest.mark.usefixtures("store_connection")
@pytest.mark.parametrize("where", ["/a b/#1/x?y", "s3://store@bucket", "s3://store@bucket/a b/#1/x?y/ü%20"])
@pytest.mark.parametrize("name", NAMES)
def test_the_name_for_the_world_outside_is_a_plain_url(where: str, name: str) -> None:
    uri = Destination(where).uri_of(name)
    assert uri.isascii()
    assert not set(uri) & set(' ?#"<>{}')
    assert "store" not in uri
    assert Asset(uri).uri == uri


@pytest.mark.usefixtures("store_connection")
def test_the_name_for_the_world_outside_is_the_usual_one() -> None:
    assert Destination("s3://store@bucket/in/day=1").uri_of("a.tif") == "s3://bucket/in/day=1/a.tif"
    assert Destination("/data").uri_of("a.tif") == "file:///data/a.tif"


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("", "names no directory"),
        ("  ", "names no directory"),
        ("/", "names no directory"),
        ("file://", "names no directory"),
        ("file:///", "names no directory"),
        ("file://host/data", "names a host"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://store@", "names no bucket"),
        ("s3://store@/prefix", "names no bucket"),
        ("://x", "names a host"),
        ("file:////in", "an empty name where its first directory"),
        ("s3://bucket//in", "an empty name where its first directory"),
        ("s3://store@bucket//in/", "an empty name where its first directory"),
        ("memory://bucket//in", "an empty name where its first directory"),
        ("/data/what?", "is another one .* end in '\\?'"),
        ("s3://bucket/x#", "is another one .* end in '\\?'"),
        ("s3://buc[ket/x", "is another one"),
        ("/data/run::7", "holds '::'"),
        ("s3://bucket/run::7/x", "holds '::'"),
        ("simplecache::s3://bucket/x", "holds '::'"),
        ("nope://bucket/x", "no object store is known for nope://"),
        ("https://example.org/x", "no object store is known for https://"),
        ("s3://missing@bucket/x", "'missing' does not exist"),
    ],
)
def test_what_is_no_place_is_an_error_of_the_parameter(where: str, says: str) -> None:
    with pytest.raises(ConnectionConfigError, match=says):
        Destination(where)


def test_a_store_whose_connection_is_broken_is_not_taken_for_one_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs.package("airflow.providers.microsoft.azure")
    facts = {"conn_type": "wasb", "extra": {"connection_string": "no such thing, key-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(facts))
    with pytest.raises(DestinationError, match="the store of abfs://box/in cannot be opened"):
        Destination("abfs://broken@box/in")


def _client_of(destination: Destination) -> Any:
    assert isinstance(destination.store, S3Store)
    return destination.store.requests._client


def test_the_stores_client_is_the_connections(monkeypatch: pytest.MonkeyPatch, store_connection: None) -> None:
    client = _client_of(Destination("s3://store@bucket/x"))
    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    assert client.meta.config.request_checksum_calculation == "when_required"
    facts = json.loads(os.environ["AIRFLOW_CONN_STORE"])
    facts["extra"]["config_kwargs"] = {"request_checksum_calculation": "when_supported", "read_timeout": 7}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(facts))
    client = _client_of(Destination("s3://store@bucket/x"))
    assert client.meta.config.request_checksum_calculation == "when_supported"
    assert client.meta.config.read_timeout == 7


def test_an_endpoint_that_is_none_is_an_error_of_the_connection(
    monkeypatch: pytest.MonkeyPatch, store_connection: None
) -> None:
    facts = json.loads(os.environ["AIRFLOW_CONN_STORE"])
    facts["extra"]["endpoint_url"] = "no url"
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(facts))
    with pytest.raises(ConnectionConfigError, match="'store' gives no S3 client: Invalid endpoint"):
        Destination("s3://store@bucket/x")


def test_without_a_connection_the_machines_own_rights_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.package("airflow.providers.amazon", "extra s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-machine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-machine")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = _client_of(Destination("s3://bucket/x"))
    assert client._request_signer._credentials.access_key == "key-of-the-machine"


def test_what_only_s3fs_can_do_is_left_to_it(monkeypatch: pytest.MonkeyPatch, store_connection: None) -> None:
    facts = json.loads(os.environ["AIRFLOW_CONN_STORE"])
    facts["extra"]["service_config"] = {"s3": {"proxy-uri": "http://127.0.0.1:9"}}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(facts))
    monkeypatch.setattr(ObjectStoragePath, "fs", property(lambda path: MemoryFileSystem()))
    assert isinstance(Destination("s3://store@bucket/x").store, ObjectStore)


def test_a_store_that_cannot_be_opened_may_be_so_later(monkeypatch: pytest.MonkeyPatch, store_connection: None) -> None:
    def refuse(conn_id: str | None) -> None:
        raise RuntimeError("no route; see https://store/x?token=abcdef")

    monkeypatch.setattr(module, "_s3_client", refuse)
    with pytest.raises(DestinationError, match="RuntimeError: no route") as caught:
        Destination("s3://store@bucket/x")
    assert caught.value.retryable
    assert "abcdef" not in str(caught.value)
