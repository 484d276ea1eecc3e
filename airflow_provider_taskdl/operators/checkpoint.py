"""The checkpoint in Airflow's own memory of a task, which shows in the UI and goes with the task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_taskdl.transfer.manifest import format_entries, parse_entries

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.transfer.checkpoint import Checkpoint
    from airflow_provider_taskdl.transfer.manifest import Entry

log = logging.getLogger(__name__)

_KEY = "taskdl_checkpoint"
# Airflow warns from 64 KB on: some 200 files. More is kept beside the data.
_MAX_CHARACTERS = 60_000


def checkpoint_for(context: Context, beside: Checkpoint) -> Checkpoint:
    """Return the checkpoint of a task: in its state store where Airflow has one (from 3.3 on), else beside the data.

    :param context: The task's context.
    :param beside: The one beside the data.
    """
    try:
        return TaskStateCheckpoint(context["task_state_store"], beside)
    except KeyError:
        return beside


class TaskStateCheckpoint:
    """The checkpoint in the task state store, as far as it fits there.

    :param state: ``context["task_state_store"]``.
    :param beside: Where the rest goes.
    """

    def __init__(self, state: Any, beside: Checkpoint) -> None:
        self._state, self._beside = state, beside

    def load(self, remote_task_id: str) -> Mapping[str, Entry] | None:
        """Return what arrived in tries that did not finish, by name; ``None`` if there was none."""
        # Both: an earlier run, or one whose list was too long, has left it beside the data.
        beside = self._beside.load(remote_task_id)
        text = self._ask("get", _KEY)
        own = parse_entries(text if isinstance(text, str) else None, remote_task_id)
        if beside is None or own is None:
            return beside if own is None else own
        # Whichever is newer: it changes where it is written when the list outgrows one place, or that one fails.
        return {**beside, **{name: e for name, e in own.items() if name not in beside or e.time >= beside[name].time}}

    def save(self, remote_task_id: str, entries: Sequence[Entry]) -> None:
        """Remember what has arrived."""
        text = format_entries(remote_task_id, entries)
        if len(text) > _MAX_CHARACTERS or self._ask("set", _KEY, text) is _FAILED:
            self._beside.save(remote_task_id, entries)

    def clear(self, remote_task_id: str) -> None:
        """Forget it."""
        self._ask("delete", _KEY)
        self._beside.clear(remote_task_id)

    def _ask(self, verb: str, *args: Any) -> Any:
        try:
            return getattr(self._state, verb)(*args)
        except Exception as error:  # noqa: BLE001 - whatever ails Airflow's store: there is another place
            log.warning("Airflow's task state store refused to %s the checkpoint: %s", verb, type(error).__name__)
            return _FAILED


_FAILED = object()
