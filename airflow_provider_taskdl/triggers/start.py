"""How a wait begins in the triggerer without a worker: the scheduler makes the trigger, from what is written here."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.triggers.base import StartTriggerArgs

# How long after the trigger's own deadline Airflow ends a deferral whose trigger did not run.
GRACE_SECONDS = 120.0
# The waits of many runs that begin at once do not look at once.
_SPREAD_SECONDS = 5.0
# What Airflow's triggerer cannot look up for a template: nothing answers the question, and the trigger hangs.
_UNANSWERED = (
    r"\bxcom_pull(?!\s*\([^()]*\bmap_indexes\b)|\bprev_\w+_success\b|\b(?:task_state_store|inlet_events|outlet_events)\b"
    r"|\bget_(?:previous_dagrun|previous_ti|dag|task_breadcrumbs|first_reschedule_date)\b"
)
# What it was not given, of the run and of the task instance: there is none, or a default that looks like one.
_NOT_GIVEN = (
    r"\btriggering_asset_events\b|\btask\s*[.\[]"
    r"|\bdag_run\b[\s\S]*\b(?:consumed_asset_events|note|clear_number|triggering_user_name|team_name)\b"
    r"|\b(?:ti|task_instance)\b\W+(?:start_date|max_tries|state|is_mapped|bundle_instance)\b"
)
_FOR_A_WORKER = re.compile(f"{_UNANSWERED}|{_NOT_GIVEN}")
# What a DAG can give to its templates, and what is not written down with it: the triggerer has it not.
_OF_THE_DAG = ("user_defined_macros", "user_defined_filters", "jinja_environment_kwargs")
# What is no template, wherever the DAG has them begin.
_PLAIN = re.compile(r"[\w.:-]*")


def start_trigger_args(
    task: Any, *, timeout: float, poll_interval: float, not_found: str, max_consecutive_errors: int
) -> StartTriggerArgs | None:
    """Return from what the scheduler makes a task's trigger, or ``None`` where Airflow cannot do it right.

    Before 3.3 it never can: such a trigger's templates are not rendered, or it is never made. From then on it can
    unless a template needs what the triggerer has no answer to, or may need what the DAG defines for its templates. The
    task then goes through a worker first. (A DAG that gets the task after that was made is not known here: make it
    within ``with DAG(...)`` or with ``dag=``.)

    :param task: The task, with ``conn_id``, ``remote_task_id`` and ``execution_timeout``.
    :param timeout: Seconds to wait at most.
    :param poll_interval: Seconds between two looks.
    :param not_found: As for ``DownloadLinkTrigger``.
    :param max_consecutive_errors: As for ``DownloadLinkTrigger``.
    """
    from airflow.triggers.base import BaseTrigger, StartTriggerArgs
    from jinja2 import StrictUndefined

    if not hasattr(BaseTrigger, "render_template_fields"):
        return None
    dag = task.get_dag()
    has_more = any(getattr(dag, name, None) for name in _OF_THE_DAG)
    has_more |= getattr(dag, "template_undefined", StrictUndefined) is not StrictUndefined
    templated = {"conn_id": task.conn_id, "remote_task_id": task.remote_task_id, "not_found": not_found}
    texts = {name: _renderable(value, has_more) for name, value in templated.items()}
    if None in texts.values():
        return None
    # Nobody can tell the trigger a time of day: the scheduler only adds this to the time when it makes the trigger, and
    # that limit, which the database keeps, is what the trigger has its deadline from.
    limit = timeout + GRACE_SECONDS
    # The scheduler would end the wait when that is over, though after a worker's deferral it bounds the worker alone.
    if task.execution_timeout is not None and task.execution_timeout.total_seconds() < limit:
        return None
    return StartTriggerArgs(
        trigger_cls="airflow_provider_taskdl.triggers.download_link.DownloadLinkTrigger",
        next_method="execute_complete",
        trigger_kwargs={
            **texts,
            "deadline": None,
            "grace": GRACE_SECONDS,
            "poll_interval": poll_interval,
            "max_consecutive_errors": max_consecutive_errors,
            "first_wait": min(poll_interval, _SPREAD_SECONDS),
        },
        timeout=timedelta(seconds=limit),
    )


def _renderable(value: Any, dag_has_more: bool) -> str | None:
    """Return a parameter as text that the triggerer can render; ``None`` if it cannot.

    :param value: The parameter.
    :param dag_has_more: Whether the DAG defines anything for its templates.
    """
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(value, PlainXComArg):
        source = value.operator
        if source.is_mapped or source.get_closest_mapped_task_group() is not None:
            return None
        # One result by its number is what the triggerer can ask for; an unmapped task's is -1. "None" might be an id.
        pull = f"ti.xcom_pull(task_ids={source.task_id!r}, key={value.key!r}, map_indexes=-1)"
        return f"{{{{ {pull} | default('', true) }}}}"
    if not isinstance(value, str | int):  # the argument of a DAG or a task group, a function: a worker resolves them
        return None
    text = str(value)
    if _FOR_A_WORKER.search(text) or (dag_has_more and not _PLAIN.fullmatch(text)):
        return None
    return text
