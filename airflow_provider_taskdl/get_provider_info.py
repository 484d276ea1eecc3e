"""What Airflow discovers: pure data, read at every start of every component."""

from typing import Any

# Written out once more, since discovery must not import the API's module; a test compares the two.
_REGIONS = {
    "bj": "Beijing", "gz": "Guangzhou", "su": "Suzhou", "bd": "Baoding", "fwh": "Wuhan (financial)",
    "yq": "Yangquan", "nj": "Nanjing", "cd": "Chengdu", "hkg": "Hong Kong",
}  # fmt: skip

# The form's fields for the extras of every connection; public for packages that bring an API of their own.
SHARED_FIELDS: dict[str, Any] = {
    "timeout": {
        "label": "Timeout (s)",
        "description": "Seconds for one network operation, never for a whole download.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 86400, "default": 30},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a CA bundle on the workers.",
        "schema": {"type": ["string", "null"], "default": "true"},
    },
    "proxy": {
        "label": "Proxy",
        "description": "URL such as http://user:password@proxy.example.org:3128; empty: the environment's holds.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "allowed_link_hosts": {
        "label": "Allowed link hosts",
        "description": "Non-public hosts that download links may point to: names (*.example.org for all below), "
        "addresses and networks (10.1.0.0/16), separated by commas. Public hosts and the API's own need not be named.",
        "schema": {"type": ["string", "null"]},
    },
    "check_status": {
        "label": "Check status",
        "description": "Ask for a task's state before its links, so that a failed task ends the wait at once.",
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "requests_per_second": {
        "label": "Requests per second",
        "description": "What each running task sends to the API at most, and each triggerer over all that waits in "
        "it, such as 5 or 0.5; empty for no limit.",
        "schema": {"type": ["number", "null"], "minimum": 0.1, "maximum": 1000000},
    },
}


_BLS_FIELDS: dict[str, Any] = {
    "region": {
        "label": "Region",
        "description": "Decides the address where Endpoint is empty.",
        "schema": {
            "type": ["string", "null"],
            "enum": list(_REGIONS),
            "values_display": {code: f"{code}: {place}" for code, place in _REGIONS.items()},
            "default": "bj",
        },
    },
    "security_token": {
        "label": "Security token (STS)",
        "description": "Session token of temporary credentials; empty for permanent ones.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
}


def token_fields(header: str, prefix: str) -> dict[str, Any]:
    """Return the form's fields for the extras of a connection with a token.

    :param header: The header field that carries the token by default.
    :param prefix: What stands before the token by default.
    """
    return {
        "header_name": {
            "label": "Token header",
            "description": "The header field that carries the token.",
            "schema": {"type": ["string", "null"], "default": header},
        },
        "header_prefix": {
            "label": "Token prefix",
            "description": "What stands before the token; empty for the bare token.",
            "schema": {"type": ["string", "null"], "default": prefix},
        },
    }


# Airflow 3.3.1 and 3.3.2 take "no port" for another port than the stored one and refuse to test.
PORT_HINT = "443; without it Airflow 3.3.1 and 3.3.2 cannot test a connection"

_BLS = "Baidu Log Service (BLS)"
_EO = "EO analysis platform"
_MARKET = "EO market orders"
# Each service's page of links, and the modules that are for it alone.
_SERVICES = {
    _BLS: ("https://cloud.baidu.com/doc/BLS/s/6m348wh16", ["hooks.bls", "operators.bls"]),
    _EO: (
        "https://eo-doc.origen.ae/api/openapi/data-analysis/get-download-url.html",
        ["hooks.eo_analysis", "operators.eo_analysis"],
    ),
    _MARKET: ("https://eo-doc.origen.ae/api/market-service/order/download-link.html", ["hooks.eo_market"]),
}
# These work with every connection type.
_FOR_ALL = [
    "operators.download", "operators.join", "sensors.download_link", "triggers.download_link", "triggers.task_ready",
]  # fmt: skip


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow asks a provider for."""
    return {
        "package-name": "airflow-provider-taskdl",
        "name": "Task downloads",
        "description": "Waits for the files of a remote task and brings them, whole and verified, into object storage.",
        "integrations": [
            {"integration-name": name, "external-doc-url": page, "tags": ["service"]}
            for name, (page, _) in _SERVICES.items()
        ],
        **{kind: _modules(kind) for kind in ("hooks", "sensors", "operators", "triggers")},
        "extra-links": ["airflow_provider_taskdl.operators.links.DestinationLink"],
        "connection-types": [
            {
                "connection-type": "baidu_bls",
                "hook-class-name": "airflow_provider_taskdl.hooks.bls.BlsHook",
                "hook-name": _BLS,
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {"host": "Endpoint", "login": "Access Key ID", "password": "Secret Access Key"},
                    "placeholders": {"host": "empty for https://bls-log.<region>.baidubce.com", "port": PORT_HINT},
                },
                "conn-fields": {**_BLS_FIELDS, **SHARED_FIELDS},
            },
            {
                "connection-type": "eo_analysis",
                "hook-class-name": "airflow_provider_taskdl.hooks.eo_analysis.EoAnalysisHook",
                "hook-name": _EO,
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "extra"],
                    "relabeling": {"host": "Base URL", "password": "API token"},
                    "placeholders": {"host": "https://eo.example.org/api/openapi", "port": PORT_HINT},
                },
                "conn-fields": {**token_fields("Authorization", "Bearer"), **SHARED_FIELDS},
            },
            {
                "connection-type": "eo_market",
                "hook-class-name": "airflow_provider_taskdl.hooks.eo_market.EoMarketHook",
                "hook-name": _MARKET,
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "extra"],
                    "relabeling": {"host": "Base URL", "password": "API key"},
                    "placeholders": {"host": "https://eo.example.org/market_service", "port": PORT_HINT},
                },
                "conn-fields": {**token_fields("X-API-Key", ""), **SHARED_FIELDS},
            },
        ],
    }


def _modules(kind: str) -> list[dict[str, Any]]:
    return [
        {
            "integration-name": name,
            "python-modules": [
                f"airflow_provider_taskdl.{each}" for each in (*_FOR_ALL, *own) if each.startswith(f"{kind}.")
            ],
        }
        for name, (_, own) in _SERVICES.items()
    ]
