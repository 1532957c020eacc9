"""Photos on the oldest Pillow that a device may have: the same pixels and the same refusals."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.requirements import MIN_VERSIONS
from tests.end_to_end.test_pythons import environment
from tests.helpers.deploy_fixtures import REPOSITORY

pytestmark = pytest.mark.skipif(
    not os.environ.get("RETRAIN_DOWNLOADS"), reason="installs packages: set RETRAIN_DOWNLOADS=1"
)
TESTS = ("test_bare_image.py", "test_image_formats.py")


def test_metadata_and_formats_are_read_alike_by_the_oldest_pillow(tmp_path: Path) -> None:
    oldest = [f"{name}=={version}.*" for name, version in MIN_VERSIONS.items() if name != "click"]
    python = environment("3.11", tmp_path / "env", *oldest, "click", "pytest")
    options = ["--noconftest", "-p", "no:cacheprovider", "--quiet"]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *(REPOSITORY / "tests" / name for name in TESTS)],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
