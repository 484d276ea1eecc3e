from __future__ import annotations

import hashlib
import hmac
import json
import pickle
import random
import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from urllib.parse import quote, urlsplit

import httpx
import pytest
import requests
import requests_mock
from airflow.providers.http.hooks.http import HttpHook
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_taskdl.auth import BceAuth
from airflow_provider_taskdl.auth import bce as bce_module
from airflow_provider_taskdl.auth.bce import canonical_request, sign

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the vendor's package has invalid escapes in its texts
    from baidubce.auth import bce_v1_signer
    from baidubce.auth.bce_credentials import BceCredentials

AK, SK, TOKEN = "a" * 32, "b" * 32, "token+/=="
T1 = datetime(2015, 4, 27, 8, 23, 49, tzinfo=timezone.utc)
T2 = datetime(2014, 6, 13, 5, 57, 36, tzinfo=timezone.utc)
PUT_FIELDS = {
    "Host": "bj.bcebos.com",
    "Content-Type": "text/plain",
    "Content-Length": "8",
    "Content-Md5": "NFzcPqhviddjRNnSOGo4rw==",
    "x-bce-date": "2015-04-27T08:23:49Z",
}
PUT_PATH = "/v1/test/myfolder/readme.txt"
PUT_QUERY = "partNumber=9&uploadId=a44cc9bab11cbd156984767aad637851"
LINK = "/v2/logstore/download/link/cfa6a654-06e9-66ca-3e24-71b1764d0455"
LINK_FIELDS = {"Host": "bls-log.bj.baidubce.com", "x-bce-date": "2015-04-27T08:23:49Z"}
P1 = f"bce-auth-v1/{AK}/2015-04-27T08:23:49Z/1800"
P2 = "bce-auth-v1/my_ak/2014-06-13T05:57:36Z/1800"


def _recomputed(method: str, url: str, authorization: str, date: str, token: str | None = None) -> str:
    """Return what the service computes for a request that arrived; written from the specification alone."""
    _, ak, stamp, seconds, names, _ = authorization.split("/")
    parts = urlsplit(url)
    fields = {"host": parts.netloc, "x-bce-date": date, "x-bce-security-token": token or ""}
    lines = [method, parts.path, "&".join(sorted(parts.query.split("&"))) if parts.query else ""]
    lines += [f"{name}:{quote(fields[name], safe='-_.~')}" for name in names.split(";")]
    prefix = f"bce-auth-v1/{ak}/{stamp}/{seconds}"
    key = hmac.new(SK.encode(), prefix.encode(), hashlib.sha256).hexdigest()
    return f"{prefix}/{names}/{hmac.new(key.encode(), chr(10).join(lines).encode(), hashlib.sha256).hexdigest()}"


@pytest.mark.parametrize("fields", [PUT_FIELDS, {name.upper(): f" {value} " for name, value in PUT_FIELDS.items()}])
def test_the_canonical_request_is_the_published_one(fields: dict[str, str]) -> None:
    assert canonical_request("put", PUT_PATH, PUT_QUERY, {**fields, "X-Empty": " "}) == "\n".join(
        [
            "PUT",
            "/v1/test/myfolder/readme.txt",
            "partNumber=9&uploadId=a44cc9bab11cbd156984767aad637851",
            "content-length:8",
            "content-md5:NFzcPqhviddjRNnSOGo4rw%3D%3D",
            "content-type:text%2Fplain",
            "host:bj.bcebos.com",
            "x-bce-date:2015-04-27T08%3A23%3A49Z",
        ]
    )


@pytest.mark.parametrize(
    ("query", "listed", "signature"),
    [
        (PUT_QUERY, None, "d74a04362e6a848f5b39b15421cb449427f419c95a480fd6b8cf9fc783e2999e"),
        (PUT_QUERY, sorted(PUT_FIELDS), "d74a04362e6a848f5b39b15421cb449427f419c95a480fd6b8cf9fc783e2999e"),
        ("", None, "0558aac491bbef484d3aaa30ac1e65d4ff10daccd351f15c91e922ee4ce72690"),
    ],
)
def test_the_worked_example_of_the_specification_is_reproduced(
    query: str, listed: list[str] | None, signature: str
) -> None:
    names = "content-length;content-md5;content-type;host;x-bce-date" if listed else ""
    made = sign(
        AK, SK, method="PUT", path=PUT_PATH, query=query, headers=PUT_FIELDS, signed_headers=listed, timestamp=T1
    )
    assert made == f"{P1}/{names}/{signature}"


