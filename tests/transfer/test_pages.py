"""A gateway's page and a store's error are told from a file by their content and the file's own name."""

from __future__ import annotations

import pytest

from airflow_provider_taskdl.transfer.pages import page_in_place_of

HTML = b"<!DOCTYPE html>\n<html><body>Log in</body></html>"
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>'
JSON = b'{"code": "AccessDenied", "message": "no", "requestId": "1"}'


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["a.tif", "a.csv", "a.json.gz", "a.zip", "a.html.zip", "a.nc"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (HTML, "an HTML page"),
        (b"<HTML><head>", "an HTML page"),
        (b'\n <html lang="en">', "an HTML page"),
        (b"\xef\xbb\xbf<!-- a gateway --><!-- of ours -->\r\n<!doctype HTML >", "an HTML page"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x">', "an HTML page"),
        (XML, "an XML error"),
        (b"<Error xmlns='x'><Code>1</Code></Error>", "an XML error"),
        (JSON, "a JSON error"),
        (b'{"error": "forbidden"}', "a JSON error"),
        (b'{"Code": 500, "Msg": "x", "data": null}', "a JSON error"),
    ],
)
def test_a_page_in_a_files_place_is_seen(name: str, content: bytes, what: str, stored: bool) -> None:
    assert page_in_place_of(name, content, is_stored=stored) == what


@pytest.mark.parametrize(
    ("name", "content", "stored"),
    [
        ("report.html", HTML, False),
        ("REPORT.HTM", HTML, True),
        ("a.xml", XML, True),
        ("a.json", JSON, True),
        ("a.ndjson", JSON, True),
        ("notes.txt", HTML, True),
        ("access.log", JSON, True),
        ("README", HTML, True),
    ],
)
def test_a_file_may_be_what_its_name_says(name: str, content: bytes, stored: bool) -> None:
    assert page_in_place_of(name, content, is_stored=stored) is None


@pytest.mark.parametrize(
    ("name", "content"), [("a.xml", XML), ("a.json", JSON), ("a.txt", HTML), ("a", XML), ("html", HTML), ("a.", JSON)]
)
def test_what_the_host_does_not_store_is_an_error_under_any_name_but_a_pages(name: str, content: bytes) -> None:
    assert page_in_place_of(name, content, is_stored=False) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"{}", b"[]", b"II*\0", b"a;b\n1;2\n", b"<svg xmlns='x'/>", b"<htmlx>", b"<kml/>",
        b"<Errors><Code>1</Code></Errors>", b"<Error/>", b"html", b'{"code": 1}',
        b'{"message": "x", "code": 1, "lat": 3}',
        JSON + b"\n" + JSON, b'{"type": "FeatureCollection"}', b'{"a":' * 1000, b"<!-- <html> ", b"<html",
    ],
)  # fmt: skip
def test_nothing_else_is_a_page(content: bytes) -> None:
    assert page_in_place_of("a.bin", content, is_stored=False) is None


def test_a_long_json_document_is_no_error() -> None:
    content = b'{"code": 1, "message": "' + b"x" * 5000 + b'"}'
    assert page_in_place_of("a.bin", content, is_stored=False) is None


@pytest.mark.parametrize("piece", [b"<!---->", b"<?x?>", b" ", b"<!--", b"<html"])
def test_a_beginning_that_goes_on_for_ever_is_no_page(piece: bytes) -> None:
    assert page_in_place_of("a.bin", piece * 1_000_000, is_stored=False) is None
