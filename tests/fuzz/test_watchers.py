"""What is stored of a watch, and what a list says, are input: no task is told of twice by them, or settled unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from hypothesis import strategies as st

from airflow_provider_taskdl.exceptions import TaskDownloadError
from airflow_provider_taskdl.listing import ListedTask, TaskState, TaskStatus
from airflow_provider_taskdl.triggers.announced import MOST_OPEN, SLACK_SECONDS, Announced
from tests.fuzz.campaign import Several, every, family, judge
from tests.fuzz.test_api_answers import changed
from tests.fuzz.test_records import _change

NOW = 1_700_000_000.0
STORED = Announced(NOW - 500, NOW, {"a": NOW - 400.0, "b": NOW}, ("old", "older")).dump()

stored = st.one_of(
    st.builds(lambda changes: changed(json.loads(json.dumps(STORED)), changes), st.lists(_change, max_size=3)),
    st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5),
)
times = st.one_of(
    st.integers(-3000, 3000).map(lambda seconds: NOW + seconds), st.sampled_from([0.0, NOW + 10 * 86400, 4e9])
)
listed = st.lists(
    st.builds(
        lambda task_id, time, state: ListedTask(task_id, TaskStatus(state), datetime.fromtimestamp(time, timezone.utc)),
        st.sampled_from([*"abcdefgh", "old", "older"]),
        times,
        st.sampled_from(TaskState),
    ),
    max_size=8,
    unique_by=lambda task: task.remote_task_id,
)


@family(value=Several(stored), tasks=Several(listed, 4))
def test_any_memory_is_refused_or_kept(value: Any, tasks: list[ListedTask]) -> None:
    try:
        known = Announced.read(value)
    except TaskDownloadError as error:
        judge(error)
        return
    assert Announced.read(json.loads(json.dumps(known.dump(), allow_nan=False))) == known
    unsettled = known.unsettled(tasks)
    assert not {*unsettled} & {*known.settled} - {*known.open}
    check_step(known, tasks, settle=lambda task_id: True)


def check_step(known: Announced, tasks: list[ListedTask], settle: Callable[[str], bool]) -> Announced:
    unsettled = known.unsettled(tasks)
    looked_at, left = unsettled[:4], unsettled[4:]
    settled = {task_id for task_id in looked_at if settle(task_id)}
    then, given_up = known.after(tasks, settled, NOW, [each for each in looked_at if each not in settled], left)
    assert then.floor >= known.floor
    assert len(then.open) <= MOST_OPEN
    later = then.unsettled(tasks)
    assert not {*later} & settled, "told of twice"
    assert {*unsettled} - settled <= {*later, *given_up}, "settled unseen"
    return then


@family(
    first=Several(listed, 4),
    then=Several(st.lists(listed, min_size=1, max_size=4), 4),
    settle=every(lambda task_id: True, lambda task_id: False, lambda task_id: task_id < "d"),
    since=every(None, NOW - 600, NOW + 600),
)
def test_whatever_is_listed_no_task_is_told_of_twice_or_settled_unseen(
    first: list[ListedTask], then: list[list[ListedTask]], settle: Callable[[str], bool], since: float | None
) -> None:
    known = Announced.begin(first, since, NOW)
    assert since is not None or known.unsettled(first) == []
    if since is None and first:
        newest = max(
            (t.created.timestamp() for t in first if t.created and t.created.timestamp() < NOW + 86400), default=0
        )
        assert known.floor == newest - SLACK_SECONDS
    for tasks in then:
        known = check_step(known, tasks, settle)