def test_a_choice_of_headers_leaves_the_others_out() -> None:
    made = sign(
        "my_ak",
        "my_sk",
        method="PUT",
        path="/v1/bucket/object1",
        query="A=&C=d&b=",
        headers={"Host": "bce.baidu.com", "abc": "123", "x-bce-meta-key1": "ABC"},
        signed_headers=["host", "x-bce-meta-key1"],
        timestamp=T2,
    )
    assert made == f"{P2}/host;x-bce-meta-key1/80c9672aca2ea9af4bb40b9a8ff458d72df94e97d550840727f3a929af271d25"


def test_a_request_may_be_signed_without_its_host() -> None:
    made = sign(
        "my_ak",
        "my_sk",
        method="DELETE",
        path="/v1/test-bucket1361199862",
        headers={"Content-Type": "application/json; charset=utf-8", "Content-Length": "0"},
        signed_headers=["Content-Type", "Content-Length"],
        timestamp=T2,
    )
    assert made == f"{P2}/content-length;content-type/c9386b15d585960ae5e6972f73ed92a9a682dc81025480ba5b41206d3e489822"


@pytest.mark.parametrize(
    ("fields", "names", "signature"),
    [
        ({}, "host;x-bce-date", "fc749b0c57d04ab259691336919b590f4c3e918951366f8900ff25ad6210747c"),
        (
            {"x-bce-security-token": TOKEN},
            "host;x-bce-date;x-bce-security-token",
            "0f5c22940e9f1a948bd0fbe9472e5f3cd32d0df40abc21d4ab22ad7520ebf334",
        ),
    ],
)
def test_a_link_request_has_the_known_signature(fields: dict[str, str], names: str, signature: str) -> None:
    headers = LINK_FIELDS | fields
    made = sign(AK, SK, method="GET", path=LINK, headers=headers, signed_headers=headers, timestamp=T1)
    assert made == f"{P1}/{names}/{signature}"


def test_a_pre_signed_url_has_the_known_signature() -> None:
    made = sign(
        AK, SK, method="GET", path="/test/test_json.json", headers={"host": "bls-test.bj.bcebos.com"}, timestamp=T1,
        expires_in=300,
    )  # fmt: skip
    assert made == (
        f"bce-auth-v1/{AK}/2015-04-27T08:23:49Z/300//487ee3f783ea35af1b6aa2e589bd300e43cbd8de55892d5b9cfee7b1d8d2d7bb"
    )


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("text&text1=测试&text10=test", "text10=test&text1=%E6%B5%8B%E8%AF%95&text="),
        ("text1=%e6%b5%8b%E8%AF%95", "text1=%E6%B5%8B%E8%AF%95"),
        ("a=b+c&d=%2B", "a=b%20c&d=%2B"),
        ("a=1=2&&b", "a=1%3D2&b="),
        ("Authorization=x&a=%FF", "a=%FF"),
        ("x=!'()*~", "x=%21%27%28%29%2A~"),
    ],
)
def test_a_query_is_decoded_encoded_and_sorted_as_whole_pairs(query: str, canonical: str) -> None:
    assert canonical_request("GET", "/", query, {}) == f"GET\n/\n{canonical}"


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a b", "/a%20b"),
        ("/%e6%b5%8b/测", "/%E6%B5%8B/%E6%B5%8B"),
        ("/raw%ff", "/raw%FF"),
        (
            "/!'()*this is an example for 测试",
            "/%21%27%28%29%2Athis%20is%20an%20example%20for%20%E6%B5%8B%E8%AF%95",
        ),
    ],
)
def test_a_path_is_encoded_once_except_its_slashes(path: str, canonical: str) -> None:
    assert canonical_request("GET", path, "", {}) == f"GET\n{canonical}\n"


