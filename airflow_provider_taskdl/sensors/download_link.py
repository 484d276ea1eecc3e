"""The sensor that waits for the links of one task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_taskdl.triggers.start import GRACE_SECONDS, start_trigger_args

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.apis.readiness import Decision, LinkWatch
    from airflow_provider_taskdl.exceptions import TaskDownloadError
    from airflow_provider_taskdl.hooks.base import TaskApiHook


class DownloadLinkSensor(BaseSensorOperator):
    """Waits until the service lists at least one file of a task and every file has a link.

    All modes (``poke``, ``reschedule``, ``deferrable=True``) decide alike and end at the same time. A task that failed
    or expired ends the wait at once with the service's reason, refused credentials and bad parameters as well;
    time-outs and 5xx answers are waited out.

    XCom: ``{"remote_task_id", "file_names", "file_count", "total_size"}``. Links are not in it: they are short-lived
    and whoever has one can read the file.

    :param conn_id: Airflow connection of type ``baidu_bls``, ``eo_analysis`` or ``eo_market``, or any whose hook is a
        ``TaskApiHook``. Templated.
    :param remote_task_id: The task's id at the service. Templated.
    :param not_found: ``"fail"`` at once, or ``"wait"``, when the service does not know the task. Templated.
    :param max_consecutive_errors: How many looks in a row may fail before the sensor does. In mode ``reschedule``
        counted over all looks from Airflow 3.3 on.
    :param deferrable: Wait in the triggerer; default is ``[operators] default_deferrable``. It looks once in each
        ``poke_interval``: ``exponential_backoff`` and ``max_wait`` are for the other modes.
    :param start_from_trigger: With ``deferrable``: wait there from the first look on, so that no worker is needed
        before the links exist. The triggerer then renders the templates. A worker looks first all the same before
        Airflow 3.3, for mapped tasks, where a template has an ``xcom_pull`` without ``map_indexes`` (a task's
        ``output`` may be used) or asks for what else the triggerer does not know (the asset events that triggered the
        run, its note, earlier runs, the task's state store and more, see ``docs/sensor.md``), and for templates in a
        DAG with macros, filters or a Jinja environment of its own.
    :raises AirflowFailException: Waiting cannot help: the task failed, expired or is unknown, the credentials or a
        parameter were refused. Its cause is the typed error.
    :raises AirflowSensorTimeout: ``timeout`` seconds passed.
    :raises TaskApiError: Too many looks in a row failed; Airflow's retries apply.
    """

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "remote_task_id", "not_found")  # type: ignore[misc]
    ui_color = "#e0ecf4"

    def __init__(
        self,
        *,
        conn_id: str,
        remote_task_id: str,
        not_found: Literal["fail", "wait"] = "fail",
        max_consecutive_errors: int = 10,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.remote_task_id = remote_task_id
        self.not_found = not_found
        self.max_consecutive_errors = max_consecutive_errors
        self.deferrable = deferrable
        self.start_from_trigger = start_from_trigger
        if deferrable and start_from_trigger is True:
            self.start_trigger_args = start_trigger_args(
                self,
                timeout=self.timeout,
                poll_interval=self.poke_interval,
                not_found=not_found,
                max_consecutive_errors=self._errors_to_outlast,
            )
            self.start_from_trigger = self.start_trigger_args is not None
        self._hook: TaskApiHook | None = None
        self._watch: LinkWatch | None = None
        self._wait = 0.0

    def execute(self, context: Context) -> Any:
        """Wait in this process, or look once and go on in the triggerer."""
        from airflow_provider_taskdl.triggers.events import timed_out

        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:
            # Else it would skip in the triggerer, where Airflow itself does so, and fail in the other modes.
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise timed_out(str(self.remote_task_id)) from None  # what all modes say, and it names the task
        finally:
            if self._hook is not None:
                self._hook.close()
            self._hook = self._watch = None

    def _defer_until(self, deadline: float) -> NoReturn:
        from airflow_provider_taskdl.triggers.download_link import DownloadLinkTrigger

        self.defer(
            trigger=DownloadLinkTrigger(
                conn_id=self.conn_id,
                remote_task_id=str(self.remote_task_id),
                deadline=deadline,
                poll_interval=self.poke_interval,
                not_found=self.not_found,
                max_consecutive_errors=self._errors_to_outlast,
                errors=self._watch.errors if self._watch else 0,
                first_wait=self._wait,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=deadline - time.time() + GRACE_SECONDS),
        )

    @property
    def _errors_to_outlast(self) -> int:
        # With silent_fail a sensor outlasts any error; see BaseSensorOperator.
        return 2**31 if self.silent_fail else self.max_consecutive_errors

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what the trigger found, or raise why it did not.

        :param context: The task's context.
        :param event: The trigger's event.
        """
        from airflow_provider_taskdl.exceptions import TaskDownloadError
        from airflow_provider_taskdl.triggers.events import read_event

        try:
            summary = read_event(event)
        except TaskDownloadError as error:
            failure = self._failure(error)
        else:
            self.log.info("Task %s: files with links: %s", self.remote_task_id, summary.get("file_count"))
            return summary
        if self.never_fail:  # as BaseSensorOperator has it for the other modes
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from failure
        raise failure

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, with time-outs as Airflow has them from 3.2 on.

        Before, one that the triggerer saw was skipped by some flags only, and Airflow's own was no time-out on 2.11.
        """
        from airflow_provider_taskdl.triggers.events import raise_if_airflow_ended

        try:
            raise_if_airflow_ended(next_method, next_kwargs, self.remote_task_id)
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            for flag in ("soft_fail", "never_fail"):
                if getattr(self, flag):
                    raise AirflowSkipException(f"Skipping due to {flag} is set to True.") from error
            raise

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once."""
        from airflow_provider_taskdl.exceptions import TaskDownloadError

        try:
            decision = self._look(context)
        except TaskDownloadError as error:
            failure = self._failure(error)
        else:
            if decision.listing is not None:
                return PokeReturnValue(is_done=True, xcom_value=decision.listing.summary())
            self._wait = decision.wait
            self.log.info("Task %s: %s", self.remote_task_id, decision.why)
            return False
        self._wait = self.poke_interval  # after an error that silent_fail lets pass
        raise failure

    def _look(self, context: Context) -> Decision:
        from airflow_provider_taskdl.apis.readiness import LinkWatch
        from airflow_provider_taskdl.hooks.base import task_hook

        count = _ErrorCount(context) if self.reschedule and not self.deferrable else None
        if self._hook is None or self._watch is None:
            self._hook = task_hook(self.conn_id)
            self._watch = LinkWatch(
                self._hook.api,
                self.remote_task_id,
                interval=self.poke_interval,
                not_found=self.not_found,
                check_status=self._hook.access.extras.check_status,
                max_consecutive_errors=self.max_consecutive_errors,
                errors=count.errors if count else 0,
                refusals=count.refusals if count else 0,
            )
        try:
            return self._hook.run_steps(self._watch.look())
        finally:
            if count:
                count.keep(self._watch.errors, self._watch.refusals)

    def _failure(self, error: TaskDownloadError) -> Exception:
        from airflow_provider_taskdl.hooks.failures import as_airflow_sees_it

        return as_airflow_sees_it(error)

    def _get_next_poke_interval(self, started_at: Any, run_duration: Callable[[], float], poke_count: int) -> float:
        """Wait as long as the service asked for, and not past the deadline: the last look is at its time.

        Asked only when there is something to wait for, so this is also where a deferrable sensor defers: what
        BaseSensorOperator makes of errors, time-outs and flags holds for its first look as well.
        """
        if self.deferrable:
            self._defer_until(time.time() + self.timeout - run_duration())
        interval = max(super()._get_next_poke_interval(started_at, run_duration, poke_count), self._wait)
        return max(0.0, min(interval, self.timeout - run_duration() + 0.01))


class _ErrorCount:
    """What went wrong in a row in this try, kept from one look to the next where Airflow can (from 3.3 on)."""

    def __init__(self, context: Context) -> None:
        self.errors = self.refusals = 0
        try:
            self._store: Any = context["task_state_store"]
        except KeyError:
            self._store = None
            return
        self._key = f"taskdl_looks_{context['ti'].try_number}"
        known: Any = self._store.get(self._key, [0, 0])
        self.errors, self.refusals = known

    def keep(self, errors: int, refusals: int) -> None:
        if self._store is not None and (errors, refusals) != (self.errors, self.refusals):
            self._store.set(self._key, [errors, refusals])
