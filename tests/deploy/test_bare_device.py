"""The bundle's program on a device that lacks a package, or a Python that is new enough."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deploy.bundle import write
from tests.helpers.deploy_fixtures import write_run

OLD_PYTHONS = [f"3.{minor}" for minor in range(6, 11)]
_NO_BLAS = """
raise ImportError("libopenblas.so.0: cannot open\\nshared object file", name="numpy.core._umath")
"""
_EXPLAINS = """
try:
    from numpy import core
except ImportError as error:
    raise ImportError("IMPORTANT: PLEASE READ THIS\\n\\n") from error
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("run"))
    return write(run / "model.tflite", run / "bundle").folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with click, the only package that this Python then finds."""
    assert click.__file__
    shutil.copytree(Path(click.__file__).parent, tmp_path / "site" / "click")
    return tmp_path / "site"


def run(
    bundle: Path, *arguments: str, site: Path | None = None, python: str = sys.executable
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, "-S", bundle / "classify.pyz", *arguments],
        cwd=bundle,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(site or "")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_click_the_remedy_is_named(bundle: Path) -> None:
    result = run(bundle, "photo.jpg")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: click is not installed: pip install click, or sudo apt install python3-click\n"
    )


@pytest.mark.parametrize("command", ["label", "watch"])
def test_without_numpy_the_remedy_is_named(bundle: Path, site: Path, command: str) -> None:
    result = run(bundle, command, *["photo.jpg"] * (command == "label"), site=site)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: numpy is not installed: pip install numpy, or sudo apt install python3-numpy\n"
    )


def write_numpy(site: Path) -> None:
    """Write a numpy whose library is missing, which it tells below a long explanation."""
    (site / "numpy").mkdir()
    (site / "numpy" / "__init__.py").write_text(_EXPLAINS)
    (site / "numpy" / "core.py").write_text(_NO_BLAS)


def test_a_numpy_that_does_not_load_is_told_in_a_line(bundle: Path, site: Path) -> None:
    write_numpy(site)
    result = run(bundle, "photo.jpg", site=site)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: numpy is installed but does not load: "
        "libopenblas.so.0: cannot open shared object file\n"
    )


@pytest.mark.parametrize("broken", [True, False])
def test_the_self_test_has_it_in_its_record(bundle: Path, site: Path, broken: bool) -> None:
    if broken:
        write_numpy(site)
    result = run(bundle, "selftest", "model.tflite", "--json", site=site)
    record = json.loads(result.stdout)
    assert (result.returncode, record["passed"]) == (4, False)
    (failure,) = record["failures"]
    assert failure.startswith("numpy is installed but" if broken else "numpy is not installed: pip")
    assert "FAIL: numpy is" in run(bundle, "selftest", "model.tflite", site=site).stdout


def test_a_missing_pillow_is_called_by_its_name(bundle: Path, site: Path) -> None:
    (site / "numpy.py").write_text("__version__ = '1.26'")
    result = run(bundle, "selftest", "model.tflite", "--json", site=site)
    (failure,) = json.loads(result.stdout)["failures"]
    assert failure.endswith("pip install pillow, or sudo apt install python3-pil")


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_an_old_python_says_so(bundle: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_VERSION", version)
    ask = [f"python{version}", "-c", "import sys; print(sys.executable)"]
    try:
        python = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"no Python {version}")
    result = run(bundle, "photo.jpg", python=python)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"Error: Python 3.11 or later is needed, this is {version}\n"