def test_header_fields_are_lowered_encoded_sorted_and_empty_ones_dropped() -> None:
    fields = {"Host": "localhost", "x-bce-a": "a/b:c", "C": "", "Content-MD5": "MD5"}
    assert canonical_request("GET", "/", "", fields) == ("GET\n/\n\ncontent-md5:MD5\nhost:localhost\nx-bce-a:a%2Fb%3Ac")


VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("C", "Z")), max_size=12)
FIELD_NAMES = st.from_regex(r"(x-bce-[a-z0-9-]{1,8}|content-(type|md5|length))", fullmatch=True)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    path=st.lists(VISIBLE, max_size=4).map("/".join),
    params=st.dictionaries(VISIBLE.filter(lambda name: name.lower() != "authorization"), VISIBLE, max_size=4),
    fields=st.dictionaries(FIELD_NAMES, VISIBLE, max_size=4),
    listed=st.booleans(),
    seconds=st.integers(-1, 10**6),
    epoch=st.integers(1, 4 * 10**9),
)
def test_the_vendor_s_signer_agrees(
    method: str, path: str, params: dict[str, str], fields: dict[str, str], listed: bool, seconds: int, epoch: int
) -> None:
    headers = {"host": "h.example", **fields}
    wire_path = quote("/" + path, safe="/-_.~")
    wire_query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in params.items() if k or v)
    oracle = bce_v1_signer.sign(
        BceCredentials(AK, SK),
        method.encode(),
        wire_path.encode(),
        {name.encode(): value.encode() for name, value in headers.items()},
        {name.encode(): value.encode() for name, value in params.items() if name or value},
        timestamp=epoch,
        expiration_in_seconds=seconds,
        headers_to_sign=sorted(name.encode() for name in headers) if listed else None,
    )
    made = sign(
        AK,
        SK,
        method=method,
        path=wire_path,
        query=wire_query,
        headers=headers,
        signed_headers=headers if listed else None,
        timestamp=datetime.fromtimestamp(epoch, timezone.utc),
        expires_in=seconds,
    )
    assert made == oracle.decode()


class _Clock(datetime):
    """Moves on by a second whenever it is read."""

    tick = 0

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        cls.tick += 1
        return T1.replace(second=cls.tick)


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Clock, "tick", 0)
    monkeypatch.setattr(bce_module, "datetime", _Clock)


def _fields_by_httpx(auth: BceAuth, method: str, url: str, params: dict[str, str], times: int) -> list[httpx.Request]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503)

    with httpx.Client(transport=httpx.MockTransport(answer), auth=auth) as client:
        for _ in range(times):
            client.request(method, url, params=params or None)
    return seen


@pytest.mark.usefixtures("_clock")
@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("url", ["https://h.example/v2/ä b/c", "http://h.example:8080/x", "https://h.example:443/"])
@pytest.mark.parametrize("params", [{}, {"q": "a b+c&d", "z": "测试", "a": "~*'"}])
def test_both_libraries_send_the_same_fields_made_anew_on_every_try(
    url: str, params: dict[str, str], token: str | None
) -> None:
    auth = BceAuth(AK, SK, token)
    by_httpx = _fields_by_httpx(auth, "GET", url, params, 2)
    _Clock.tick = 0
    with requests_mock.Mocker() as mock, requests.Session() as session:
        mock.get(requests_mock.ANY, status_code=503)
        by_requests = [session.get(url, params=params, auth=auth).request for _ in range(2)]
    for ours, theirs in zip(by_httpx, by_requests, strict=True):
        for name in ("authorization", "x-bce-date", "x-bce-security-token"):
            assert ours.headers.get(name) == theirs.headers.get(name)
        assert ours.headers.get("x-bce-security-token") == token
    assert [request.headers["x-bce-date"] for request in by_httpx] == ["2015-04-27T08:23:01Z", "2015-04-27T08:23:02Z"]
    assert len({request.headers["authorization"] for request in by_httpx}) == 2


