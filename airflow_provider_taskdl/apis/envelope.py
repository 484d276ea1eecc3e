"""The envelope that many services answer in: ``{"code": 200, "message": "success", "data": ...}``."""

from __future__ import annotations

from typing import Any, NoReturn

from airflow_provider_taskdl.apis.base import (
    Answer,
    M,
    ServiceText,
    TaskApi,
    WireModel,
    raise_for_status,
    read_json,
    read_model,
    read_refusal,
)
from airflow_provider_taskdl.exceptions import TaskNotFoundError


class _Envelope(WireModel):
    code: int
    message: ServiceText | None = None
    data: Any = None


class _Refusal(WireModel):
    code: int | None = None
    message: ServiceText | None = None


class EnvelopeApi(TaskApi):
    """Base of the APIs with this envelope; whether HTTP's status mirrors the body's ``code`` does not matter."""

    def _data(self, answer: Answer, model: type[M]) -> M | None:
        """Return what is in the envelope, ``None`` if nothing is.

        :param answer: The answer.
        :param model: What ``data`` looks like.
        :raises TaskApiError: The service refused; which one, the code says.
        """
        if answer.status >= 300:
            self._raise_refusal(answer)
        envelope = read_json(answer, _Envelope, self.service)
        if envelope.code != 200:
            self._raise_for_code(answer, envelope.code, envelope.message)
        return None if envelope.data is None else read_model(envelope.data, model, self.service)

    def _says_not_found(self, code: int, message: str) -> bool:
        """Tell whether a refusal means that the service does not know the task."""
        return code == 404

    def _raise_refusal(self, answer: Answer) -> NoReturn:
        refusal = read_refusal(answer, _Refusal, self.service)
        if refusal.code in (None, 200):
            raise_for_status(answer, self.service, code=None, message=refusal.message)
        self._raise_for_code(answer, refusal.code, refusal.message)

    def _raise_for_code(self, answer: Answer, code: int | None, message: str | None) -> NoReturn:
        if code is not None and self._says_not_found(code, message or ""):
            text = f"{self.service} does not know this task: {message or 'not found'}"
            raise TaskNotFoundError(text, code=str(code))
        status = answer.status if _http_knows_better(answer.status, code) else code
        raise_for_status(answer, self.service, code=str(code), message=message, status=status)


def _http_knows_better(http: int, code: int | None) -> bool:
    # A gateway tells of refused credentials by HTTP alone; a code that is none of HTTP's says nothing of the weather.
    if http in (401, 403, 407):
        return True
    is_weather = http in (408, 425, 429) or http >= 500
    return is_weather and not (code is not None and 400 <= code < 600)
