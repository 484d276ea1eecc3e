from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_taskdl.get_provider_info import get_provider_info
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.operators.links import DestinationLink, browse_url
from tests.airflow_versions import since


@pytest.mark.parametrize(
    ("destination", "url"),
    [
        ("s3://conn@bucket/in/day=1/", "https://s3.console.aws.amazon.com/s3/buckets/bucket?prefix=in/day%3D1/"),
        ("s3://bucket/a b#c?d", "https://s3.console.aws.amazon.com/s3/buckets/bucket?prefix=a%20b%23c%3Fd/"),
        ("s3a://conn@bucket", "https://s3.console.aws.amazon.com/s3/buckets/bucket"),
        ("gs://conn@bucket/in", "https://console.cloud.google.com/storage/browser/bucket/in"),
        ("gs://bucket", "https://console.cloud.google.com/storage/browser/bucket/"),
        ("abfs://conn@container/in", "abfs://container/in"),
        ("/data/a b", "file:///data/a%20b"),
        ("file:///data/a#b", "file:///data/a%23b"),
    ],
)
def test_the_link_leads_to_the_destination_and_names_no_connection(destination: str, url: str) -> None:
    assert browse_url(destination) == url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://s3.amazonaws.com", "https://s3.console.aws.amazon.com/s3/buckets/b?prefix=in/"),
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.console.aws.amazon.com/s3/buckets/b?prefix=in/"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "https://console.amazonaws.cn/s3/buckets/b?prefix=in/"),
        ("https://s3.bj.bcebos.com", "https://s3.bj.bcebos.com/b/in"),
        ("http://user:secret@127.0.0.1:9000/s3/?key=secret", "http://127.0.0.1:9000/s3/b/in"),
        ("http://notamazonaws.com", "http://notamazonaws.com/b/in"),
    ],
)
def test_a_store_that_is_not_amazons_is_not_shown_in_amazons_console(endpoint: str, url: str) -> None:
    assert browse_url("s3://conn@b/in", endpoint) == url


@since(3, 0, "it is the web server that asks for the link")
@pytest.mark.parametrize(("destination", "url"), [("/data", "file:///data"), (None, ""), ("", ""), (" ", "")])
def test_the_operators_link_is_empty_before_there_is_a_destination(destination: Any, url: str) -> None:
    key: Any = None
    assert DestinationLink().get_link(SimpleNamespace(destination=destination), ti_key=key) == url


def test_the_operator_has_the_link_and_airflow_knows_its_class() -> None:
    (link,) = DownloadToObjectStorageOperator.operator_extra_links
    assert f"{type(link).__module__}.{type(link).__qualname__}" in get_provider_info()["extra-links"]
