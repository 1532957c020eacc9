"""Install packages with uv or pip; skip the test where no registry is reached."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.errors import last_line


def pip(python: Path | str, *arguments: object, env: Mapping[str, str] | None = None) -> None:
    """Run pip. Skip the test without a registry; fail with pip's message with one."""
    installation = _pip(python, *arguments, env=env)
    if not installation.returncode:
        return
    with tempfile.TemporaryDirectory() as folder:
        probe = _pip(python, "download", "--no-deps", f"--dest={folder}", "click", env=env)
    if probe.returncode:
        pytest.skip(f"pip reaches no registry: {last_line(probe.stderr, 'no reason given')}")
    pytest.fail(f"pip {' '.join(map(str, arguments))}:\n{installation.stderr}")


def _pip(
    python: Path | str, *arguments: object, env: Mapping[str, str] | None
) -> "subprocess.CompletedProcess[str]":
    command = [str(python), "-m", "pip", *map(str, arguments), "--quiet"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def environment(version: str, folder: Path, *requirements: str) -> Path:
    """Return the Python of a new environment that has only `requirements`.

    uv installs them, which takes a fifth of pip's time, and pip where uv fails: uv reads no
    pip.conf. Skips the test without such a Python, or without a registry.
    """
    settings = {**os.environ, "PYENV_VERSION": version}
    settings.pop("PYTHONPATH", None)
    command = [f"python{version}", "-m", "venv", "--without-pip", str(folder)]
    try:
        process = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {command[0]}")
    if process.returncode:
        pytest.skip(f"{command[0]}: {last_line(process.stderr, 'venv failed')}")
    python = folder / "bin" / "python"
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "--no-config", "pip", "install", "--python", str(python), *requirements]
    try:
        subprocess.run(command, env=settings, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        options = ("--python", python, "install", "--no-compile")
        pip(sys.executable, *options, *requirements, env=settings)
    return python
