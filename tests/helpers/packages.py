"""Packages by pip, and what it means when there are none."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.errors import last_line


def pip(python: Path | str, *arguments: object, env: Mapping[str, str] | None = None) -> None:
    """Run pip. Skip the test where it reaches no registry; where one is reached, fail with pip."""
    done = _pip(python, *arguments, env=env)
    if not done.returncode:
        return
    with tempfile.TemporaryDirectory() as folder:
        probe = _pip(python, "download", "--no-deps", f"--dest={folder}", "click", env=env)
    if probe.returncode:
        pytest.skip(f"pip reaches no registry: {last_line(probe.stderr, 'no reason given')}")
    pytest.fail(f"pip {' '.join(map(str, arguments))}:\n{done.stderr}")


def _pip(
    python: Path | str, *arguments: object, env: Mapping[str, str] | None
) -> "subprocess.CompletedProcess[str]":
    command = [python, "-m", "pip", *map(str, arguments), "--quiet"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
