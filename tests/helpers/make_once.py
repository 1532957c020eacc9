"""Make a folder once for all worker processes of a test session."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all worker processes of this session share."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def make_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return `folder`, which the first process to ask fills with `make(folder)`; others wait."""
    ready = folder.with_name(f"{folder.name}.ready")
    with FileLock(f"{folder}.lock"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder
