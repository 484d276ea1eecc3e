"""How a request proves who sends it.

:class:`BceAuth` and :class:`TokenAuth` work with httpx and with requests. ``BceAuth`` takes key and secret as Airflow's
own HTTP operators give them to an ``auth_type``: login first, then password.
"""

from airflow_provider_taskdl.auth.bce import BceAuth
from airflow_provider_taskdl.auth.token import TokenAuth

__all__ = ["BceAuth", "TokenAuth"]
