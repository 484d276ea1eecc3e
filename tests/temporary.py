"""Folders that are needed before any fixture is: when a module of the tests is imported."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def temporary_folder(prefix: str) -> Path:
    """Return a new folder, which goes when this process ends.

    :param prefix: What its name begins with.
    """
    folder, maker = Path(tempfile.mkdtemp(prefix=prefix)), os.getpid()

    @atexit.register
    def _remove() -> None:
        if os.getpid() == maker:  # not when a child ends that was forked of this process
            shutil.rmtree(folder, ignore_errors=True)

    return folder
