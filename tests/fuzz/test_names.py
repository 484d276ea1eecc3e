"""Whatever a service calls a file: it is refused, or it is one file of that name in the destination."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import UnsafeFileNameError
from airflow_provider_taskdl.transfer.names import check_names
from airflow_provider_taskdl.transfer.sinks.base import OWN_FOLDER
from tests.fuzz.campaign import Several, family, judge, secret_urls, texts
from tests.temporary import temporary_folder

_ROOT = temporary_folder("fuzz-names-")
KNOWN = [
    "", " ", ".", "..", "...", "../a", "..\\a", "/a", "\\a", "a/b", "a\\b", "a/../../b", "C:\\a", "C:a", "~", "~root",
    "a\x00b", "a\nb", "a\u2028b", "\ufeffa", "a\u202egpj.exe", "\u2024\u2024\uff0fa", "\uff0e\uff0e\uff0fa", "a\u2215b",
    "CON", "nul.txt", "aux", "a.", "a ", " a", "\u3000a", "-rf", "--help", "*", "?", "a?b#c", "%2e%2e%2fa", "a%00b",
    "a:b",
    OWN_FOLDER, OWN_FOLDER.upper(), f"{OWN_FOLDER}/x.json", "x" * 255, "x" * 256, "é" * 127, "é" * 128, "😀" * 63,
    "😀" * 64, "\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\u1112\u1161\u11ab", "\ud55c", "\ud800", "a\udfffb",
    "ﬀ", "ǆ", "İ", "ß", "SS", "${HOME}", "{{ x }}", "$(id)", "`id`", "a;b", "a|b", "\u0301", "ı", "\u034f",
]  # fmt: skip
_pieces = st.one_of(st.sampled_from(KNOWN), texts, secret_urls)
names = st.one_of(
    _pieces,
    _pieces,
    st.lists(_pieces, min_size=2, max_size=3).map("".join),
    st.tuples(_pieces, st.integers(1, 300)).map(lambda pair: (pair[0] * pair[1])[:400]),
)


@family(one=Several(names), other=Several(names))
def test_any_names_are_refused_or_each_is_one_file_of_the_destination(one: str, other: str) -> None:
    check([one])
    check([one, other])


def check(given_names: list[str]) -> None:
    """Judge names, and make their files if they may be made."""
    try:
        check_names(given_names)
    except UnsafeFileNameError as error:
        judge(error)
        return
    assert len({unicodedata.normalize("NFC", name) for name in given_names}) == len(given_names)
    for name in given_names:
        assert name not in ("", ".", "..", OWN_FOLDER)
        assert len(name.encode()) <= 255
        assert not {"/", "\\"} & set(name)
        assert (_ROOT / name).parent == _ROOT
        (_ROOT / name).touch(exist_ok=False)
    try:
        assert {path.name for path in _ROOT.iterdir()} == set(given_names)
    finally:
        for name in given_names:
            (_ROOT / name).unlink()
