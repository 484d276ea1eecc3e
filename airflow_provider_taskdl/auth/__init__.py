"""How a request proves who sends it.

:class:`BceAuth` and :class:`TokenAuth` work with httpx and with requests, so Airflow's own HTTP operators can use
them too.
"""

from airflow_provider_taskdl.auth.bce import BceAuth
from airflow_provider_taskdl.auth.token import TokenAuth

__all__ = ["BceAuth", "TokenAuth"]
