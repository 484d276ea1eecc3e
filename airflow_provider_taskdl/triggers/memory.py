"""Where a watcher remembers: the state that Airflow keeps for an asset, from 3.3 on."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from airflow_provider_taskdl.exceptions import ConnectionConfigError, TaskDownloadError


class Memory:
    """The state of the one asset that a trigger watches for.

    :param store: What the triggerer gave to the trigger, if anything.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    async def get(self, key: str) -> Any:
        """Return what is stored, ``None`` for nothing.

        :param key: What it is stored under.
        :raises TaskDownloadError: It could not be read.
        """
        return await self._run("get", "read", key)

    async def set(self, key: str, value: Any) -> None:
        """Store something.

        :param key: What to store it under.
        :param value: JSON values.
        :raises TaskDownloadError: It could not be stored.
        """
        await self._run("set", "stored", key, value)

    async def _run(self, name: str, done: str, *arguments: Any) -> Any:
        if self._store is None:
            raise ConnectionConfigError("there is no asset that could remember what was announced: use an AssetWatcher")
        kind = ""
        try:
            # Airflow 3.3.0 and 3.3.1 have no async ones.
            if (function := getattr(self._store, f"a{name}", None)) is not None:
                return await function(*arguments)
            return await asyncio.to_thread(getattr(self._store, name), *arguments)
        except ValueError as error:
            if "concrete inlets" in str(error):
                raise ConnectionConfigError(
                    "two assets have the very same watcher, and there is no telling whose state is whose; give one of "
                    "them another poll_interval, or schedule both DAGs on one asset"
                ) from None
            kind = type(error).__name__
        except Exception as error:  # noqa: BLE001 - Airflow's database may be away in many ways
            kind = type(error).__name__
        raise TaskDownloadError(f"what was announced until now could not be {done} ({kind})", retryable=True)


def key_of(*identity: Any) -> str:
    """Return the key under which a watcher remembers.

    :param identity: What is watched; not how, so that changing that forgets nothing. JSON values.
    """
    return f"taskdl.ready.{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}"
