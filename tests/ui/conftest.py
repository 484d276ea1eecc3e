"""A real Airflow with the example DAGs, and a browser in front of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, ViewportSize, expect, sync_playwright

from airflow_provider_taskdl.testing import Emulator, EmulatorServer
from airflow_provider_taskdl.testing.__main__ import add_example_tasks
from tests.deployment.living import PATIENCE, Deployment, deployed
from tests.needs import program
from tests.s3 import KEY, SECRET, S3Server

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEWPORT: ViewportSize = {"width": 1280, "height": 800}
TALL: ViewportSize = {"width": 1280, "height": 1600}
STORE, BUCKET = "lake_aws", "lake"

Shot = Callable[[Page | Locator, str], None]


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser."""
    return program("chromium")


@pytest.fixture(scope="module")
def services() -> Iterator[EmulatorServer]:
    """Both services, with the examples' tasks; BLS wants temporary credentials, EO is below a path."""
    emulator = Emulator(eo_prefix="/api/openapi", security_token="emulated-session-token")
    add_example_tasks(emulator)
    with EmulatorServer(emulator) as server:
        yield server


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, chromium: str, services: EmulatorServer, s3_server: S3Server
) -> Iterator[Deployment]:
    """Airflow, with the examples, which write to a bucket, and connections to all that they need."""
    from sandbox import link_examples

    home = tmp_path_factory.mktemp("airflow")
    link_examples(home / "dags")
    s3_server.bucket(BUCKET)
    env = {
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "5",  # how soon assets are listed
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # what runs was triggered
        "AIRFLOW_VAR_TASKDL_DESTINATION": f"s3://{STORE}@{BUCKET}",
    }
    extra = {"endpoint_url": s3_server.url, "region_name": "us-east-1"}
    store = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra}
    connections = {**services.airflow_connections(), STORE: store}
    with deployed(home, home / "dags", connections, env) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """The browser, new. Its event loop is the process's: it may outlive no module."""
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=chromium,
            headless=True,
            args=FLAGS,
            locale="en-US",
            timezone_id="UTC",
            viewport=VIEWPORT,
        )
        context.set_default_timeout(PATIENCE * 1000)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext, deployment: Deployment, tmp_path: Path) -> Iterator[Page]:
    """A new tab, and in the end a picture of what it shows, to look at after a failure."""
    page = browser.new_page()
    yield page
    page.screenshot(path=tmp_path / "last.png")
    page.close()


@pytest.fixture
def shot(tmp_path: Path) -> Shot:
    """Take a picture: to look at after a failure, or, with the variable TASKDL_SCREENSHOTS, for the documents."""
    documents = [ROOT / "README.md", *ROOT.glob("docs/*.md")] if os.environ.get("TASKDL_SCREENSHOTS") else []
    wanted = "".join(path.read_text(encoding="utf-8") for path in documents)

    def take(what: Page | Locator, name: str) -> None:
        for_documents = f"images/{name}.png" in wanted
        path = (ROOT / "docs/images" if for_documents else tmp_path) / f"{name}.png"
        page = what if isinstance(what, Page) else what.page
        page.set_viewport_size(VIEWPORT if isinstance(what, Page) else TALL)  # a dialog is to be seen as a whole
        what.screenshot(path=path, animations="disabled")
        page.set_viewport_size(VIEWPORT)
        assert not for_documents or path.stat().st_size <= 150_000

    return take
