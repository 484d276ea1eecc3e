"""What the README shows is what Airflow takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"


def test_the_dag_of_the_readme_loads() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    dag = names["wait"].dag
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == {
        "wait": set(), "fetch": {"wait"}, "count": {"fetch"},
    }  # fmt: skip
