"""Run the bundle on each Python of Raspberry Pi OS, with its own requirements.txt installed."""

import json
import subprocess
from pathlib import Path

import pytest

from deploy.bundle import write
from tests.helpers.deploy_fixtures import LABELS, draw_photos, write_run
from tests.helpers.packages import environment

pytestmark = pytest.mark.network
OLD = ("tflite-runtime==2.14.0", "numpy==1.26.*", "pillow", "click")


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
    installed = requirements or ("--requirement", str(bundle / "requirements.txt"))
    python = environment(version, tmp_path / "env", *installed)

    def classify(*arguments: object) -> list[str]:
        process = subprocess.run(
            [str(python), "-I", str(bundle / "classify.pyz"), *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert (process.returncode, process.stderr) == (0, "")
        return process.stdout.splitlines()

    report = json.loads(classify("selftest", bundle / "model.tflite", "--json")[0])
    assert report["device"]["python"].startswith(f"{version}.")
    assert report["runtime"]["name"] == runtime
    assert report["packages"]["numpy"].startswith(numpy)
    drawn = draw_photos(tmp_path)
    lines = [json.loads(line) for line in classify(*drawn.values(), "--json")]
    assert [line["labels"][0] for line in lines] == list(drawn) == list(LABELS)
