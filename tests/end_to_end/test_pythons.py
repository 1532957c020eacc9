"""The bundle on each Python of Raspberry Pi OS, with what its own requirements.txt installs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.bundle import write
from deploy.errors import last_line
from tests.helpers.deploy_fixtures import LABELS, draw_photos, write_run
from tests.helpers.packages import pip

pytestmark = pytest.mark.skipif(
    not os.environ.get("RETRAIN_DOWNLOADS"), reason="installs packages: set RETRAIN_DOWNLOADS=1"
)
OLD = ("tflite-runtime==2.14.0", "numpy==1.26.*", "pillow", "click")


def environment(version: str, folder: Path, *requirements: str) -> Path:
    """Return the Python of a new environment with `requirements` alone.

    Skips the test where there is no such Python, or no registry to install from.
    """
    settings = {**os.environ, "PYENV_VERSION": version}
    settings.pop("PYTHONPATH", None)
    make = [f"python{version}", "-m", "venv", folder]
    try:
        done = subprocess.run(make, env=settings, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {make[0]}")
    if done.returncode:
        pytest.skip(f"{make[0]}: {last_line(done.stderr, 'venv failed')}")
    python = folder / "bin" / "python"
    pip(python, "install", *requirements, env=settings)
    return python


@pytest.mark.parametrize(
    ("version", "requirements", "runtime", "numpy"),
    [
        ("3.11", OLD, "tflite-runtime", "1.26."),
        ("3.11", (), "LiteRT", "2."),
        ("3.13", (), "LiteRT", "2."),
    ],
    ids=["3.11-tflite-runtime", "3.11-litert", "3.13-litert"],
)
def test_the_bundle_runs_with_its_requirements_alone(
    tmp_path: Path, version: str, requirements: tuple[str, ...], runtime: str, numpy: str
) -> None:
    run = write_run(tmp_path)
    bundle = write(run / "model.tflite", tmp_path / "bundle").folder
    asked = requirements or ("--requirement", str(bundle / "requirements.txt"))
    python = environment(version, tmp_path / "env", *asked)

    def classify(*arguments: object) -> list[str]:
        done = subprocess.run(
            [python, "-I", bundle / "classify.pyz", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    told = json.loads(classify("selftest", bundle / "model.tflite", "--json")[0])
    assert told["device"]["python"].startswith(f"{version}.")
    assert told["runtime"]["name"] == runtime
    assert told["packages"]["numpy"].startswith(numpy)
    drawn = draw_photos(tmp_path)
    lines = [json.loads(line) for line in classify(*drawn.values(), "--json")]
    assert [line["labels"][0] for line in lines] == list(drawn) == list(LABELS)
