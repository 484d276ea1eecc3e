"""The operator that brings a remote task's files to object storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import BaseOperator, ObjectStoragePath, conf

from airflow_provider_taskdl.operators.links import DestinationLink
from airflow_provider_taskdl.transfer.sizes import MIB, PART_SIZE
from airflow_provider_taskdl.triggers.start import GRACE_SECONDS, start_trigger_args

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.apis.readiness import LinkWatch
    from airflow_provider_taskdl.hooks.base import TaskApiHook
    from airflow_provider_taskdl.operators.destination import Destination
    from airflow_provider_taskdl.transfer.job import DownloadJob, Result

_WEEK = 7 * 24 * 3600.0


class DownloadToObjectStorageOperator(BaseOperator):
    """Downloads all files of a remote task to object storage, verified, and hands their paths on.

    A file shows at the destination only when it is complete and its size and digests agree with what the service and
    the file host announced. Links that run out are renewed on the way, connections that break are resumed, and a retry
    of the task fetches only what is not there yet.

    Layout: ``destination/<file name>``, and the manifest ``destination/_taskdl/<remote task id>.json``, which is
    written last.

    XCom ``return_value``: the paths, in the service's order, each for ``ObjectStoragePath(path)``; ``manifest``: the
    manifest's path; ``summary``: files, bytes, skipped, seconds. Airflow refuses to map a task over more paths than
    ``[core] max_map_length`` (1024): hand the manifest on instead.

    A task that is too much for one worker is spread over several: ``.partial(...).expand(shard=shards(4))`` makes four
    of this task, each of which brings its portion of the files, balanced by size and the same in every try. Its paths,
    XComs and manifest (``_taskdl/<remote task id>.shard-<i>-of-<n>.json``) are those of its portion, an empty one if
    there are fewer files than shards; ``JoinManifestsOperator`` after them gives the whole.

    :param conn_id: Airflow connection of type ``baidu_bls``, ``eo_analysis`` or ``eo_market``, or any whose hook is a
        ``TaskApiHook``. Templated.
    :param remote_task_id: The task's id at the service. Templated.
    :param destination: Directory to write to: a URL of ``ObjectStoragePath`` (with its own connection as
        ``s3://conn_id@bucket/prefix``), such a path, or a local path. Templated.
    :param file_pattern: Shell pattern, or several, for the names that are wanted, which are also all that the manifest
        lists. Templated; a list that became text is understood.
    :param overwrite: ``"verified"`` keeps what a manifest proves to be the same file and fetches the rest anew,
        ``"always"`` fetches all, ``"never"`` fails before any byte moves if a name is taken. Templated.
    :param expected_files: How many files there must be that match ``file_pattern``, or the names that must be among
        them; of the whole task, with a ``shard`` as well. Templated; a list that became text is understood.
    :param on_error: ``"collect"`` fetches what can be fetched and then fails with all reasons, ``"fail_fast"`` stops at
        the first. Templated.
    :param concurrency: Connections to the file host, over all files.
    :param part_size: Bytes of a part, 1 MiB to 1 GiB; a longer file comes in parts, several at once. At most
        ``concurrency`` parts are in memory.
    :param wait_for_link: Wait for the links first, as ``DownloadLinkSensor`` does.
    :param deferrable: With ``wait_for_link``: wait in the triggerer; default is ``[operators] default_deferrable``.
    :param poll_interval: With ``wait_for_link``: seconds between two looks.
    :param wait_timeout: With ``wait_for_link``: seconds to wait at most.
    :param not_found: With ``wait_for_link``: ``"fail"`` at once, or ``"wait"``, when the service does not know the
        task. Templated.
    :param max_consecutive_errors: With ``wait_for_link``: how many looks in a row may fail before the task does.
    :param start_from_trigger: With ``wait_for_link`` and ``deferrable``: wait in the triggerer from the first look on,
        so that no worker is needed before the links exist; but a parameter of the download that is wrong shows only
        then. For when a worker looks first all the same, see ``DownloadLinkSensor``.
    :param shard: ``(i, n)``: bring the portion ``i``, from 0 on, of ``n``; see above. Templated.
    :raises AirflowFailException: No retry can help: a parameter, the credentials, a file's name or a link is no good,
        or the task failed. Its cause is the typed error.
    :raises TaskDownloadError: Something that a retry may mend.
    """

    template_fields: ClassVar[Sequence[str]] = (  # type: ignore[misc]
        "conn_id", "remote_task_id", "destination", "file_pattern", "overwrite", "expected_files", "on_error",
        "not_found", "shard",
    )  # fmt: skip
    operator_extra_links = (DestinationLink(),)
    ui_color = "#d4e6f1"

    def __init__(
        self,
        *,
        conn_id: str,
        remote_task_id: str,
        destination: str | ObjectStoragePath,
        file_pattern: str | Sequence[str] | None = None,
        overwrite: Literal["verified", "always", "never"] = "verified",
        expected_files: int | str | Collection[str] | None = None,
        on_error: Literal["collect", "fail_fast"] = "collect",
        concurrency: int = 8,
        part_size: int = PART_SIZE,
        wait_for_link: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 60.0,
        wait_timeout: float = _WEEK,
        not_found: Literal["fail", "wait"] = "fail",
        max_consecutive_errors: int = 10,
        start_from_trigger: bool = False,
        shard: Sequence[int | str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.remote_task_id = remote_task_id
        self.destination = destination
        self.file_pattern = file_pattern
        self.overwrite = overwrite
        self.expected_files = expected_files
        self.on_error = on_error
        self.concurrency = concurrency
        self.part_size = part_size
        self.wait_for_link = wait_for_link
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self.shard = shard
        self.not_found = not_found
        self.max_consecutive_errors = max_consecutive_errors
        self.start_from_trigger = start_from_trigger
        if wait_for_link and deferrable and start_from_trigger is True:
            self.start_trigger_args = start_trigger_args(
                self,
                timeout=wait_timeout,
                poll_interval=poll_interval,
                not_found=not_found,
                max_consecutive_errors=max_consecutive_errors,
            )
            self.start_from_trigger = self.start_trigger_args is not None
        self._job: DownloadJob | None = None
        self._killed = False
        self._lineage: dict[str, Any] | None = None
        self._endpoint: str | None = None  # for the link

    def execute(self, context: Context) -> list[str]:
        """Wait if that was asked for, then download."""
        return self._run(context, self._wait_for_links if self.wait_for_link else None)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> list[str]:
        """Download what the trigger saw to be ready.

        :param context: The task's context.
        :param event: The trigger's event.
        """
        from airflow_provider_taskdl.triggers.events import read_event

        return self._run(context, lambda _: read_event(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral; Airflow's own limit of it counts as the deadline, and not as an error to retry."""
        from airflow_provider_taskdl.triggers.events import raise_if_airflow_ended

        raise_if_airflow_ended(next_method, next_kwargs, self.remote_task_id)
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Stop the transfer; what was completed stays, nothing half-written does."""
        self._killed = True
        if self._job is not None:
            self._job.cancel()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return what OpenLineage reports of this task, also if it failed: the files that are there.

        :param task_instance: The task instance.
        """
        if self._lineage is None:
            return None
        from airflow_provider_taskdl.operators.lineage import openlineage

        return openlineage(**self._lineage)

    def _run(self, context: Context, wait: Callable[[TaskApiHook], object] | None) -> list[str]:
        from airflow_provider_taskdl.exceptions import TaskDownloadError
        from airflow_provider_taskdl.hooks.base import task_hook
        from airflow_provider_taskdl.hooks.failures import as_airflow_sees_it

        self._killed = False
        try:
            hook = task_hook(self.conn_id)
            try:
                # Made first: a wait of days should not end in a parameter that is wrong.
                destination = self._make_destination()
                self._job = self._make_job(context, hook, destination)
                if wait is not None:
                    wait(hook)
                return self._download(context, hook, self._job, destination)
            finally:
                self._job = None
                hook.close()
        except TaskDownloadError as error:
            error.remote_task_id = error.remote_task_id or str(self.remote_task_id)
            failure = as_airflow_sees_it(error)
        raise failure

    def _wait_for_links(self, hook: TaskApiHook) -> None:
        from airflow_provider_taskdl.apis.readiness import LinkWatch
        from airflow_provider_taskdl.triggers.events import timed_out

        deadline = time.time() + self.wait_timeout
        watch = LinkWatch(
            hook.api,
            self.remote_task_id,
            interval=self.poll_interval,
            not_found=self.not_found,
            check_status=hook.access.extras.check_status,
            max_consecutive_errors=self.max_consecutive_errors,
        )
        while True:
            decision = hook.run_steps(watch.look())
            if decision.listing is not None:
                return
            if time.time() >= deadline:
                raise timed_out(self.remote_task_id)
            self.log.info("Task %s: %s", self.remote_task_id, decision.why)
            if self.deferrable:
                self._defer(watch, deadline, decision.wait)
            self._sleep_until(min(time.time() + decision.wait, deadline))

    def _sleep_until(self, end: float) -> None:
        # In short pieces: after a kill, Python would sleep on to the end.
        while not self._killed and (left := end - time.time()) > 0:
            time.sleep(min(left, 1.0))
        self._stop_if_killed()

    def _stop_if_killed(self) -> None:
        from airflow_provider_taskdl.exceptions import TransferError

        if self._killed:
            raise TransferError("the task was told to stop", remote_task_id=str(self.remote_task_id))

    def _defer(self, watch: LinkWatch, deadline: float, first_wait: float) -> None:
        from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger

        self.defer(
            trigger=DownloadLinkTrigger(
                conn_id=self.conn_id,
                remote_task_id=str(self.remote_task_id),
                deadline=deadline,
                poll_interval=self.poll_interval,
                not_found=self.not_found,
                max_consecutive_errors=self.max_consecutive_errors,
                errors=watch.errors,
                first_wait=first_wait,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=deadline - time.time() + GRACE_SECONDS),
        )

    def _download(self, context: Context, hook: TaskApiHook, job: DownloadJob, destination: Destination) -> list[str]:
        from airflow_provider_taskdl.operators.metrics import report
        from airflow_provider_taskdl.operators.results import files_of, hand_on

        self._lineage = {
            "service": hook.access.base_url,
            "remote_task_id": str(self.remote_task_id),
            "files": {},
            "manifest": None,
            "account": destination.account,
        }
        try:
            result: Result = job.run()
        finally:
            report(job.totals, tags={"conn_id": self.conn_id, "dag_id": self.dag_id, "task_id": self.task_id})
            self._lineage["files"] = files_of(job.entries, destination)
        self._lineage["manifest"] = destination.uri_of(result.manifest_name)
        return hand_on(context, self.outlets, result, destination, source=hook)

    def _make_destination(self) -> Destination:
        from airflow_provider_taskdl.exceptions import ConnectionConfigError
        from airflow_provider_taskdl.operators.destination import Destination

        if not 1 * MIB <= self.part_size <= 1024 * MIB:
            raise ConnectionConfigError(f"part_size must be 1 MiB ... 1 GiB in bytes, not {self.part_size}")
        destination = Destination(self.destination)
        self._endpoint = destination.endpoint
        return destination

    def _make_job(self, context: Context, hook: TaskApiHook, destination: Destination) -> DownloadJob:
        from airflow_provider_taskdl.operators.checkpoint import checkpoint_for
        from airflow_provider_taskdl.operators.job import make_job
        from airflow_provider_taskdl.operators.parameters import count_or_names, patterns, shard_of
        from airflow_provider_taskdl.transfer.checkpoint import StoreCheckpoint

        shard = shard_of(self.shard)
        return make_job(
            hook,
            self.remote_task_id,
            destination,
            go_on=self._stop_if_killed,
            pattern=patterns(self.file_pattern),
            expected=count_or_names(self.expected_files),
            overwrite=self.overwrite,
            on_error=self.on_error,
            concurrency=self.concurrency,
            part_size=self.part_size,
            checkpoint=checkpoint_for(context, StoreCheckpoint(destination.store, shard)),
            shard=shard,
        )


def shards(count: int) -> list[tuple[int, int]]:
    """Return all shards of a download, for ``DownloadToObjectStorageOperator.partial(...).expand(shard=shards(4))``.

    :param count: How many; each is a task of its own.
    :raises ConnectionConfigError: It is no number from 1 on.
    """
    from airflow_provider_taskdl.exceptions import ConnectionConfigError

    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConnectionConfigError(f"there must be at least one shard, a whole number, not {count!r}")
    return [(index, count) for index in range(count)]
