"""Hook for the Earth-observation analysis platform."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_taskdl.apis.eo_analysis import AnalysisTask, EoAnalysisApi
from airflow_provider_taskdl.exceptions import TaskApiError
from airflow_provider_taskdl.hooks.token import TokenHook


class EoAnalysisHook(TokenHook):
    """Calls the analysis tasks of the Earth-observation platform.

    Connection type ``eo_analysis``: Host is the base URL with its path prefix, Password the API token.

    Every call raises what :meth:`TaskApiHook.list_files` raises. Source:
    eo-doc.origen.ae/api/openapi/data-analysis/get-download-url.html.

    :param conn_id: The Airflow connection.
    """

    default_conn_name: ClassVar[str] = "eo_analysis_default"
    conn_type: ClassVar[str] = "eo_analysis"
    hook_name: ClassVar[str] = "EO analysis platform"
    api: ClassVar[EoAnalysisApi] = EoAnalysisApi()

    def create_analysis_task(
        self,
        *,
        meta_data_id: int,
        task_name: str,
        algorithms: Sequence[Mapping[str, Any]],
        shape_wkt: str | None = None,
        confidence_threshold: float | None = None,
        slice_width: int | None = None,
        slice_height: int | None = None,
    ) -> str:
        """Start an analysis and return the new task's id. Documented by the platform, but unproved.

        A call that timed out may have started a task all the same: this one is not repeated on its own.

        :param meta_data_id: The platform's id of the data to analyse.
        :param task_name: A name for the task.
        :param algorithms: One mapping or more: ``algorithm``, the algorithm's code, and if it takes any,
            ``analyzeParam``, its parameters.
        :param shape_wkt: The area, a polygon as WKT; all of the data by default.
        :param confidence_threshold: 0 to 1; the platform's default is 0.2.
        :param slice_width: Pixels; the platform's default is 512.
        :param slice_height: Pixels; the platform's default is 512.
        """
        return self.run(
            self.api.create_analysis_task(
                meta_data_id=meta_data_id,
                task_name=task_name,
                algorithms=algorithms,
                shape_wkt=shape_wkt,
                confidence_threshold=confidence_threshold,
                slice_width=slice_width,
                slice_height=slice_height,
            )
        )

    def list_analysis_tasks(self, task_name: str, *, page_size: int = 100) -> Iterator[AnalysisTask]:
        """Yield the analysis tasks of a name, page by page. Documented by the platform, but unproved.

        :param task_name: The name; whether others that contain it are listed as well, the platform leaves open.
        :param page_size: Tasks per request.
        """
        number, seen, is_last = 1, 0, False
        while not is_last:
            page = self.run(self.api.list_analysis_tasks(task_name=task_name, page=number, size=page_size))
            yield from page.tasks
            seen += len(page.tasks)
            number += 1
            if page.total is not None and seen >= page.total:
                return
            is_last = not page.tasks or (page.total is None and len(page.tasks) < page_size)
        # Whether pages are counted from 0 or 1 is not said: what is missing in the end is on page 0.
        yield from self._page_0(task_name, page_size)

    def _page_0(self, task_name: str, size: int) -> tuple[AnalysisTask, ...]:
        try:
            return self.run(self.api.list_analysis_tasks(task_name=task_name, page=0, size=size)).tasks
        except TaskApiError as error:
            if error.code != "400":
                raise
        return ()  # it counts from 1, and says so
