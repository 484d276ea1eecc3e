"""Baidu Log Service (BLS): the download-task family.

Sources: the vendor's pages for CreateDownloadTask, DescribeDownloadTask, ListDownloadTask, GetDownloadTaskLink and
DeleteDownloadTask (cloud.baidu.com/doc/BLS/s/Hm344rht7, um347nkxz, km3495zjx, 6m348wh16, vm348qnpo) and its table of
common errors (tk8r3cj4r).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from airflow_provider_taskdl.apis.base import (
    PAGE_SIZE,
    Answer,
    Call,
    M,
    ServiceText,
    TaskApi,
    TaskId,
    WireModel,
    check_task_id,
    raise_for_status,
    read_json,
    read_model,
    read_refusal,
)
from airflow_provider_taskdl.exceptions import (
    AuthenticationError,
    ConnectionConfigError,
    MalformedResponseError,
    TaskNotFoundError,
)
from airflow_provider_taskdl.listing import (
    FileListing,
    Link,
    ListedTask,
    RemoteFile,
    TaskPage,
    TaskState,
    TaskStatus,
    parse_time,
    time_or_none,
)

REGIONS: Mapping[str, str] = {
    "bj": "Beijing", "gz": "Guangzhou", "su": "Suzhou", "bd": "Baoding", "fwh": "Wuhan (financial)",
    "yq": "Yangquan", "nj": "Nanjing", "cd": "Chengdu", "hkg": "Hong Kong",
}  # fmt: skip
DEFAULT_REGION = "bj"

# Refused signatures and keys come with 400, 401 or 403, depending on which gateway looked first.
_REFUSED_CREDENTIALS = frozenset(
    {
        "Unauthorized", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidHTTPAuthHeader",
        "IamSignatureInvalid", "AuthError", "MissingDateHeader", "RequestExpired", "OptInRequired",
    }
)  # fmt: skip
# The status that the table of common errors gives to a code, where an answer with ``success: false`` has another.
_STATUS = {"RequestLimited": 429, "InternalError": 500, "ServiceUnavailable": 503}
# The documentation's own example is no RFC 4122 UUID. A looser pattern would let "list" or "link" hit another route.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NO_TASK = "00000000-0000-0000-0000-000000000000"


def endpoint(region: str) -> str:
    """Return the service's address in ``region``, such as ``bj``."""
    return f"https://bls-log.{region}.baidubce.com"


class DownloadTask(WireModel):
    """A download task as the service describes it; every field may be missing.

    ``state`` is one of ``WAITING RUNNING SUCCESS FAILED EXPIRED``; times are ISO 8601 texts in UTC.
    """

    uuid: str | None = None
    name: ServiceText | None = None
    project: ServiceText | None = None
    log_store_name: str | None = Field(None, alias="logStoreName")
    log_stream_name: str | None = Field(None, alias="logStreamName")
    query: str | None = None
    query_start_time: str | None = Field(None, alias="queryStartTime")
    query_end_time: str | None = Field(None, alias="queryEndTime")
    format: str | None = None
    limit: int | None = None
    order: str | None = None
    state: str | None = None
    failed_code: ServiceText | None = Field(None, alias="failedCode")
    failed_message: ServiceText | None = Field(None, alias="failedMessage")
    written_rows: int | None = Field(None, alias="writtenRows")
    file_dir: str | None = Field(None, alias="fileDir")
    file_name: str | None = Field(None, alias="fileName")
    exec_start_time: str | None = Field(None, alias="execStartTime")
    exec_end_time: str | None = Field(None, alias="execEndTime")
    created_time: str | None = Field(None, alias="createdTime")
    updated_time: str | None = Field(None, alias="updatedTime")

    @property
    def task_state(self) -> TaskState:
        """The state in the words all services share."""
        try:
            return TaskState((self.state or "").lower())
        except ValueError:
            return TaskState.UNKNOWN

    @property
    def reason(self) -> str | None:
        """Why the task failed, as the service says it."""
        return ": ".join(filter(None, (self.failed_code, self.failed_message))) or None

    @property
    def status(self) -> TaskStatus:
        """State, reason and project."""
        return TaskStatus(self.task_state, self.reason, self.project)

    @property
    def listed(self) -> ListedTask:
        """The task in the words that all services' lists share."""
        return ListedTask(self.uuid or "", self.status, time_or_none(self.created_time), self.project, self.name)


