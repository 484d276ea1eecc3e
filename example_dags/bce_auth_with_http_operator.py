"""Any other API of Baidu AI Cloud: its signature for Airflow's own HTTP hook and operator.

Here it lists a project's export tasks, whatever their state.

Needs ``apache-airflow-providers-http`` and a connection ``bce_http`` of type HTTP: Host = the service's endpoint with
its scheme (``https://bls-log.bj.baidubce.com``), Login = Access Key ID, Password = Secret Access Key. Leave Extra
empty: ``HttpHook`` sends what it does not know there as header fields. For the same reason, and because its Host may be
empty, a ``baidu_bls`` connection is not the place.
"""

from __future__ import annotations

import json

from airflow.providers.common.compat.sdk import Param, dag  # in Airflow 3 also: airflow.sdk
from airflow.providers.http.operators.http import HttpOperator

from airflow_provider_taskdl.auth import BceAuth


@dag(
    schedule=None,
    params={"project": Param("default", type="string", description="Project of the log stores")},
    doc_md=__doc__,
    tags=["taskdl"],
)
def bce_auth_with_http_operator() -> None:
    HttpOperator(
        task_id="list_exports",
        http_conn_id="bce_http",
        auth_type=BceAuth,
        deferrable=False,  # the triggerer's HTTP library takes no signature but a name and a password
        method="POST",
        endpoint="/v2/logstore/download/list",
        headers={"Content-Type": "application/json"},
        data=json.dumps({"project": "{{ params.project }}", "pageSize": 100}),
        response_filter=lambda response: {task["uuid"]: task["state"] for task in response.json()["result"]["tasks"]},
        extra_options={"timeout": 30},  # without it, requests waits for ever
    )


bce_auth_with_http_operator()
