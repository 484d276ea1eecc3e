"""The life of a BLS download task: made before the wait, deleted after the download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_taskdl.operators.creation import CreateTaskOperator, number, text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.apis.base import Call
    from airflow_provider_taskdl.hooks.bls import BlsHook
    from airflow_provider_taskdl.listing import TaskState


class BlsCreateDownloadTaskOperator(CreateTaskOperator):
    """Starts an export of logs at Baidu Log Service, once for each run, and returns the uuid of its download task.

    By default it exports the data interval of the DAG run, so backfills export what belongs to their runs. (With a cron
    expression Airflow 3 makes runs without one: use ``CronDataIntervalTimetable``.)

    A retry adopts the download task that an earlier try made, also if the worker was killed before it had the answer;
    it knows it by its name, see :class:`~airflow_provider_taskdl.operators.creation.CreateTaskOperator`. So does the
    task when it is cleared: what was deleted, has failed or has expired is made anew, and nothing else.

    XCom: the uuid.

    :param conn_id: Airflow connection of type ``baidu_bls``. Templated.
    :param log_store_name: The log store. Templated.
    :param query_start_time: From when; ISO 8601 or a datetime, UTC if it has no zone. Templated.
    :param query_end_time: Until when, likewise. Templated.
    :param name: What the download task's name begins with, cut behind 29 characters. Two Airflows (staging and
        production) that run the same DAG on one account need one each: they would adopt each other's exports.
        Templated.
    :param project: The log store's project; the service's default is ``default``. Templated.
    :param log_stream_name: One log stream; all of them by default. Templated.
    :param query: Which records, in the service's query language; all by default. Templated.
    :param format: ``json`` (the service's default) or ``csv``. Templated.
    :param limit: Rows at most; the service's default and maximum is 1,000,000. Templated.
    :param order: ``desc`` (the service's default) or ``asc``, by time. Templated.
    :param file_dir: ``bucket/dir/`` in the caller's own object storage (BOS); else the service keeps the file.
        Templated.
    :raises AirflowFailException: No retry can help: a parameter or the credentials were refused. Its cause is the typed
        error.
    :raises TaskApiError: It is not known whether the task was made; a retry finds out.
    """

    template_fields: ClassVar[Sequence[str]] = (  # type: ignore[misc]
        "conn_id", "log_store_name", "query_start_time", "query_end_time", "name", "project", "log_stream_name",
        "query", "format", "limit", "order", "file_dir",
    )  # fmt: skip

    def __init__(
        self,
        *,
        log_store_name: str,
        conn_id: str = "baidu_bls_default",
        query_start_time: datetime | str = "{{ data_interval_start | default('', true) }}",
        query_end_time: datetime | str = "{{ data_interval_end | default('', true) }}",
        name: str | None = None,
        project: str | None = None,
        log_stream_name: str | None = None,
        query: str | None = None,
        format: Literal["json", "csv"] | None = None,
        limit: int | str | None = None,
        order: Literal["desc", "asc"] | None = None,
        file_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, name=name, **kwargs)
        self.log_store_name = log_store_name
        self.query_start_time = query_start_time
        self.query_end_time = query_end_time
        self.project = project
        self.log_stream_name = log_stream_name
        self.query = query
        self.format = format
        self.limit = limit
        self.order = order
        self.file_dir = file_dir

    def _hook(self) -> BlsHook:
        from airflow_provider_taskdl.hooks.bls import BlsHook

        return BlsHook(self.conn_id)

    def _call(self, name: str) -> Call[str]:
        from airflow_provider_taskdl.exceptions import ConnectionConfigError
        from airflow_provider_taskdl.hooks.bls import BlsHook

        no_interval = "; a run without a data interval needs query_start_time and query_end_time"
        start, end = text(self.query_start_time), text(self.query_end_time)
        if not start or not end:
            raise ConnectionConfigError(f"the window to export has no start or no end{no_interval}")
        if (log_store := text(self.log_store_name)) is None:
            raise ConnectionConfigError(
                "log_store_name is empty; if it comes from a template, what did the template give?"
            )
        call = BlsHook.api.create_download_task(
            log_store_name=log_store,
            query_start_time=start,
            query_end_time=end,
            name=name,
            project=text(self.project),
            log_stream_name=text(self.log_stream_name),
            query=text(self.query),
            format=self.format or None,
            limit=number("limit", self.limit, int),
            order=self.order or None,
            file_dir=text(self.file_dir),
        )
        first, last = ((call.body or {})[key] for key in ("queryStartTime", "queryEndTime"))
        if first >= last:
            raise ConnectionConfigError(f"the window to export is empty: from {first} to {last}{no_interval}")
        return call

    def _made(self, hook: BlsHook, name: str) -> Iterator[tuple[str | None, str | None, TaskState]]:
        for task in hook.list_download_tasks(project=text(self.project), log_store_name=text(self.log_store_name)):
            yield task.name, task.uuid, task.task_state


class BlsDeleteDownloadTaskOperator(BaseOperator):
    """Deletes a download task, and with it the file that the service keeps; one that is gone already is a success.

    After a download (``download >> delete``) it leaves the file of a download that failed, so that the download can go
    on where it stopped. As a teardown (``delete.as_teardown(setups=create)``) it leaves nothing; who clears a failed
    download then clears the export as well, which is made anew.

    :param conn_id: Airflow connection of type ``baidu_bls``. Templated.
    :param remote_task_id: The download task's uuid. Templated.
    :raises AirflowFailException: The id is none, or the credentials were refused. Its cause is the typed error.
    :raises TaskApiError: The service did not answer, or asked to come back; Airflow's retries apply.
    """

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "remote_task_id")  # type: ignore[misc]
    ui_color = "#ebedef"

    def __init__(self, *, remote_task_id: str, conn_id: str = "baidu_bls_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.remote_task_id = remote_task_id

    def execute(self, context: Context) -> None:
        """Delete it."""
        from airflow_provider_taskdl.exceptions import TaskDownloadError
        from airflow_provider_taskdl.hooks.bls import BlsHook
        from airflow_provider_taskdl.hooks.failures import as_airflow_sees_it

        hook = BlsHook(self.conn_id)
        try:
            hook.delete_download_task(self.remote_task_id)
        except TaskDownloadError as error:
            failure = as_airflow_sees_it(error)
        else:
            self.log.info("Task %s is not at the service any more", self.remote_task_id)
            return
        finally:
            hook.close()
        raise failure
