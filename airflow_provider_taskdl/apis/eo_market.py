"""The Earth-observation market: links to what an order delivered, without name, size or expiry.

Source: the platform's page ``/market/order/downloadLinks`` and the market's quick start.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from pydantic import Field, SecretStr

from airflow_provider_taskdl.apis.base import Answer, Call, T, WireModel, check_task_id
from airflow_provider_taskdl.apis.envelope import EnvelopeApi
from airflow_provider_taskdl.exceptions import TaskFailedError
from airflow_provider_taskdl.listing import FileListing, Link, RemoteFile, TaskState, TaskStatus

_STATES = {
    1: TaskState.WAITING,  # pending
    2: TaskState.SUCCESS,  # delivered
    3: TaskState.SUCCESS,  # completed
    4: TaskState.RUNNING,  # acquisition analysis in progress
    5: TaskState.RUNNING,  # imaging pending acquisition
    6: TaskState.FAILED,  # acquisition failed
}


class _Order(WireModel):
    status: int | None = None
    download_urls: tuple[SecretStr | None, ...] | None = Field(None, alias="downloadUrls")

    @property
    def state(self) -> TaskState:
        return _STATES.get(self.status or 0, TaskState.UNKNOWN)


class EoMarketApi(EnvelopeApi):
    """The one call of the market that ends in files: a task is an order, its id the order's number."""

    service = "EO market"

    def list_files(self, remote_task_id: str) -> Call[FileListing]:
        """``POST /market/order/downloadLinks``: the order's links, none before it is delivered."""

        def read(order: _Order) -> FileListing:
            if order.state is TaskState.FAILED:
                raise TaskFailedError(f"the acquisition for this order failed at the {self.service}")
            if order.state in (TaskState.WAITING, TaskState.RUNNING):
                return FileListing(order_no, ())  # a link that came too early leads to what is not all there
            return FileListing(order_no, tuple(map(_file, order.download_urls or ())))

        order_no = check_task_id(remote_task_id)
        return self._ask(order_no, read)

    def get_status(self, remote_task_id: str) -> Call[TaskStatus]:
        """The same call: an order's state stands beside its links."""

        def read(order: _Order) -> TaskStatus:
            return TaskStatus(order.state, "acquisition failed" if order.state is TaskState.FAILED else None)

        return self._ask(check_task_id(remote_task_id), read)

    def probe(self) -> Call[None]:
        """Ask for order 0: any answer about the order itself was given to an accepted key."""
        return self._probe_by(self._ask("0", lambda order: None), "400")

    def _ask(self, order_no: str, read: Callable[[_Order], T]) -> Call[T]:
        def read_answer(answer: Answer) -> T:
            return read(self._data(answer, _Order) or _Order())

        body = {"orderNo": order_no}
        return Call("POST", "/market/order/downloadLinks", read_answer, body=body, remote_task_id=order_no)

    def _says_not_found(self, code: int, message: str) -> bool:
        return code == 404 or (code == 400 and "not found" in message.lower())


def _file(url: SecretStr | None) -> RemoteFile:
    text = url.get_secret_value() if url else ""
    path, _, query = text.partition("#")[0].partition("?")
    # Only the file host knows the name; what stays when a link is made anew is its id, or where it leads.
    place = unquote(path).partition("?")[0].rpartition("/")[2]
    name = parse_qs(query).get("id", [place])[0] or "file"
    return RemoteFile(name, Link(text) if text.strip() else None, is_named_by_host=True)
