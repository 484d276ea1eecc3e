"""Hook for the download tasks of Baidu Log Service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar, Literal

from airflow.providers.common.compat.sdk import Connection
from pydantic import Field, SecretStr

from airflow_provider_taskdl.apis.bls import DEFAULT_REGION, BlsApi, DownloadTask, DownloadTaskPage, endpoint
from airflow_provider_taskdl.auth.bce import BceAuth
from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.hooks.access import Access
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.hooks.settings import ConnectionExtras, base_url, require_field_text


class BlsExtras(ConnectionExtras):
    """The extras of a ``baidu_bls`` connection.

    :param region: The service's region, such as ``bj``; decides the endpoint where no host is given.
    :param security_token: Session token of temporary (STS) credentials.
    """

    region: str = Field(DEFAULT_REGION, pattern=re.compile(r"^[a-z0-9-]{1,32}$"))
    security_token: SecretStr | None = None


class BlsHook(TaskApiHook):
    """Calls the download-task family of Baidu Log Service (BLS).

    Connection type ``baidu_bls``: Login is the Access Key ID, Password the Secret Access Key, Host an endpoint other
    than ``https://bls-log.<region>.baidubce.com``.

    Every call raises what :meth:`TaskApiHook.list_files` raises. Source: cloud.baidu.com/doc/BLS.

    :param conn_id: The Airflow connection.
    """

    default_conn_name: ClassVar[str] = "baidu_bls_default"
    conn_type: ClassVar[str] = "baidu_bls"
    hook_name: ClassVar[str] = "Baidu Log Service (BLS)"
    api: ClassVar[BlsApi] = BlsApi()
    extras_model: ClassVar[type[ConnectionExtras]] = BlsExtras

    def make_access(self, connection: Connection, extras: BlsExtras) -> Access:
        """Return endpoint and signature from the connection.

        :raises ConnectionConfigError: The Access Key ID or the Secret Access Key is missing.
        """
        key_id, secret = (connection.login or "").strip(), (connection.password or "").strip()
        if not key_id or not secret:
            missing = "Login (Access Key ID)" if not key_id else "Password (Secret Access Key)"
            raise ConnectionConfigError(f"{missing} is empty")
        token = extras.security_token.get_secret_value() if extras.security_token else None
        require_field_text("Login (Access Key ID)", key_id)
        # It is only signed with, but one that holds such characters is none, and what cannot sign it quotes it.
        require_field_text("Password (Secret Access Key)", secret)
        require_field_text("the extra security_token", token or "")
        return Access(
            base_url=base_url(connection.host, connection.port, default=endpoint(extras.region)),
            auth=BceAuth(key_id, secret, token),
            secrets=tuple(filter(None, (secret, token))),
            extras=extras,
        )

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
    ) -> str:
        """Start an export of logs and return the new task's uuid.

        A call that timed out may have started a task all the same: this one is not repeated on its own.

        :param log_store_name: The log store.
        :param query_start_time: From when; ISO 8601 or a datetime, UTC if it has no zone.
        :param query_end_time: Until when.
        :param name: A name for the task.
        :param project: The log store's project; the service's default is ``default``.
        :param log_stream_name: One log stream; all of them by default.
        :param query: Which records, in the service's query language; all by default.
        :param format: ``json`` (the service's default) or ``csv``.
        :param limit: Rows at most; the service's default and maximum is 1,000,000.
        :param order: ``desc`` (the service's default) or ``asc``, by time.
        :param file_dir: ``bucket/dir/`` in the caller's own object storage (BOS); else the service keeps the file.
        """
        return self.run(
            self.api.create_download_task(
                log_store_name=log_store_name,
                query_start_time=query_start_time,
                query_end_time=query_end_time,
                name=name,
                project=project,
                log_stream_name=log_stream_name,
                query=query,
                format=format,
                limit=limit,
                order=order,
                file_dir=file_dir,
            )
        )

    def describe_download_task(self, remote_task_id: str) -> DownloadTask:
        """Return the task as the service describes it.

        :param remote_task_id: The task's uuid.
        """
        return self.run(self.api.describe_download_task(remote_task_id))

    def list_download_tasks(
        self,
        *,
        project: str | None = None,
        log_store_name: str | None = None,
        order_by: Literal["createdTime", "updatedTime", "name"] = "createdTime",
        order: Literal["desc", "asc"] = "desc",
        page_size: int = 100,
    ) -> Iterator[DownloadTask]:
        """Yield the download tasks of a project, page by page.

        :param project: Exactly this project; the service's default one otherwise.
        :param log_store_name: Log stores whose name contains this.
        :param order_by: ``createdTime``, ``updatedTime`` or ``name``.
        :param order: ``desc`` or ``asc``.
        :param page_size: Tasks per request.
        """
        page_no, seen = 1, 0
        while True:
            page: DownloadTaskPage = self.run(
                self.api.list_download_tasks(
                    project=project,
                    log_store_name=log_store_name,
                    order_by=order_by,
                    order=order,
                    page_no=page_no,
                    page_size=page_size,
                )
            )
            yield from page.tasks
            seen += len(page.tasks)
            is_last = len(page.tasks) < page_size if page.total is None else seen >= page.total
            if is_last or not page.tasks:
                return
            page_no += 1

    def delete_download_task(self, remote_task_id: str) -> None:
        """Delete the task; one that is gone already counts as deleted.

        :param remote_task_id: The task's uuid.
        """
        self.run(self.api.delete_download_task(remote_task_id))
