"""A name from the service becomes a name at the destination only if it can be nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import UnsafeFileNameError
from airflow_provider_taskdl.transfer.names import check_names, name_in


@pytest.mark.parametrize(
    "name",
    ["a", "a.tif", ".hidden", "...", "a b", "ä.tif", "数据.csv", "a#b?c%d+e&f", "a:b|c*d[e]", "~", "-rf", "$HOME",
     "_taskdl.json", "x" * 255, "ä" * 127, "🙂.png", "con", "a'b\"c"],
)  # fmt: skip
def test_a_plain_name_is_taken(name: str) -> None:
    check_names([name])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"), (" ", "empty"), ("\u3000", "empty"),
        (".", "leads out"), ("..", "leads out"), ("../x", "leads out"), ("../../etc/passwd", "leads out"),
        ("/etc/passwd", "leads out"), ("a/b", "leads out"), ("a/", "leads out"), ("..\\x", "leads out"),
        ("C:\\x", "leads out"), ("a\\b", "leads out"), ("./x", "leads out"),
        ("a\0b", "control"), ("a\nb", "control"), ("a\x7fb", "control"), ("a\x85b", "control"),
        ("a\u202eb", "control"), ("a\u200bb", "control"), ("a\u2028b", "control"), ("\ufeffa", "control"),
        ("a\ud800", "control"),
        ("x" * 256, "longer"), ("ä" * 128, "longer"), ("🙂" * 64, "longer"),
        (" a", "space"), ("a ", "space"), ("a\u00a0", "space"), ("_taskdl", "reserved"),
    ],
)  # fmt: skip
def test_any_other_name_is_refused(name: str, why: str) -> None:
    with pytest.raises(UnsafeFileNameError, match=why) as caught:
        check_names(["fine", name])
    assert not caught.value.retryable
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("names", [["a", "b", "a"], ["\u00e9", "e\u0301"], ["\u212b", "\u00c5"]])
def test_two_files_of_one_name_are_refused(names: list[str]) -> None:
    with pytest.raises(UnsafeFileNameError, match="same name"):
        check_names(names)


def test_names_that_differ_in_case_are_two() -> None:
    check_names(["a", "A"])


@given(st.text(max_size=300))
def test_a_name_that_is_taken_stays_in_its_directory(name: str) -> None:
    try:
        check_names([name])
    except UnsafeFileNameError:
        return
    assert name.strip() == name
    assert name not in ("", ".", "..", "_taskdl")
    assert not set("/\\\0\n") & set(name)
    assert len(name.encode()) <= 255


@given(st.lists(st.text("ab\u00e9e\u0301", min_size=1, max_size=3), max_size=6))
def test_no_two_names_that_are_taken_are_one_to_a_disk_that_normalises(names: list[str]) -> None:
    forms = [unicodedata.normalize("NFC", name) for name in names]
    try:
        check_names(names)
    except UnsafeFileNameError:
        assert len(set(forms)) < len(forms)
    else:
        assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (None, None), ("", None), ("attachment", None), ("inline;", None), ("attachment; size=3", None),
        ("attachment; filename=a.tif", "a.tif"),
        ("Attachment;FileName = a.tif ; size=3", "a.tif"),
        ('attachment; filename="a b;c=d.tif"', "a b;c=d.tif"),
        ('attachment; filename="a \\"b\\" \\\\ c"', 'a "b" \\ c'),
        ('attachment; filename="C:\\dir\\a.tif"', "C:\\dir\\a.tif"),  # refused where names are judged
        ('attachment; filename=""', None),
        ("attachment; filename*=UTF-8''%e6%b8%ac%20a.tif", "\u6e2c a.tif"),
        ("attachment; filename*=utf-8'en'a.tif; filename=b.tif", "a.tif"),
        ("attachment; filename=b.tif; filename*=ISO-8859-1''%e4.tif", "\xe4.tif"),
        ("attachment; filename=b.tif; filename*=KOI8''%e4.tif", "b.tif"),
        ("attachment; filename=b.tif; filename*=broken", "b.tif"),
        ("attachment; filename*=UTF-8''%ff", "\ufffd"),
        ("attachment; filename*=UTF-8''..%2fx", "../x"),
        ("attachment; filename=\xe6\xb8\xac.tif", "\u6e2c.tif"),  # UTF-8, as http.client hands it over
        ("attachment; filename=\xe4.tif", "\xe4.tif"),
        ('attachment; other="; filename=no.tif"; filename=yes.tif', "yes.tif"),
        ('attachment; filename="never ends', None),
        ("a.tif", None),
    ],
)  # fmt: skip
def test_a_hosts_word_for_a_file_is_read(field: str | None, name: str | None) -> None:
    assert name_in(field) == name


@given(
    st.text(alphabet=st.characters(max_codepoint=255))
    | st.text(alphabet=";=\"\\' *filename%e4UTF-8").map("x;filename*=".__add__)
)
def test_whatever_a_host_says_is_a_name_or_none(field: str) -> None:
    found = name_in(field)
    assert found is None or found
