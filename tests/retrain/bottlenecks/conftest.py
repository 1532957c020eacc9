"""Fixtures of the cache's tests: bottlenecks that commands wrote."""

from pathlib import Path

import pytest

from tests.helpers.caches import BottleneckFolder
from tests.helpers.make_once import make_once
from tests.helpers.runs import Invoke


@pytest.fixture(scope="session")
def original(photos: Path, cache_dir: Path, invoke: Invoke, shared: Path) -> BottleneckFolder:
    """Return the bottlenecks of `photos`. Not to be changed."""
    folder = BottleneckFolder(invoke, photos, cache_dir, shared / "bottlenecks")
    make_once(folder.place, lambda _: folder.fill())
    return folder


@pytest.fixture
def folder(original: BottleneckFolder, tmp_path: Path) -> BottleneckFolder:
    """Return a copy of the bottlenecks."""
    return original.copy(tmp_path)
