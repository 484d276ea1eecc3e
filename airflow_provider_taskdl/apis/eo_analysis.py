"""The Earth-observation analysis platform: an analysis task's creation, its state and its download URLs.

Sources: the platform's pages ``/analysis/task/get/Download/url``, ``/analysis/task/query/detailV2``,
``/analysis/task/create`` and ``/analysis/task/page/query``. Its pages disagree on whether a status is a number or a
word and leave open whether HTTP's status mirrors the body's ``code``: both are read either way.

Documented but unproved are the last two: the pages say what is sent and answered, and not which names and areas are
taken, whether a name may be used twice, whether a search by name is exact, and what the first page's number is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, SecretStr, field_validator

from airflow_provider_taskdl.apis.base import (
    PAGE_SIZE,
    Answer,
    Call,
    FileSize,
    ServiceText,
    TaskId,
    WireModel,
    check_task_id,
)
from airflow_provider_taskdl.apis.envelope import EnvelopeApi
from airflow_provider_taskdl.exceptions import MalformedResponseError, TaskApiError
from airflow_provider_taskdl.listing import (
    FileListing,
    Link,
    ListedTask,
    RemoteFile,
    TaskPage,
    TaskState,
    TaskStatus,
    time_or_none,
)

_STATES = {
    "2": TaskState.RUNNING, "PROGRESSING": TaskState.RUNNING, "PROCESSING": TaskState.RUNNING,
    "RUNNING": TaskState.RUNNING,
    "WAITING": TaskState.WAITING, "PENDING": TaskState.WAITING, "QUEUED": TaskState.WAITING,
    "3": TaskState.SUCCESS, "COMPLETE": TaskState.SUCCESS, "COMPLETED": TaskState.SUCCESS,
    "SUCCESS": TaskState.SUCCESS,
    "4": TaskState.FAILED, "FAILED": TaskState.FAILED, "FAIL": TaskState.FAILED, "FAILURE": TaskState.FAILED,
    "ERROR": TaskState.FAILED, "ABORTED": TaskState.FAILED,
    "CANCELLED": TaskState.FAILED, "CANCELED": TaskState.FAILED, "DELETED": TaskState.FAILED,
    "EXPIRED": TaskState.EXPIRED,
}  # fmt: skip


class _Url(WireModel):
    file_name: str | None = Field(None, alias="fileName")
    download_url: SecretStr | None = Field(None, alias="downloadUrl")
    file_size: FileSize | None = Field(None, alias="fileSize")
    expires_at: Any = Field(None, alias="expiresAt")


class _Urls(WireModel):
    download_urls: tuple[_Url, ...] = Field((), alias="downloadUrls")
    total_size: FileSize | None = Field(None, alias="totalSize")

    @field_validator("download_urls", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return () if value is None else value


class _Item(WireModel):
    algorithm_name: ServiceText | None = Field(None, alias="algorithmName")
    status: int | str | None = None


class _Detail(WireModel):
    task_status: int | str | None = Field(None, alias="taskStatus")
    task_items: tuple[_Item, ...] | None = Field(None, alias="taskItems")


class AnalysisTask(WireModel):
    """An analysis task in the platform's list of tasks."""

    id: str | None = None
    task_name: ServiceText | None = Field(None, alias="taskName")
    task_status: int | str | None = Field(None, alias="taskStatus")
    create_time: Any = Field(None, alias="createTime")

    @property
    def task_state(self) -> TaskState:
        """The state in the words all services share."""
        return _state(self.task_status)


