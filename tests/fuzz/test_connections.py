"""Whatever stands in a connection: it makes a request that can be sent, or says what is wrong without quoting it."""

from __future__ import annotations

import json
from typing import Any

import httpx
from airflow.providers.common.compat.sdk import Connection
from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.bls import BlsExtras, BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.hooks.token import TokenExtras
from airflow_provider_taskdl.transfer.host_rules import HostRules
from tests.canary import CANARY
from tests.fuzz.campaign import Several, every, family, hides, judge, texts

KNOWN: list[Any] = [
    None, True, False, 0, 1, -1, 30, 1e9, float("inf"), float("nan"), 10**400, "", " ", "0", "5", "-5", "true", "no",
    "NaN",
    "1e400", [], {}, [None], [""], ["*.a.example", "10.0.0.0/8"], ["*"], ["*."], ["a:1"], ["::1/999"], "a,b,,c", "*.*",
    "\x00", "a\x00b", "a\r\nX-Forged: 1", "\u00e9", "\ud800", "x" * 5000, "../../x", "~", "Bearer", "Authorization",
    "X-A b",
    "bj", "bj.evil.example/", f"http://u:{CANARY}@proxy.example:3128", f"https://{CANARY}@p", f"socks5://u:{CANARY}@p",
    f"http://u:{CANARY}@[broken", f"http://u:{CANARY}@p:99999", CANARY, {"a": CANARY}, [CANARY],
]  # fmt: skip
NAMES = [*sorted({*BlsExtras.model_fields, *TokenExtras.model_fields}), "unknown", ""]
_values = st.one_of(st.sampled_from(KNOWN), texts, st.integers(), st.floats(), st.lists(texts, max_size=2))
_extra = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), _values, max_size=4).map(json.dumps),
    st.sampled_from(
        ["", "{}", "[]", "null", "{", "1", '"x"', "[" * 100_000, '{"timeout": 1, "timeout": 2}', f'"{CANARY}']
    ),
    texts,
)
HOSTS = [
    None, "", "h.example", "h.example:8443/prefix/", "http://h.example", "HTTPS://H.Example", "ftp://h", "//h", "/h",
    "[::1]:80",
    "[::1", f"u:{CANARY}@h.example", f"https://h.example/?token={CANARY}", f"https://h.example/#{CANARY}", "h:99999",
    "h:-1",
    "h..example", "x" * 300, "h\r\nX: 1", "h example", "\u00e9.example", "http://", "https://h.example//a//", "\ud800",
]  # fmt: skip
_words = st.one_of(
    st.sampled_from([None, "", " ", CANARY, f" {CANARY}\n", f"{CANARY}\u00e9", f"{CANARY}\r\nX: 1"]), texts
)


def _canary_in_plain_sight(*texts: str | None) -> bool:
    return any(text is not None and CANARY in text for text in texts)


@family(
    kind=every(BlsHook, EoAnalysisHook),
    host=Several(st.one_of(st.just("h.example"), st.sampled_from(HOSTS), texts), 3),
    port=Several(st.sampled_from([None, 0, 1, 443, 8443, 65535, 65536, -1]), 1),
    login=Several(st.one_of(st.just("the-key"), st.sampled_from([None, "", "k\r\nX: 1"]), texts), 1),
    password=Several(_words, 2),
    extra=Several(_extra, 4),
)
def test_any_connection_can_be_used_or_says_why_not(
    kind: type[TaskApiHook], host: str | None, port: int | None, login: str | None, password: str | None, extra: str
) -> None:
    hook = kind("fuzzed")
    hook.connection = Connection(
        conn_id="fuzzed", conn_type=kind.conn_type, host=host, port=port, login=login, password=password, extra=None
    )
    hook.connection.extra = extra
    try:
        access = hook.access
        settings = hook._client_settings()
    except ConnectionConfigError as error:
        judge(error)
        return
    hides(repr(access), str(access), repr(access.extras), repr(access.auth), repr(hook))
    assert httpx.URL(access.base_url).scheme in ("http", "https")
    assert 0 < access.extras.timeout <= 86400
    assert access.extras.requests_per_second is None or 0.1 <= access.extras.requests_per_second <= 1e6
    HostRules(access.host, access.extras.allowed_link_hosts)
    if settings["proxy"] is not None:
        httpx.Proxy(settings["proxy"])
    call = hook.api.probe()
    sent = httpx.Request(**hook._request(call))
    (signed,) = access.auth.auth_flow(sent)
    lines = [name + value for name, value in signed.headers.raw]
    assert not any({b"\r", b"\n", b"\x00"} & {bytes([byte]) for byte in line} for line in lines)
