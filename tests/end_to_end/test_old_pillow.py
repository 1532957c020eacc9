"""Read photos with the oldest Pillow of a device: the same pixels and the same refusals."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.requirements import MIN_VERSIONS
from tests.helpers.deploy_fixtures import REPOSITORY
from tests.helpers.packages import environment

pytestmark = pytest.mark.network
FOLDER = REPOSITORY / "tests/deploy/image_files"


def test_metadata_and_formats_are_read_alike_by_the_oldest_pillow(tmp_path: Path) -> None:
    oldest = [f"{name}=={version}.*" for name, version in MIN_VERSIONS.items() if name != "click"]
    python = environment("3.11", tmp_path / "env", *oldest, "click", "pytest")
    options = ["--noconftest", "-p", "no:cacheprovider", "--quiet"]
    process = subprocess.run(
        [python, "-m", "pytest", *options, FOLDER],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    assert " passed" in process.stdout
