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


@since(3, 0, "it is the web server that asks for the link")
@pytest.mark.parametrize(("destination", "url"), [("/data", "file:///data"), (None, ""), ("", ""), (" ", "")])
def test_the_operators_link_is_empty_before_there_is_a_destination(destination: Any, url: str) -> None:
    key: Any = None
    assert DestinationLink().get_link(SimpleNamespace(destination=destination), ti_key=key) == url


def test_the_operator_has_the_link_and_airflow_knows_its_class() -> None:
    (link,) = DownloadToObjectStorageOperator.operator_extra_links
    assert f"{type(link).__module__}.{type(link).__qualname__}" in get_provider_info()["extra-links"]
