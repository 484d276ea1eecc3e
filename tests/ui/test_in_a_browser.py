"""What a person sees in Airflow's UI: both connection forms, the example DAGs, their files as assets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from airflow_provider_taskdl.get_provider_info import get_provider_info
from airflow_provider_taskdl.testing import EmulatorServer
from airflow_provider_taskdl.testing.__main__ import EO_TASK
from tests.canary import assert_canary_free, recorded_links
from tests.deployment.living import Deployment, Run, ask, until
from tests.s3 import S3Server
from tests.servers import free_port
from tests.ui.conftest import BUCKET, STORE, Shot
from tests.ui.pages import Connections, shown

pytestmark = [pytest.mark.airflow, pytest.mark.deployment, pytest.mark.slow, pytest.mark.timeout(400)]

FORMS: Mapping[str, Mapping[str, Any]] = {
    form["connection-type"]: form for form in get_provider_info()["connection-types"]
}
PORT = "443; without it Airflow 3.3.1 and 3.3.2 cannot test a connection"
MASKED = "***"


@dataclass(frozen=True)
class Service:
    """A service as its connection form shows it.

    :param conn_type: Its connection type.
    :param name: Its name in the list of types.
    :param said_by: Its name in messages.
    :param standard: Labels of the standard fields, each with its placeholder.
    :param host: The label of its address.
    :param secret: The label of what proves who asks.
    :param refusal: What it says to a wrong key.
    """

    conn_type: str
    name: str
    said_by: str
    standard: Mapping[str, str]
    host: str
    secret: str
    refusal: str

    @property
    def extra(self) -> Mapping[str, Any]:
        """The extra fields as they are declared."""
        fields: Mapping[str, Any] = FORMS[self.conn_type]["conn-fields"]
        return fields


BLS = Service(
    "baidu_bls",
    "Baidu Log Service (BLS)",
    "Baidu Log Service",
    {
        "Description": "",
        "Endpoint": "empty for https://bls-log.<region>.baidubce.com",
        "Access Key ID": "",
        "Secret Access Key": "",
        "Port": PORT,
    },
    "Endpoint",
    "Secret Access Key",
    "invalid ak/sk",
)
EO = Service(
    "eo_analysis",
    "EO analysis platform",
    "EO analysis platform",
    {"Description": "", "Base URL": "https://eo.example.org/api/openapi", "API token": "", "Port": PORT},
    "Base URL",
    "API token",
    "",
)
MARKET = Service(
    "eo_market",
    "EO market orders",
    "EO market",
    {"Description": "", "Base URL": "https://eo.example.org/market_service", "API key": "", "Port": PORT},
    "Base URL",
    "API key",
    "",
)
service = pytest.mark.parametrize("service", [BLS, EO, MARKET], ids=lambda service: service.conn_type)


@pytest.fixture
def connections(page: Page, deployment: Deployment) -> Connections:
    return Connections(page, deployment.airflow.url).open()


@service
def test_a_form_names_explains_and_masks_every_field(connections: Connections, shot: Shot, service: Service) -> None:
    form = connections.add()
    form.choose_type(service.name)
    assert form.labels() == list(service.standard)
    for label, placeholder in service.standard.items():
        expect(form.input(label)).to_have_attribute("placeholder", placeholder)
        assert (form.input(label).get_attribute("type") == "password") is (label == service.secret)
    shot(form.dialog, f"form-{service.conn_type}")

    form.open("Extra Fields")
    assert form.labels() == [declared["label"] for declared in service.extra.values()]
    for declared in service.extra.values():
        label, schema = declared["label"], declared["schema"]
        expect(form.field(label)).to_contain_text(declared["description"])
        default = schema.get("default")
        if "enum" in schema:
            expect(form.field(label)).to_contain_text(schema["values_display"][default])
        elif "boolean" in schema["type"]:
            expect(form.input(label)).to_be_checked(checked=default)
        else:
            expect(form.input(label)).to_have_value("" if default is None else str(default))
        assert (form.input(label).get_attribute("type") == "password") is (schema.get("format") == "password")
    shot(form.dialog, f"form-{service.conn_type}-extra")


def test_the_form_offers_the_published_regions(connections: Connections, shot: Shot) -> None:
    form = connections.add()
    form.choose_type(BLS.name)
    form.open("Extra Fields")
    assert form.options("Region") == list(BLS.extra["region"]["schema"]["values_display"].values())
    shot(form.dialog, "form-baidu_bls-regions")


@service
def test_a_connection_is_tested_and_edited_and_never_shows_a_secret(
    connections: Connections, deployment: Deployment, services: EmulatorServer, shot: Shot, service: Service
) -> None:
    conn_id, given = f"my_{service.conn_type}", services.airflow_connections()[f"{service.conn_type}_default"]
    secrets = {given["password"], "wr0ng-5ecret-key", "pr0xy-5ecret"}
    extras = {"Timeout (s)": "45"}
    if token := given["extra"].get("security_token"):
        secrets.add(token)
        extras["Security token (STS)"] = token
    port = services.base_url.rpartition(":")[2]

    def stored() -> dict[str, Any]:
        answer = ask(deployment.client, "GET", f"/connections/{conn_id}")
        assert not [secret for secret in secrets if secret in json.dumps(answer)]
        found: dict[str, Any] = {**answer, "extra": json.loads(answer["extra"])}
        return found

    def tested() -> tuple[str, str]:
        said = connections.test(conn_id)
        assert not [secret for secret in secrets if secret in shown(connections.page)]
        return said

    form = connections.add()
    form.dialog.get_by_label("Connection ID").fill(conn_id)
    form.choose_type(service.name)
    form.fill({service.host: given["host"], service.secret: given["password"], "Port": port})
    if "login" in given:
        form.fill({"Access Key ID": given["login"]})
    form.open("Extra Fields")
    form.fill(extras)
    form.save()
    assert tested() == ("Test Connection Successful", f"{service.said_by} at 127.0.0.1 accepts the credentials.")
    shot(connections.page, f"test-{service.conn_type}-works")

    form = connections.open().edit(conn_id)
    form.fill({service.secret: "wr0ng-5ecret-key"})
    form.save()
    title, said = tested()
    assert title == "Test Connection Failed"
    assert said.startswith("The service can be reached; it refused the credentials.")
    assert service.refusal in said
    shot(connections.page, f"test-{service.conn_type}-refused")

    form = connections.open().edit(conn_id)
    closed = str(free_port())
    form.fill({service.host: "http://127.0.0.1", "Port": closed, service.secret: given["password"]})
    form.save()
    title, said = tested()
    assert title == "Test Connection Failed"
    assert said.startswith(f"{service.said_by} at 127.0.0.1 cannot be reached (ConnectError: ")
    assert f"http://127.0.0.1:{closed}" in said
    shot(connections.page, f"test-{service.conn_type}-unreachable")

    # The secrets are not typed again, and kept.
    form = connections.open().edit(conn_id)
    form.fill({service.host: given["host"], "Port": port})
    form.save()
    form = connections.open().edit(conn_id)
    expect(form.input(service.host)).to_have_value(given["host"])
    expect(form.input(service.secret)).to_have_value(MASKED)
    form.open("Extra Fields")
    expect(form.input("Timeout (s)")).to_have_value("45")
    if token:
        expect(form.input("Security token (STS)")).to_have_value(MASKED)
    shot(form.dialog, f"form-{service.conn_type}-again")
    form.fill({"Proxy": f"http://user:pr0xy-5ecret@127.0.0.1:{closed}"})
    form.save()
    now = stored()
    assert (now["password"], now["host"], str(now["port"])) == (MASKED, given["host"], port)
    assert {name: None if value == "" else value for name, value in now["extra"].items()} == {
        **{name: declared["schema"].get("default") or None for name, declared in service.extra.items()},
        **({"security_token": MASKED} if token else {}),
        "timeout": 45,
        "proxy": MASKED,
    }
    title, said = tested()
    assert "cannot be reached" in said

    form = connections.open().edit(conn_id)
    form.open("Extra Fields")
    expect(form.input("Proxy")).to_have_value(MASKED)
    form.fill({"Proxy": ""})
    assert not [secret for secret in secrets if secret in shown(connections.page)]
    form.save()
    assert tested()[0] == "Test Connection Successful"


def test_a_value_that_cannot_be_is_told_by_its_name(connections: Connections) -> None:
    form = connections.add()
    form.dialog.get_by_label("Connection ID").fill("odd_bls")
    form.choose_type(BLS.name)
    form.fill({"Endpoint": "https://bls.invalid", "Access Key ID": "some-key-id", "Port": "443"})
    form.fill({"Secret Access Key": "s0me-5ecret-key"})
    form.open("Extra Fields")
    form.input("Timeout (s)").fill("")
    form.input("Timeout (s)").press_sequentially("soon")
    expect(form.input("Timeout (s)")).to_have_value("")  # letters are not taken
    form.open("Extra Fields JSON")
    form.write_json({"timeout": "soon", "region": "Nowhere!", "colour": "red"})
    form.save()
    title, said = connections.test("odd_bls")
    assert title == "Test Connection Failed"
    assert said.startswith("the connection's extra cannot be used: timeout: ")
    assert "; region: " in said

    form = connections.open().edit("odd_bls")
    form.open("Extra Fields JSON")
    form.write_json({"timeout": 5, "colour": "red"})
    form.save()
    title, said = connections.test("odd_bls")
    assert title == "Test Connection Failed"
    assert said.startswith("unknown in the connection's extra: colour (known: allowed_link_hosts, ")

    form = connections.open().edit("odd_bls")
    form.fill({"Endpoint": ""})
    form.open("Extra Fields JSON")
    # By way of a proxy that is not there, for nobody outside is to be asked.
    form.write_json({"region": "nowhere", "proxy": f"http://127.0.0.1:{free_port()}"})
    form.save()
    title, said = connections.test("odd_bls")
    assert title == "Test Connection Failed"
    assert said.startswith("Baidu Log Service at bls-log.nowhere.baidubce.com cannot be reached (ConnectError: ")


@dataclass(frozen=True)
class Example:
    """An example DAG.

    :param dag_id: The DAG.
    :param folder: Where in the bucket its files are.
    :param has_assets: Whether its files are announced as assets.
    """

    dag_id: str
    folder: str
    has_assets: bool


EXAMPLES = (
    Example("bls_log_export", r"access-log/[\d-]{10}", False),
    Example("eo_analysis_results", f"eo-analysis/{EO_TASK}", True),
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.dag_id)
def test_an_example_runs_at_a_click_and_its_pages_lead_to_its_files(
    page: Page, deployment: Deployment, s3_server: S3Server, shot: Shot, example: Example
) -> None:
    with recorded_links() as secrets:
        page.goto(f"{deployment.airflow.url}/dags/{example.dag_id}")
        page.get_by_role("button", name="Trigger Dag").click()
        page.get_by_role("dialog").get_by_role("button", name="Trigger", exact=True).click()
        page.wait_for_url(re.compile("/runs/manual__"))
        run = Run(deployment.client, example.dag_id, page.url.rpartition("/")[2])
        tasks = [task["task_id"] for task in run.get("/taskInstances")["task_instances"]]
        for task in tasks:
            row = page.get_by_role("row").filter(has=page.get_by_role("link", name=task, exact=True))
            expect(row).to_contain_text("Success")
        assert run.ends() == "success"
    page.reload()
    expect(page.get_by_role("row").get_by_text("Success")).to_have_count(len(tasks))
    shot(page, f"run-{example.dag_id}")
    paths = run.xcom()
    seen = [shown(page)]

    page.get_by_role("row").get_by_role("link", name="download", exact=True).click()
    closing = re.compile(rf"{len(paths)} of {len(paths)} files, .*MB/s.*; \d+ failures mended")
    expect(page.get_by_text(closing)).to_be_visible()
    table = page.get_by_text(re.compile(r"^\s*outcome\s+size\s+sha256\s+file\s"))
    for path in paths:
        assert re.fullmatch(rf"s3://{STORE}@{BUCKET}/{example.folder}/[^/?]+", path)
        expect(table).to_contain_text(path.rpartition("/")[2])
    shot(page, f"log-{example.dag_id}")
    seen.append(shown(page))

    page.get_by_role("link", name="Storage").click()
    page.get_by_role("link", name="XCom").click()
    page.get_by_role("button", name=re.compile("expand", re.IGNORECASE)).click()
    value = page.get_by_role("row").filter(has_text="return_value")

    def shows_paths() -> bool:
        text = "".join(value.inner_text().split())  # a long line is broken
        return all(path in text for path in paths)

    until(shows_paths, "all paths in the page")
    expect(page.get_by_role("row").filter(has_text="manifest")).to_contain_text("/_taskdl/")
    shot(page, f"xcom-{example.dag_id}")
    seen.append(shown(page))

    if example.has_assets:
        page.get_by_role("link", name="Asset Events").click()
        expect(page.get_by_role("heading", name=f"{len(paths)} Asset Events")).to_be_visible()
        uris = [path.replace(f"{STORE}@", "") for path in paths]
        for uri in uris:
            expect(page.get_by_role("link", name=uri, exact=True)).to_be_visible()
        shot(page, f"events-{example.dag_id}")
        seen.append(shown(page))

        page.get_by_role("link", name=uris[0], exact=True).click()
        expect(page.get_by_role("heading", name="1 Asset Event", exact=True)).to_be_visible()
        for uri in uris:
            expect(page.get_by_role("application").get_by_role("link", name=uri, exact=True)).to_be_visible()
        shot(page, f"asset-{example.dag_id}")
        seen.append(shown(page))

        # A scheduler lists new assets once in a while.
        until(lambda: ask(deployment.client, "GET", "/assets")["total_entries"] == len(uris), "the list of assets")
        page.goto(f"{deployment.airflow.url}/assets")
        for uri in uris:
            expect(page.get_by_role("link", name=uri, exact=True)).to_be_visible()
        seen.append(shown(page))

    page.goto(f"{deployment.airflow.url}/dags/{run.dag_id}/runs/{run.run_id}/tasks/download/details")
    folder = paths[0].rpartition("/")[0].partition("@")[2].partition("/")[2]
    page.context.route(f"{s3_server.url}/**", lambda route: route.fulfill(body="the store"))
    shot(page, f"link-{example.dag_id}")
    seen.append(shown(page))
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Destination", exact=True).click()
    expect(opened.value).to_have_url(f"{s3_server.url}/{BUCKET}/{folder}")
    opened.value.close()
    assert_canary_free(seen, secrets=secrets)
