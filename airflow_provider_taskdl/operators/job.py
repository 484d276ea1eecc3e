"""From a hook to a destination: the transfer that the operator and the command line both run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_taskdl.apis.readiness import why_no_links
from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.listing import FileListing
from airflow_provider_taskdl.operators.destination import Destination
from airflow_provider_taskdl.transfer.client import LinkClient
from airflow_provider_taskdl.transfer.host_rules import HostRules
from airflow_provider_taskdl.transfer.job import DownloadJob


def make_job(
    hook: TaskApiHook,
    remote_task_id: str,
    destination: Destination,
    *,
    go_on: Callable[[], None] = lambda: None,
    **choices: Any,
) -> DownloadJob:
    """Return the transfer of a task's files, ready to run.

    :param hook: Lists the files; its connection also says how links are fetched.
    :param remote_task_id: The task.
    :param destination: Where to.
    :param go_on: Asked after each listing; raises if nothing more is to be done.
    :param choices: Whatever else :class:`DownloadJob` takes.
    :raises ConnectionConfigError: The connection or one of the choices cannot be used.
    """

    def list_files() -> FileListing:
        listing = hook.list_files(remote_task_id)
        if access.extras.check_status and not any(file.link for file in listing.files):
            hook.run_steps(why_no_links(hook.api, remote_task_id))
        go_on()
        return listing

    access = hook.access
    rules = HostRules(access.host, access.extras.allowed_link_hosts)
    client = LinkClient(rules, tls=access.tls, timeout=access.extras.timeout, proxy=access.proxy)
    return DownloadJob(
        list_files=list_files,
        client=client,
        store=destination.store,
        path_of=destination.path_of,
        check_names=destination.check_names,
        **choices,
    )