class AnalysisTaskPage(WireModel):
    """One page of the analysis tasks.

    :ivar total: Tasks over all pages, where the service says so.
    """

    total: int | None = None
    tasks: tuple[AnalysisTask, ...] = Field((), alias="list")

    @field_validator("tasks", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return () if value is None else value


class _Created(WireModel):
    task_id: TaskId = Field(alias="taskId")


class EoAnalysisApi(EnvelopeApi):
    """The analysis-task calls that end in files."""

    service = "EO analysis platform"

    def list_files(self, remote_task_id: str) -> Call[FileListing]:
        """``GET /analysis/task/get/Download/url?taskId=…``: all files of the task with links, sizes and expiry."""

        def read(answer: Answer) -> FileListing:
            data = self._data(answer, _Urls)
            if data is None:
                return FileListing(task_id, ())
            return FileListing(task_id, tuple(map(self._file, data.download_urls)), data.total_size)

        task_id = check_task_id(remote_task_id)
        path = "/analysis/task/get/Download/url"
        return Call("GET", path, read, query={"taskId": task_id}, remote_task_id=task_id)

    def get_status(self, remote_task_id: str) -> Call[TaskStatus]:
        """``GET /analysis/task/query/detailV2?id=…``: the task's state; names the algorithms that failed."""

        def read(answer: Answer) -> TaskStatus:
            data = self._data(answer, _Detail)
            if data is None:
                raise MalformedResponseError(f"{self.service} described no task")
            failed = [item.algorithm_name or "?" for item in data.task_items or () if _state(item.status) == "failed"]
            return TaskStatus(_state(data.task_status), f"failed: {', '.join(failed)}" if failed else None)

        task_id = check_task_id(remote_task_id)
        return Call("GET", "/analysis/task/query/detailV2", read, query={"id": task_id}, remote_task_id=task_id)

    def create_analysis_task(
        self,
        *,
        meta_data_id: int,
        task_name: str,
        algorithms: Sequence[Mapping[str, Any]],
        shape_wkt: str | None = None,
        confidence_threshold: float | None = None,
        slice_width: int | None = None,
        slice_height: int | None = None,
    ) -> Call[str]:
        """``POST /analysis/task/create``: start an analysis; gives the task's id. Documented but unproved."""

        def read(answer: Answer) -> str:
            data = self._data(answer, _Created)
            if data is None:
                raise MalformedResponseError(f"{self.service} accepted the task but named no id")
            return data.task_id

        body = {
            "metaDataId": meta_data_id, "taskName": task_name, "algorithms": [dict(each) for each in algorithms],
            "shapeWkt": shape_wkt, "confidenceThreshold": confidence_threshold, "sliceWidth": slice_width,
            "sliceHeight": slice_height,
        }  # fmt: skip
        return Call("POST", "/analysis/task/create", read, body={k: v for k, v in body.items() if v is not None})

    def list_analysis_tasks(self, *, task_name: str | None = None, page: int, size: int) -> Call[AnalysisTaskPage]:
        """``POST /analysis/task/page/query``: one page of the tasks, or of those of a name. Documented but unproved."""

        def read(answer: Answer) -> AnalysisTaskPage:
            return self._data(answer, AnalysisTaskPage) or AnalysisTaskPage()

        body = {"page": page, "size": size, **({} if task_name is None else {"taskName": task_name})}
        return Call("POST", "/analysis/task/page/query", read, body=body)

    def list_tasks(self, page: int, *, group: str | None = None) -> Call[TaskPage]:
        """A page of :meth:`list_analysis_tasks`, in the platform's order; it knows no groups.

        Whether its pages are counted from 0 or 1 is not said, so its page 0 is our second one.
        """
        number = 0 if page == 2 else max(1, page - 1)
        call = self.list_analysis_tasks(page=number, size=PAGE_SIZE)

        def read(answer: Answer) -> TaskPage:
            try:
                found = call.read(answer)
            except TaskApiError as error:
                if number or error.code != "400":
                    raise
                found = AnalysisTaskPage()  # it counts from 1, and says so
            tasks = tuple(
                ListedTask(task.id, TaskStatus(task.task_state), time_or_none(task.create_time), name=task.task_name)
                for task in found.tasks
                if task.id
            )
            # Counted from 1; if the pages are counted from 0 there was one more, and a page that is empty follows.
            is_last = found.total is not None and max(1, number) * len(found.tasks) >= found.total
            return TaskPage(tasks, is_last or (page > 2 and not found.tasks), found.total)

        return Call(call.method, call.path, read, body=call.body)

    def probe(self) -> Call[None]:
        """Ask for the files of task 0: any answer about the task itself was given to accepted credentials."""
        return self._probe_by(self.list_files("0"), "400")

    def _file(self, url: _Url) -> RemoteFile:
        address = url.download_url.get_secret_value() if url.download_url else ""
        if not address.strip():
            return RemoteFile(url.file_name or "", None, url.file_size)
        if not url.file_name:
            raise MalformedResponseError(f"{self.service} gave a link without a file name")
        return RemoteFile(url.file_name, Link(address, time_or_none(url.expires_at)), url.file_size)


def _state(value: int | str | None) -> TaskState:
    return _STATES.get(str(value).strip().upper(), TaskState.UNKNOWN)
