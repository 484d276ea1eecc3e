"""The operator that ends a download which was spread over several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, ObjectStoragePath

from airflow_provider_taskdl.operators.links import DestinationLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class JoinManifestsOperator(BaseOperator):
    """Proves that all shards of a download are there, and writes the manifest of the whole.

    Each ``DownloadToObjectStorageOperator`` with a ``shard`` leaves a manifest of its own. This operator sees that none
    is missing, that all were portions of one listing, and that every file is at the destination as its shard put it
    there. Only then it writes ``destination/_taskdl/<remote task id>.json``, as a download in one task does: that it is
    there means that everything is. It asks the store and not the service, fetches nothing, and can be run again.

    XCom as of a download in one task: ``return_value`` has all paths in the service's order, ``manifest`` the
    manifest's path, ``summary`` files, bytes, skipped and the seconds of the slowest shard. ``AssetAlias`` outlets of
    this operator get the events of all files.

    :param remote_task_id: The task's id at the service. Templated.
    :param destination: The directory that the shards went to. Templated.
    :param shards: How many there are, or what ``shards(n)`` gave. Templated.
    :raises AirflowFailException: A shard or a file is missing or does not fit, which a retry of this task does not
        mend; the text says which shards to run again. Its cause is the typed error.
    :raises TaskDownloadError: Something that a retry may mend.
    """

    template_fields: ClassVar[Sequence[str]] = ("remote_task_id", "destination", "shards")  # type: ignore[misc]
    operator_extra_links = (DestinationLink(),)
    ui_color = "#d4e6f1"

    def __init__(
        self,
        *,
        remote_task_id: str,
        destination: str | ObjectStoragePath,
        shards: int | str | Sequence[Sequence[int]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remote_task_id = remote_task_id
        self.destination = destination
        self.shards = shards

    def execute(self, context: Context) -> list[str]:
        """Join the manifests and return all paths."""
        from airflow_provider_taskdl.apis.base import check_task_id
        from airflow_provider_taskdl.exceptions import TaskDownloadError
        from airflow_provider_taskdl.hooks.failures import as_airflow_sees_it
        from airflow_provider_taskdl.operators.destination import Destination
        from airflow_provider_taskdl.operators.parameters import shard_count
        from airflow_provider_taskdl.operators.results import hand_on
        from airflow_provider_taskdl.transfer.join import join

        try:
            task, count = check_task_id(self.remote_task_id), shard_count(self.shards)
            destination = Destination(self.destination)
            result = join(destination.store, task, count, path_of=destination.path_of)
            return hand_on(context, self.outlets, result, destination)
        except TaskDownloadError as error:
            error.remote_task_id = error.remote_task_id or str(self.remote_task_id)
            failure = as_airflow_sees_it(error)
        raise failure
