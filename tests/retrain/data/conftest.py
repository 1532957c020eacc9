"""Fixtures of the tests of photo folders."""

from pathlib import Path

import pytest

from tests.helpers.photo_folders import put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of two classes with one photo each."""
    put(tmp_path / "photos" / "cat" / "1.png", 1)
    put(tmp_path / "photos" / "dog" / "2.png", 2)
    return tmp_path / "photos"
