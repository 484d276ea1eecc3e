"""Making a task at a service once, though Airflow may run what makes it several times."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_taskdl.listing import TaskState

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_taskdl.apis.base import Call
    from airflow_provider_taskdl.hooks.base import TaskApiHook

N = TypeVar("N", int, float)

_KEY = "taskdl_created"
_PREFIX = "airflow"
# The services name no limit for names as a whole; the narrowest that their pages name anywhere is 50.
_MAX_NAME = 50
_OVER = (TaskState.FAILED, TaskState.EXPIRED)


class CreateTaskOperator(BaseOperator):
    """Base of the operators that make a task at a service: one for each task instance, however often it is tried.

    The remote task's name ends in a digest of DAG, run, task, map index and parameters. A try that finds a task of that
    name at the service adopts it, unless it failed or expired; so does one whose answer was lost. What was made is
    remembered in Airflow's task state store as well, where there is one (from 3.3 on).

    A subclass says how a task is made and which ones there are.

    :param conn_id: The Airflow connection. Templated.
    :param name: What the remote task's name begins with, cut behind 29 characters. Two Airflows (staging and
        production) that run the same DAG on one account need one each: they would adopt each other's tasks. Templated.
    """

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "name")  # type: ignore[misc]
    ui_color = "#fdebd0"

    def __init__(self, *, conn_id: str, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.name = name

    @abstractmethod
    def _hook(self) -> TaskApiHook:
        """Return the service's hook."""

    @abstractmethod
    def _call(self, name: str) -> Call[str]:
        """Return the call that makes a task of that name, and gives its id."""

    @abstractmethod
    def _made(self, hook: Any, name: str) -> Iterable[tuple[str | None, str | None, TaskState]]:
        """Yield name, id and state of tasks at the service, all of that name among them; the newest first, if told."""

    def execute(self, context: Context) -> str:
        """Make the task, or find the one that an earlier try made, and return its id."""
        from airflow_provider_taskdl.exceptions import TaskDownloadError
        from airflow_provider_taskdl.hooks.failures import as_airflow_sees_it

        try:
            hook = self._hook()
            try:
                return self._make_or_find(context, hook)
            finally:
                hook.close()
        except TaskDownloadError as error:
            failure = as_airflow_sees_it(error)
        raise failure

    def _make_or_find(self, context: Context, hook: TaskApiHook) -> str:
        ti, memory = context["ti"], _Memory(context, hook.access.base_url)
        name = unique_name(self.name, ti, self._call("").body or {})
        task_id = self._remembered(hook, name, memory.recall(name))
        if task_id is None and ti.try_number > 1:
            task_id = self._find(hook, name)
        if task_id is None:
            task_id = self._make(hook, name)
        memory.keep(name, task_id)
        return task_id

    def _make(self, hook: TaskApiHook, name: str) -> str:
        from airflow_provider_taskdl.exceptions import TaskDownloadError

        try:
            task_id = hook.run(self._call(name))
        except TaskDownloadError as error:
            if not error.retryable:
                raise
            lost = error
        else:
            self.log.info("Task %s was made at the service, under the name %s", task_id, name)
            return task_id
        # Its answer did not arrive; the question may have. If it cannot be seen now, the next try looks again.
        self.log.warning("It is not known whether the task was made: %s", lost)
        try:
            found = self._find(hook, name)
        except TaskDownloadError as error:
            self.log.warning("Nor can it be looked for: %s", error)
            found = None
        if found is None:
            raise lost
        return found

    def _find(self, hook: TaskApiHook, name: str) -> str | None:
        from airflow_provider_taskdl.apis.base import is_task_id

        for known_name, task_id, state in self._made(hook, name):
            if known_name != name or task_id is None or not is_task_id(task_id):
                continue
            if state not in _OVER:
                self.log.info("Task %s was made by an earlier try, under the name %s; it is %s", task_id, name, state)
                return task_id
            self.log.info("Task %s, made by an earlier try, has %s: it is not used again", task_id, state)
        return None

    def _remembered(self, hook: TaskApiHook, name: str, task_id: str | None) -> str | None:
        from airflow_provider_taskdl.exceptions import TaskApiError, TaskNotFoundError

        call = None if task_id is None else hook.api.get_status(task_id)
        if task_id is None or call is None:
            return task_id
        try:
            state = hook.run(call).state
        except TaskNotFoundError:
            self.log.info("Task %s, made by an earlier try, is not there any more", task_id)
            return None
        except TaskApiError as error:
            if not error.retryable:
                return task_id  # the state cannot be asked for here; that it was made is known
            lost = error
        else:
            if state in _OVER:
                self.log.info("Task %s, made by an earlier try, has %s: it is not used again", task_id, state)
                return None
            self.log.info("Task %s was made by an earlier try; it is %s", task_id, state)
            return task_id
        # Of all pages the state's is the likeliest to be missing: as a try does that remembers nothing.
        if (found := self._find(hook, name)) is None:
            raise lost
        return found


class _Memory:
    """What an earlier try made, where Airflow can keep it (from 3.3 on); elsewhere the name at the service must do.

    :param context: The task's context.
    :param service: Where it was made: what another one remembers, or another region, is none of this one's.
    """

    def __init__(self, context: Context, service: str) -> None:
        self._service = service
        try:
            self._store: Any = context["task_state_store"]
        except KeyError:
            self._store = None

    def recall(self, name: str) -> str | None:
        known: Any = None if self._store is None else self._store.get(_KEY, None)
        is_ours = isinstance(known, list) and len(known) == 3 and known[:2] == [name, self._service]
        return str(known[2]) if is_ours else None

    def keep(self, name: str, task_id: str) -> None:
        if self._store is not None:
            self._store.set(_KEY, [name, self._service, task_id])


def unique_name(wanted: str | None, ti: Any, parameters: Mapping[str, Any]) -> str:
    """Return a name that no other task instance, and no other parameters, have.

    :param wanted: What it begins with.
    :param ti: The task instance.
    :param parameters: As the service gets them.
    """
    identity = [ti.dag_id, ti.run_id, ti.task_id, ti.map_index, dict(parameters)]
    mark = hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:20]
    start = (text(wanted) or "").strip() or _PREFIX
    return f"{start[: _MAX_NAME - len(mark) - 1].strip()}-{mark}"


def text(value: Any) -> Any:
    """Return a parameter that a template may have left as a number; ``None`` if it is empty.

    :param value: Its value.
    """
    if isinstance(value, bool):
        return None
    return str(value) if isinstance(value, int | float) else value or None


def number(parameter: str, value: object, kind: type[N]) -> N | None:
    """Return a parameter that a template may have left as text; ``None`` if it is empty.

    :param parameter: Its name.
    :param value: Its value.
    :param kind: ``int`` or ``float``.
    :raises ConnectionConfigError: It is no such number.
    """
    from airflow_provider_taskdl.exceptions import ConnectionConfigError

    digits = "" if value is None else str(value).strip()
    try:
        return kind(digits) if digits else None
    except ValueError:
        problem = f"{parameter} must be a number, not {value!r}"
    raise ConnectionConfigError(problem)
