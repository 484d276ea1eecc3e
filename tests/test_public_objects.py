"""No object of this package shows a link, key or token that it holds: by no text, no pickle and no JSON.

Every class whose text, pickle or JSON could tell one stands in ``HOLDERS`` with a way to make it; the others are named
in ``SILENT`` or ``HARMLESS``. A new class is in none, and fails here until somebody has decided.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
import pickle
import pkgutil
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import Connection
from pydantic import BaseModel, SecretStr

import airflow_provider_taskdl
from airflow_provider_taskdl.apis.base import Answer
from airflow_provider_taskdl.apis.eo_analysis import EoAnalysisApi
from airflow_provider_taskdl.apis.readiness import Decision, LinkWatch
from airflow_provider_taskdl.auth import BceAuth, TokenAuth
from airflow_provider_taskdl.exceptions import DownloadFailedError, TaskApiError, TransferError
from airflow_provider_taskdl.hooks.bls import BlsExtras, BlsHook
from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
from airflow_provider_taskdl.hooks.eo_market import EoMarketExtras, EoMarketHook
from airflow_provider_taskdl.hooks.exchange import Body
from airflow_provider_taskdl.hooks.token import TokenExtras
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile
from airflow_provider_taskdl.operators.download import DownloadToObjectStorageOperator
from airflow_provider_taskdl.sensors.download_link import DownloadLinkSensor
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.connection import Proxy
from airflow_provider_taskdl.transfer.host_rules import HostRules
from airflow_provider_taskdl.transfer.link_source import LinkSource
from airflow_provider_taskdl.transfer.plan import Plan
from airflow_provider_taskdl.transfer.reader import RangeReader
from airflow_provider_taskdl.transfer.retry import RetryPolicy
from airflow_provider_taskdl.transfer.shard import Shard
from airflow_provider_taskdl.transfer.source import Source
from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger
from airflow_provider_taskdl.triggers.events import error_event, ready_event
from tests.canary import CANARY, assert_canary_free

URL = f"https://h.example/f?sign={CANARY}"
PROXY = f"http://u:{quote(CANARY, safe='')}@proxy.example:3128"


def _file() -> RemoteFile:
    return RemoteFile("f", Link(URL), 3)


def _listing() -> FileListing:
    return FileListing("t", (_file(),))


def _links() -> LinkSource:
    return LinkSource(_listing(), _listing, RetryPolicy())


def _client() -> LinkClient:
    return LinkClient(HostRules(), tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), proxy=PROXY)


def _hook(kind: type[Any]) -> Any:
    hook = kind("c")
    extra = {"proxy": PROXY, **({"security_token": CANARY} if kind is BlsHook else {})}
    hook.connection = Connection(
        conn_id="c", conn_type=kind.conn_type, host="h.example", login="k", password=CANARY, extra=json.dumps(extra)
    )
    assert hook.access.secrets
    return hook


def _body() -> Body:
    body = Body({})
    body.add(URL.encode())
    return body


def _error() -> TransferError:
    return TransferError(f"see {URL}", target=URL, code=URL, request_id=URL, file=URL)


HOLDERS: dict[str, Callable[[], Any]] = {
    "listing.Link": lambda: Link(URL),
    "listing.RemoteFile": _file,
    "listing.FileListing": _listing,
    "apis.base.Answer": lambda: Answer(200, {"x-echo": CANARY}, URL.encode()),
    "apis.readiness.Decision": lambda: Decision(_listing()),
    "auth.bce.BceAuth": lambda: BceAuth("k", CANARY, CANARY),
    "auth.token.TokenAuth": lambda: TokenAuth(CANARY),
    "hooks.exchange.Body": _body,
    "hooks.access.Access": lambda: _hook(BlsHook).access,
    "hooks.settings.ConnectionExtras": lambda: _hook(EoAnalysisHook).access.extras,
    "hooks.bls.BlsExtras": lambda: BlsExtras(proxy=SecretStr(PROXY), security_token=SecretStr(CANARY)),
    "hooks.token.TokenExtras": lambda: TokenExtras(proxy=SecretStr(PROXY)),
    "hooks.eo_market.EoMarketExtras": lambda: EoMarketExtras(proxy=SecretStr(PROXY)),
    "hooks.bls.BlsHook": lambda: _hook(BlsHook),
    "hooks.eo_analysis.EoAnalysisHook": lambda: _hook(EoAnalysisHook),
    "hooks.eo_market.EoMarketHook": lambda: _hook(EoMarketHook),
    "exceptions.TaskDownloadError": _error,
    "exceptions.DownloadFailedError": lambda: DownloadFailedError(f"{URL}", errors=[_error(), TaskApiError(URL)]),
    "transfer.link_source.LinkSource": _links,
    "transfer.client.LinkClient": _client,
    "transfer.connection.Proxy": lambda: Proxy.parse(PROXY),
    "transfer.plan.Plan": lambda: Plan("t", (_file(),), {}),
    "transfer.shard.Portion": lambda: Shard(0, 1).of([_file()]),
    "transfer.source.Source": lambda: Source(_file()),
    "transfer.reader.RangeReader": lambda: RangeReader(
        Source(_file()), _links(), _client(), RetryPolicy(), threading.Event()
    ),
}
# Their whole state is a credential, and nothing of Airflow's stores them: they are refused rather than emptied.
NOT_PICKLED = {
    "apis.base.Answer", "auth.bce.BceAuth", "auth.token.TokenAuth", "hooks.access.Access", "hooks.exchange.Body",
    "hooks.settings.ConnectionExtras",
    "hooks.bls.BlsExtras", "hooks.token.TokenExtras", "hooks.eo_market.EoMarketExtras", "hooks.bls.BlsHook",
    "hooks.eo_analysis.EoAnalysisHook", "hooks.eo_market.EoMarketHook",
    "transfer.client.LinkClient", "transfer.connection.Proxy", "transfer.link_source.LinkSource",
    "transfer.reader.RangeReader",
}  # fmt: skip


def _views(thing: Any) -> Iterator[object]:
    yield from (repr(thing), str(thing), f"{thing}", f"{thing!r:>9}", json.dumps(thing, default=str))
    yield json.dumps({"a": [thing]}, default=repr)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield repr({field.name: getattr(thing, field.name) for field in dataclasses.fields(thing) if field.repr})
    if isinstance(thing, BaseModel):
        yield from (repr(thing.model_dump()), thing.model_dump_json(), repr(thing.__dict__))
    if isinstance(thing, Exception):
        yield from (thing, repr(vars(thing)))


@pytest.mark.parametrize("name", HOLDERS)
def test_nothing_that_is_made_of_an_object_shows_its_secret(name: str) -> None:
    thing = HOLDERS[name]()
    assert_canary_free(*_views(thing))


@pytest.mark.parametrize("name", HOLDERS)
def test_a_pickle_holds_no_secret_or_is_refused(name: str) -> None:
    thing = HOLDERS[name]()
    if name in NOT_PICKLED:
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(thing)
    else:
        assert_canary_free(pickle.dumps(thing), repr(pickle.loads(pickle.dumps(thing))))


@pytest.mark.parametrize("name", ["listing.Link", "listing.FileListing", "apis.readiness.Decision"])
def test_a_copy_shows_no_more(name: str) -> None:
    assert_canary_free(*_views(copy.copy(HOLDERS[name]())))


@pytest.mark.parametrize(
    "operator",
    [
        DownloadLinkSensor(task_id="s", conn_id="c", remote_task_id="7"),
        DownloadToObjectStorageOperator(task_id="o", conn_id="c", remote_task_id="7", destination="s3://c@b/p"),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_what_airflow_keeps_of_an_operator_after_it_met_a_secret_is_harmless(operator: Any) -> None:
    operator._hook, operator._job = _hook(EoAnalysisHook), None
    operator._watch = LinkWatch(EoAnalysisApi(), "7", 30.0)
    rendered = {name: getattr(operator, name) for name in operator.template_fields}
    assert_canary_free(rendered, repr(operator), str(operator), json.dumps(rendered, default=str))


def test_what_goes_through_the_database_is_harmless() -> None:
    trigger = DownloadLinkTrigger(conn_id="c", remote_task_id="7", deadline=1.0, poll_interval=1.0)
    assert_canary_free(trigger.serialize(), ready_event(_listing()), error_event(_error()), _listing().summary())


# Classes that show nothing of what they hold, having no text of their own; what may be secret in it stands in HOLDERS.
SILENT = frozenset(
    """
    apis.base.TaskApi apis.bls.BlsApi apis.envelope.EnvelopeApi apis.eo_analysis.EoAnalysisApi
    apis.eo_market.EoMarketApi auth.base.HeaderAuth
    hooks.async_clients.AsyncClients hooks.base.TaskApiHook hooks.classic_form.ClassicForm hooks.exchange.Exchange
    hooks.pace.Pace hooks.place.Place hooks.roll_call.RollCall hooks.shared.SharedHook hooks.token.TokenHook
    operators.checkpoint.TaskStateCheckpoint
    operators.destination.Destination redaction.NeverPickled transfer.checkpoint.Checkpoint
    transfer.checkpoint.StoreCheckpoint transfer.client.Response transfer.connection.BoundedResponse
    transfer.connection.Connection transfer.digest.Digests transfer.engine.Engine transfer.file_transfer.Buffer
    transfer.file_transfer.FileTransfer transfer.host_names.HostNames transfer.host_rules.HostRules
    transfer.job.DownloadJob transfer.progress.Progress transfer.retry.SharedFailures
    transfer.sinks.async_store.AsyncSink transfer.sinks.async_store.AsyncRequests transfer.sinks.async_store.Body
    transfer.sinks.azure.AzureStore transfer.sinks.azure_blocks.Blocks transfer.sinks.azure_requests.AzureRequests
    transfer.sinks.azure_sink.AzureSink
    transfer.sinks.base.Sink transfer.sinks.base.Store transfer.sinks.gcs.GcsStore transfer.sinks.gcs_parts.Parts
    transfer.sinks.gcs_requests.GcsRequests transfer.sinks.gcs_sink.GcsSink
    transfer.sinks.journal.Journal
    transfer.sinks.local.LocalSink transfer.sinks.local.LocalStore transfer.sinks.object_store.ObjectSink
    transfer.sinks.object_store.ObjectStore transfer.sinks.parted.PartedSink
    transfer.sinks.s3.S3Store transfer.sinks.s3_line.Line
    triggers.memory.Memory triggers.rounds.Beat triggers.rounds.Rounds triggers.rounds.Service
    triggers.trouble.Looks triggers.trouble.Told
    triggers.watches.ListedTasks triggers.watches.NamedTasks triggers.watches.Watch
    transfer.sinks.s3_requests.S3Requests transfer.sinks.s3_sink.S3Sink transfer.sinks.s3_uploads.Uploads
    """.split()  # noqa: SIM905
)
# Classes that show what they hold, and hold nothing secret, or nothing but what is silent or stands in HOLDERS.
HARMLESS = frozenset(
    """
    apis.base.Call apis.base.WireModel apis.bls.DownloadTask apis.bls.DownloadTaskPage
    apis.eo_analysis.AnalysisTask apis.eo_analysis.AnalysisTaskPage apis.readiness.LinkWatch
    cli.check.Finding cli.main.Stopped cli.screen.Screen
    listing.ListedTask listing.TaskPage listing.TaskState listing.TaskStatus operators.bls.BlsCreateDownloadTaskOperator
    operators.bls.BlsDeleteDownloadTaskOperator operators.creation.CreateTaskOperator
    operators.download.DownloadToObjectStorageOperator operators.eo_analysis.EoCreateAnalysisTaskOperator
    operators.join.JoinManifestsOperator operators.links.DestinationLink
    sensors.download_link.DownloadLinkSensor transfer.connection.ConnectionBroken
    transfer.connection.CutLine transfer.connection.EndlessLines transfer.engine.Outcome transfer.file_transfer.Piece
    transfer.file_transfer.Surroundings transfer.host_rules.UnknownHost transfer.job.Result transfer.job.Totals
    transfer.manifest.Entry transfer.manifest.Manifest transfer.manifest.ShardManifest transfer.shard.Shard
    transfer.retry.RetryPolicy transfer.stop.Cancelled
    transfer.sinks.base.Origin transfer.sinks.base.Stored transfer.sinks.s3_line.Answer
    transfer.sinks.s3_line.StaleConnection transfer.sinks.s3_requests.Tries transfer.sinks.s3_uploads.Record
    transfer.sinks.s3_uploads.Upload transfer.stop.Stop triggers.download_link.DownloadLinkTrigger
    triggers.announced.Announced triggers.task_ready.TaskReadyTrigger triggers.watches.Scope
    transfer.sinks.azure_blocks.Try transfer.sinks.gcs_parts.Group
    """.split()  # noqa: SIM905
)


@pytest.mark.parametrize("name", sorted(SILENT))
def test_what_is_called_silent_has_no_text_of_its_own(name: str) -> None:
    module, _, cls = name.rpartition(".")
    kind = getattr(importlib.import_module(f"{airflow_provider_taskdl.__name__}.{module}"), cls)
    for method in ("__repr__", "__str__", "__format__"):
        assert getattr(kind, method) is getattr(object, method)


def _public_classes() -> Iterator[str]:
    root = airflow_provider_taskdl.__name__
    for module in pkgutil.walk_packages(airflow_provider_taskdl.__path__, f"{root}."):
        if module.name.startswith(f"{root}.testing"):
            continue  # the emulator's secrets are made up
        for name, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__ == module.name and not name.startswith("_"):
                yield f"{module.name.removeprefix(root + '.')}.{name}"


def test_every_public_class_was_looked_at() -> None:
    errors = {name for name in _public_classes() if name.startswith("exceptions.")}  # all alike: they share their root
    assert set(_public_classes()) - errors == (set(HOLDERS) - errors) | SILENT | HARMLESS