@pytest.mark.parametrize(
    ("token", "names"), [(None, "host;x-bce-date"), (TOKEN, "host;x-bce-date;x-bce-security-token")]
)
def test_the_service_finds_the_signature_it_computes_itself(token: str | None, names: str) -> None:
    url = "http://h.example:8080/v2/x"
    [request] = _fields_by_httpx(BceAuth(AK, SK, token, expires_in=60), "DELETE", url, {"b": "1", "a": "2 3"}, 1)
    authorization, date = request.headers["authorization"], request.headers["x-bce-date"]
    assert authorization.split("/")[3:5] == ["60", names]
    assert authorization == _recomputed("DELETE", str(request.url), authorization, date, token)
    assert request.headers["host"] == "h.example:8080"


def test_a_space_in_a_parameter_is_sent_as_percent_20() -> None:
    [request] = _fields_by_httpx(BceAuth(AK, SK), "GET", "https://h.example/", {"q": "a b+c"}, 1)
    assert request.url.query == b"q=a%20b%2Bc"
    prepared = requests.Request("GET", "https://h.example/", params={"q": "a b+c"}, auth=BceAuth(AK, SK)).prepare()
    assert prepared.url == "https://h.example/?q=a%20b%2Bc"


def test_airflow_s_own_http_hook_signs_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "http", "host": "https://bcc.bj.baidubce.com", "login": AK, "password": SK}
    monkeypatch.setenv("AIRFLOW_CONN_BCC", json.dumps(connection))
    with requests_mock.Mocker() as mock:
        mock.get("https://bcc.bj.baidubce.com/v2/instance", json={"instances": []})
        hook = HttpHook(method="GET", http_conn_id="bcc", auth_type=BceAuth)
        answer = hook.run("/v2/instance", data={"zoneName": "cn bj-a", "maxKeys": "10"})
        [request] = mock.request_history
    assert answer.json() == {"instances": []}
    authorization, date = request.headers["Authorization"], request.headers["x-bce-date"]
    assert request.url.endswith("?zoneName=cn%20bj-a&maxKeys=10")
    assert authorization.split("/")[1] == AK
    assert authorization == _recomputed("GET", request.url, authorization, date)


def test_no_view_of_the_authentication_shows_a_secret() -> None:
    auth = BceAuth("the-ak", "the-sk", "the-token")
    for shown in (repr(auth), str(auth), f"{auth}", repr([auth])):
        assert not any(secret in shown for secret in ("the-ak", "the-sk", "the-token"))
    with pytest.raises(TypeError, match="holds a secret"):
        pickle.dumps(auth)


def test_the_order_of_the_parameters_does_not_matter() -> None:
    pairs = [f"k{n}=v{n}" for n in range(12)]
    shuffled = random.Random(7).sample(pairs, len(pairs))
    assert canonical_request("GET", "/", "&".join(shuffled), {}) == canonical_request("GET", "/", "&".join(pairs), {})


@pytest.mark.parametrize("library", ["httpx", "requests"])
@pytest.mark.parametrize("host", ["bls-log.bj.baidubce.com", "bls-log.bj.baidubce.com:8443"])
def test_a_host_field_of_ones_own_is_what_is_signed(library: str, host: str) -> None:
    url, own = f"https://tunnel.internal:9443{LINK}", {"Host": host}
    sent: Mapping[str, str]
    if library == "httpx":
        answer = httpx.MockTransport(lambda request: httpx.Response(200))
        with httpx.Client(transport=answer, auth=BceAuth(AK, SK)) as client:
            sent = client.get(url, headers=own).request.headers
    else:
        with requests_mock.Mocker() as mock:
            mock.get(url)
            sent = requests.get(url, auth=BceAuth(AK, SK), headers=own, timeout=1).request.headers
    assert sent["Host"] == host
    signed = sent["Authorization"]
    assert signed == _recomputed("GET", f"https://{host}{LINK}", signed, sent["x-bce-date"])
