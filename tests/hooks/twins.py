"""The two ways to ask a hook for a task's files."""

from __future__ import annotations

import asyncio

from airflow_provider_taskdl.hooks.base import TaskApiHook
from airflow_provider_taskdl.listing import FileListing


def list_sync(hook: TaskApiHook, task: str) -> FileListing:
    """List and close."""
    try:
        return hook.list_files(task)
    finally:
        hook.close()


def list_async(hook: TaskApiHook, task: str) -> FileListing:
    """Its twin."""

    async def run() -> FileListing:
        try:
            return await hook.alist_files(task)
        finally:
            await hook.aclose()

    return asyncio.run(run())
