"""Starting an analysis at the Earth-observation platform."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_taskdl.operators.creation import CreateTaskOperator, number, text

if TYPE_CHECKING:
    from airflow_provider_taskdl.apis.base import Call
    from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook
    from airflow_provider_taskdl.listing import TaskState


class EoCreateAnalysisTaskOperator(CreateTaskOperator):
    """Starts an analysis of satellite images, once for each run, and returns the task's id.

    **Documented by the platform, but unproved**: its pages say what is sent and answered, and leave open which names
    are taken, whether one may be used twice, and whether a search by name is exact. What a retry adopts is looked for
    by that search and compared by the whole name; see
    :class:`~airflow_provider_taskdl.operators.creation.CreateTaskOperator`.

    XCom: the id, as text.

    :param meta_data_id: The platform's id of the data to analyse. Templated.
    :param algorithms: The algorithms' codes, or mappings of ``algorithm`` (the code) and ``analyzeParam`` (its
        parameters); a single one may stand alone. Templated.
    :param conn_id: Airflow connection of type ``eo_analysis``. Templated.
    :param name: What the task's name begins with, cut behind 29 characters. Two Airflows (staging and production) that
        run the same DAG on one account need one each: they would adopt each other's tasks. Templated.
    :param shape_wkt: The area, a polygon as WKT; all of the data by default. Templated.
    :param confidence_threshold: 0 to 1; the platform's default is 0.2. Templated.
    :param slice_width: Pixels; the platform's default is 512. Templated.
    :param slice_height: Pixels; the platform's default is 512. Templated.
    :raises AirflowFailException: No retry can help: a parameter or the credentials were refused. Its cause is the typed
        error.
    :raises TaskApiError: It is not known whether the task was made; a retry finds out.
    """

    template_fields: ClassVar[Sequence[str]] = (  # type: ignore[misc]
        "conn_id", "meta_data_id", "algorithms", "name", "shape_wkt", "confidence_threshold", "slice_width",
        "slice_height",
    )  # fmt: skip

    def __init__(
        self,
        *,
        meta_data_id: int | str,
        algorithms: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]],
        conn_id: str = "eo_analysis_default",
        name: str | None = None,
        shape_wkt: str | None = None,
        confidence_threshold: float | str | None = None,
        slice_width: int | str | None = None,
        slice_height: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, name=name, **kwargs)
        self.meta_data_id = meta_data_id
        self.algorithms = algorithms
        self.shape_wkt = shape_wkt
        self.confidence_threshold = confidence_threshold
        self.slice_width = slice_width
        self.slice_height = slice_height

    def _hook(self) -> EoAnalysisHook:
        from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook

        return EoAnalysisHook(self.conn_id)

    def _call(self, name: str) -> Call[str]:
        from airflow_provider_taskdl.exceptions import ConnectionConfigError
        from airflow_provider_taskdl.hooks.eo_analysis import EoAnalysisHook

        meta_data_id = number("meta_data_id", self.meta_data_id, int)
        if meta_data_id is None:
            raise ConnectionConfigError(
                "meta_data_id is empty; if it comes from a template, what did the template give?"
            )
        return EoAnalysisHook.api.create_analysis_task(
            meta_data_id=meta_data_id,
            task_name=name,
            algorithms=_algorithms(self.algorithms),
            shape_wkt=text(self.shape_wkt),
            confidence_threshold=number("confidence_threshold", self.confidence_threshold, float),
            slice_width=number("slice_width", self.slice_width, int),
            slice_height=number("slice_height", self.slice_height, int),
        )

    def _made(self, hook: EoAnalysisHook, name: str) -> Iterator[tuple[str | None, str | None, TaskState]]:
        for task in hook.list_analysis_tasks(name):
            yield task.task_name, task.id, task.task_state


def _algorithms(given: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    from airflow_provider_taskdl.exceptions import ConnectionConfigError

    several = list(given) if isinstance(given, Collection) and not isinstance(given, str | Mapping) else [given]
    found = [each if isinstance(each, Mapping) else {"algorithm": text(each)} for each in several]
    if not found or not all(each.get("algorithm") for each in found):
        raise ConnectionConfigError("algorithms must name at least one, each by its code")
    return found
