from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.redaction import HIDDEN, redact_text, redact_url, storable

SECRET = "aB3/+x==Zz"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h.example/a/b.json", "https://h.example/a/b.json"),
        ("https://h.example/a?x=1", "https://h.example/a?***"),
        ("https://h.example?x=1", "https://h.example?***"),
        ("https://h.example:8443/a?x#y", "https://h.example:8443/a?***"),
        ("https://h.example/a#token=1", "https://h.example/a"),
        ("https://user:pw@h.example/a", "https://h.example/a"),
        ("https://user@evil:pw@h.example/a", "https://h.example/a"),
        ("http://[2001:db8::1]:81/a?b", "http://[2001:db8::1]:81/a?***"),
        ("s3://conn@bucket/key%20x", "s3://bucket/key%20x"),
        ("https://h.example/ä b", "https://h.example/%C3%A4%20b"),
        ("https://h.example/\udcff?x", "https://h.example/?***"),
        ("https://h.example/f.tif%3FX-Amz-Signature%3Dabc", "https://h.example/f.tif?***"),
        ("https://h.example/f.tif%3fa=1&sig=abc#x", "https://h.example/f.tif?***"),
        ("https://h.example/f.tif%253Fsig%253Dabc?x=1", "https://h.example/f.tif?***"),
        ("https://h.example/f.tif%25252fa%25253fsig", "https://h.example/f.tif%25252fa?***"),
        ("https://u%3Fpw@h.example/a", HIDDEN),
        ("https://[::1]%3Fa=1/2&sig=abc", HIDDEN),
        ("https://h.example%3Fsig=abc/a", HIDDEN),
        ("", HIDDEN),
        ("no url", HIDDEN),
        ("/just/a/path?sign=1", HIDDEN),
        ("https://", HIDDEN),
        ("https://user:pw@/a", HIDDEN),
        ("https://[broken/a?x=1", HIDDEN),
        ("https://h:99999/a?x=1", HIDDEN),
    ],
)
def test_a_url_shows_scheme_host_port_and_path_only(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://h/p?a=1 failed", "GET https://h/p?*** failed"),
        ('{"link": "https://h/p?sig=1"}', '{"link": "https://h/p?***"}'),
        ("HTTPS://H/p?a=1,", "https://h/p?***"),
        ("two: http://a/?x=1 http://b/?y=2", "two: http://a/?*** http://b/?***"),
        (r"https://h/p?a=b\u0026signature=XYZ end", "https://h/p?*** end"),
        (r'{"u":"https:\/\/h\/p?key=XYZ"}', '{"u":"***"}'),
        ("?next=https%3A%2F%2Fh%2Fp%3Fkey%3DXYZ end", "?next=*** end"),
        ("at https://h/p%3Fa%3D1%26sig%3DXYZ, end", "at https://h/p?*** end"),
        ("GET /p%3FX-Amz-Signature%3Dabc end", "GET /p%3FX-Amz-Signature%3D*** end"),
        ("GET /p%253Fa%253D1%2526sig%253Dabc end", "GET /p%253Fa%253D1%2526sig%253D*** end"),
        ("Signature=abc&part=1", "Signature=***&part=1"),
        ("X-Amz-Signature=abc X-Amz-Credential=AK/2", "X-Amz-Signature=*** X-Amz-Credential=***"),
        ("x-bce-security-token=abc", "x-bce-security-token=***"),
        ("token=abc; access_token=def", "token=*** access_token=***"),
        ("sent bce-auth-v1/ak/2024-01-01T00:00:00Z/1800/host/ab12 to it", "sent *** to it"),
        ("authorization=bce-auth-v1%2Fak%2F2024%2F300%2Fhost%2Fab", "authorization=***"),
        ("twice quoted: bce-auth-v1%252Fak%252Fab12", "twice quoted: ***"),
        ("nothing to hide here: design=1", "nothing to hide here: design=1"),
        ("", ""),
    ],
)
def test_a_text_loses_queries_signatures_and_credentials(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize("form", [SECRET, quote(SECRET), quote(SECRET, safe="")])
def test_a_known_secret_is_taken_out_in_every_quoting(form: str) -> None:
    assert redact_text(f"it said <{form}>!", [SECRET]) == "it said <***>!"


@pytest.mark.parametrize("secrets", [["abc", "abcdef"], ["abcdef", "abc"]])
def test_a_secret_inside_another_leaves_no_rest(secrets: list[str]) -> None:
    assert redact_text("abcdef abc", secrets) == "*** ***"


def test_an_empty_secret_hides_nothing() -> None:
    assert redact_text("plain", ["", ""]) == "plain"


@pytest.mark.parametrize("unit", ["a", "a.", "x-amz-", "bce-auth-v1", "https:/", "%25", "25", "3f", "sig%25"])
def test_a_long_text_is_redacted_in_linear_time(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    start = time.process_time()
    assert redact_text(text) == text
    assert time.process_time() - start < 5


@given(st.text(alphabet=st.characters(), max_size=40))
def test_any_text_can_be_redacted(text: str) -> None:
    for url in (text, f"https://{text}", f"https://h/{text}"):
        assert isinstance(redact_url(url), str)
        assert isinstance(redact_text(url), str)


@given(
    st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'<>"), max_size=20),
)
def test_no_query_of_a_url_is_ever_shown(name: str, tail: str) -> None:
    query = f"{name}=GEHEIM{tail}"
    for quoted in (f"?{query}", f"%3f{query}", quote(f"?{query}"), quote(quote(f"?{query}"), safe="")):
        assert redact_url(f"https://h.example/f{quoted}") == "https://h.example/f?***"
        assert redact_text(f"see https://h.example/f{quoted} now") == "see https://h.example/f?*** now"
    text = f"see https://h.example/f?{query} now"
    assert redact_text(text) == "see https://h.example/f?*** now"
    assert redact_text(redact_text(text)) == redact_text(text)


@given(st.text(alphabet=st.characters() | st.sampled_from("\0\ud800\udfff")))
def test_every_text_has_a_form_that_can_be_stored(text: str) -> None:
    form = storable(text)
    assert "\0" not in form
    assert len(form.encode()) >= len(text)
    assert storable(form) == form
    assert form == text or "\\" in form
