"""A gateway's page and a store's error are told from a file by their content and the file's own name."""

from __future__ import annotations

import pytest

from airflow_provider_taskdl.transfer.pages import page_in_place_of

HTML = b"<!DOCTYPE html>\n<html><body>Log in</body></html>"
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>'
JSON = b'{"code": "AccessDenied", "message": "no", "requestId": "1"}'


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["a.tif", "a.xlsx", "a.json.gz", "a.zip", "a.html.zip", "a.nc"])
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
        (b'{"status": 200, "error": "Forbidden", "message": "x", "path": "/"}', "a JSON error"),
        (b'{"status": "ok", "code": "AccessDenied", "message": "x"}', "a JSON error"),
        (b'{"status": false, "message": "denied"}', "a JSON error"),
        (b'{"error": true, "message": "denied"}', "a JSON error"),
        (b'{"error": {"code": 403}}', "a JSON error"),
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
        ("job.status", JSON, True),
        ("a.tif.meta", JSON, True),
        ("a.result", JSON, True),
        ("a.csv", JSON, True),
        ("a.kml", XML, True),
        ("a.json", XML, True),
        ("table.xls", HTML, False),
        ("report.DOC", HTML, False),
        *((f"page.{ending}", HTML, False) for ending in ("mht", "mhtml", "xht", "php", "asp", "aspx", "jsp")),
        ("notes.txt", HTML, True),
        ("access.log", JSON, True),
        ("README", HTML, True),
    ],
)
def test_a_file_may_be_what_its_name_says(name: str, content: bytes, stored: bool) -> None:
    assert page_in_place_of(name, content, is_stored=stored) is None


@pytest.mark.parametrize("stored", [False, True])
def test_a_page_under_the_name_of_a_table_in_text_is_none(stored: bool) -> None:
    assert page_in_place_of("a.csv", HTML, is_stored=stored) == "an HTML page"


@pytest.mark.parametrize(("name", "content"), [("a.xls", JSON), ("a.doc", XML)])
def test_an_error_is_not_what_an_office_program_exports(name: str, content: bytes) -> None:
    assert page_in_place_of(name, content, is_stored=True) is not None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", XML), ("a.json", JSON), ("a.txt", HTML), ("a", XML), ("html", HTML), ("a.", JSON), ("a.csv", JSON),
        ("a.status", JSON),
    ],
)  # fmt: skip
def test_what_the_host_does_not_store_is_an_error_under_any_name_but_a_pages(name: str, content: bytes) -> None:
    assert page_in_place_of(name, content, is_stored=False) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"{}", b"[]", b"II*\0", b"a;b\n1;2\n", b"<svg xmlns='x'/>", b"<htmlx>", b"<kml/>",
        b"<Errors><Code>1</Code></Errors>", b"<Error/>", b"html", b'{"code": 1}',
        b'{"message": "x", "code": 1, "lat": 3}',
        b'{"status": "ok", "message": "", "data": {"x": 1}}', b'{"code": 0, "msg": "", "error": null, "result": []}',
        b'{"status":200,"message":"GET","path":"/","timestamp":1}', b'{"Code": "0", "Message": "OK"}',
        b'{"status": "SUCCESS", "message": "x", "code": 200}', b'{"status": true, "error": false, "message": "x"}',
        b'{"error": "", "message": "x"}', b'{"error": []}',
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