class DownloadTaskPage(WireModel):
    """One page of the download tasks of a project.

    :ivar total: Tasks over all pages, where the service says so.
    """

    total: int | None = None
    page_no: int = Field(1, alias="pageNo")
    page_size: int = Field(10, alias="pageSize")
    tasks: tuple[DownloadTask, ...] = ()

    @field_validator("tasks", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return () if value is None else value


class _Created(WireModel):
    uuid: TaskId


class _Described(WireModel):
    task: DownloadTask


class _LinkResult(WireModel):
    file_name: str | None = Field(None, alias="fileName")
    link: SecretStr | None = None


class _Envelope(WireModel):
    success: bool | None = None
    code: ServiceText | None = None
    message: ServiceText | None = None
    result: Any = None

    @property
    def failed(self) -> bool:
        # Deletion answers with the code "success", everything else with "OK": the flag decides where there is one.
        if self.success is not None:
            return not self.success
        return self.code is not None and self.code.lower() not in ("ok", "success")


class _ErrorBody(WireModel):
    code: ServiceText | None = None
    message: ServiceText | None = None


class BlsApi(TaskApi):
    """The download-task calls of BLS."""

    service = "Baidu Log Service"
    newest_first = True

    def list_files(self, remote_task_id: str) -> Call[FileListing]:
        """``GET /v2/logstore/download/link/{uuid}``: the task's one file, or none while it has no link."""

        def read(answer: Answer) -> FileListing:
            result = self._result(answer, _LinkResult)
            if result is None or result.link is None or not result.link.get_secret_value().strip():
                return FileListing(uuid, ())
            if not result.file_name:
                raise MalformedResponseError(f"{self.service} gave a link without a file name")
            return FileListing(uuid, (RemoteFile(result.file_name, Link(result.link.get_secret_value())),))

        uuid = _check_uuid(remote_task_id)
        return Call("GET", f"/v2/logstore/download/link/{uuid}", read, remote_task_id=uuid)

    def get_status(self, remote_task_id: str) -> Call[TaskStatus]:
        """The state by :meth:`describe_download_task`, with the service's reason if it failed."""
        return self.describe_download_task(remote_task_id).then(lambda task: task.status)

    def list_tasks(self, page: int, *, group: str | None = None) -> Call[TaskPage]:
        """A page of :meth:`list_download_tasks`; ``group`` is a project, without it the service's default one."""

        def read(found: DownloadTaskPage) -> TaskPage:
            until_here = (page - 1) * found.page_size + len(found.tasks)
            is_last = not found.tasks or (found.total is not None and until_here >= found.total)
            return TaskPage(tuple(task.listed for task in found.tasks if task.uuid), is_last, found.total)

        return self.list_download_tasks(project=group, page_no=page, page_size=PAGE_SIZE).then(read)

    def probe(self) -> Call[None]:
        """Ask for the link of a task that cannot exist: "not found" is said only to accepted credentials."""
        return self._probe_by(self.list_files(_NO_TASK))

    def describe_download_task(self, remote_task_id: str) -> Call[DownloadTask]:
        """``GET /v2/logstore/download/{uuid}``: the task itself."""

        def read(answer: Answer) -> DownloadTask:
            result = self._result(answer, _Described)
            if result is None:
                raise MalformedResponseError(f"{self.service} described no task")
            return result.task

        uuid = _check_uuid(remote_task_id)
        return Call("GET", f"/v2/logstore/download/{uuid}", read, remote_task_id=uuid)

    def list_download_tasks(
        self,
        *,
        project: str | None = None,
        log_store_name: str | None = None,
        order_by: Literal["createdTime", "updatedTime", "name"] = "createdTime",
        order: Literal["desc", "asc"] = "desc",
        page_no: int = 1,
        page_size: int = 10,
    ) -> Call[DownloadTaskPage]:
        """``POST /v2/logstore/download/list``: one page of tasks; the name of the log store is matched loosely."""

        def read(answer: Answer) -> DownloadTaskPage:
            return self._result(answer, DownloadTaskPage) or DownloadTaskPage()

        body = {
            "project": project, "logStoreName": log_store_name, "orderBy": order_by, "order": order,
            "pageNo": page_no, "pageSize": page_size,
        }  # fmt: skip
        return Call("POST", "/v2/logstore/download/list", read, body=_present(body))

    def create_download_task(
        self,
        *,
        log_store_name: str,
        query_start_time: datetime | str,
        query_end_time: datetime | str,
        name: str | None = None,
        project: str | None = None,
        log_stream_name: str | None = None,
        query: str | None = None,
        format: Literal["json", "csv"] | None = None,
        limit: int | None = None,
        order: Literal["desc", "asc"] | None = None,
        file_dir: str | None = None,
    ) -> Call[str]:
        """``POST /v2/logstore/download``: start an export; gives its uuid."""

        def read(answer: Answer) -> str:
            result = self._result(answer, _Created)
            if result is None:
                raise MalformedResponseError(f"{self.service} accepted the task but named no uuid")
            return result.uuid

        body = {
            "name": name, "project": project, "logStoreName": log_store_name, "logStreamName": log_stream_name,
            "query": query, "queryStartTime": _utc(query_start_time), "queryEndTime": _utc(query_end_time),
            "format": format, "limit": limit, "order": order, "fileDir": file_dir,
        }  # fmt: skip
        return Call("POST", "/v2/logstore/download", read, body=_present(body))

    def delete_download_task(self, remote_task_id: str) -> Call[None]:
        """``DELETE /v2/logstore/download/{uuid}``: forget the task; one that is gone already counts as deleted."""

        def read(answer: Answer) -> None:
            if answer.status < 300 and not answer.body.strip():
                return
            try:
                self._result(answer, WireModel)
            except TaskNotFoundError:
                pass

        uuid = _check_uuid(remote_task_id)
        return Call("DELETE", f"/v2/logstore/download/{uuid}", read, remote_task_id=uuid)

    def _result(self, answer: Answer, model: type[M]) -> M | None:
        if answer.status >= 300:
            self._raise_refusal(answer)
        envelope = read_json(answer, _Envelope, self.service)
        if envelope.success is None and envelope.code is None and envelope.result is None:
            raise MalformedResponseError(
                f"{self.service} answered HTTP {answer.status} with JSON that has not its form"
            )
        if envelope.failed:
            self._raise_known(answer, envelope.code, envelope.message)
            status = _STATUS.get(envelope.code or "", 400)
            raise_for_status(answer, self.service, code=envelope.code, message=envelope.message, status=status)
        if envelope.result is None:
            return None
        return read_model(envelope.result, model, self.service, answer.headers.get("x-bce-request-id"))

    def _raise_refusal(self, answer: Answer) -> None:
        body = read_refusal(answer, _ErrorBody, self.service)
        self._raise_known(answer, body.code, body.message)
        raise_for_status(answer, self.service, code=body.code, message=body.message)

    def _raise_known(self, answer: Answer, code: str | None, message: str | None) -> None:
        request_id = answer.headers.get("x-bce-request-id")
        if code == "DownloadTaskNotFound":
            raise TaskNotFoundError(
                f"{self.service} does not know this download task", code=code, request_id=request_id
            )
        if code in _REFUSED_CREDENTIALS:
            hint = "; is this machine's clock right?" if code == "RequestExpired" else ""
            raise AuthenticationError(
                f"{self.service} refused the credentials of the connection: {message or code}{hint}",
                code=code,
                request_id=request_id,
            )


def _check_uuid(remote_task_id: object) -> str:
    text = check_task_id(remote_task_id)
    if not _UUID.fullmatch(text):
        raise ConnectionConfigError(f"remote_task_id {text!r} is not the uuid of a BLS download task")
    return text


def _present(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _utc(time: datetime | str) -> str:
    try:
        moment = parse_time(time) if isinstance(time, str) else time
    except ValueError:
        raise ConnectionConfigError(f"{time!r} is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
