"""The built site, for the tests of the documentation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.make_once import make_once

REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = ("retrain", "deploy", "bench")
_NO_NETWORK = ("unshare", "--map-root-user", "--net")
"""Runs a command in a namespace of its own, in which no network exists."""


def without_network() -> tuple[str, ...]:
    """Return the words that run a command without network; none where a user may not do that."""
    if shutil.which(_NO_NETWORK[0]):
        attempt = subprocess.run([*_NO_NETWORK, "true"], capture_output=True, check=False)
        if attempt.returncode == 0:
            return _NO_NETWORK
    return ()


def build_site(project: Path) -> None:
    """Build the site strictly, from a copy of its sources in the folder `project`."""
    shutil.copy(REPOSITORY / "mkdocs.yml", project)
    shutil.copytree(
        REPOSITORY / "docs", project / "docs", ignore=shutil.ignore_patterns("__pycache__")
    )
    for package in _PACKAGES:
        (project / package).symlink_to(REPOSITORY / package)
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    process = subprocess.run(
        [*without_network(), sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=project,
        env={**os.environ, **nowhere, "PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stdout


@pytest.fixture(scope="session")
def site(shared: Path) -> Path:
    """Return the folder of the built site. Not to be changed."""
    return make_once(shared / "docs", build_site) / "build/site"
