"""The bundle in a real ARM userland: Debian bookworm, its Python, the wheels that a Pi gets.

Emulated by qemu-user, which takes minutes, and 200 MB of packages: only with RETRAIN_DOWNLOADS=1.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Invoke
from tests.helpers import debian
from tests.helpers.arm_root import ArmRoot

pytestmark = pytest.mark.skipif(
    not os.environ.get("RETRAIN_DOWNLOADS"),
    reason="downloads packages and emulates ARM for minutes: set RETRAIN_DOWNLOADS=1",
)


@pytest.fixture(scope="module")
def bundle(converted: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    result = invoke("bundle", "--output-dir", converted, "--bundle-dir", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def five(photos: Path) -> list[Path]:
    return sorted(photos.glob("*/*"))[::14][:5]


def best(printed: str) -> tuple[list[str], list[float]]:
    shown = [json.loads(line) for line in printed.splitlines()]
    return [each["labels"][0] for each in shown], [each["scores"][0] for each in shown]


def litert(folder: Path, bundle: Path) -> ArmRoot:
    root = ArmRoot("arm64", folder)
    root.install("--requirement", str(bundle / "requirements.txt"))
    return root


def old_runtime(folder: Path, bundle: Path) -> ArmRoot:  # noqa: ARG001 (as the others)
    root = ArmRoot("arm64", folder)
    root.install("tflite-runtime==2.14.0", "numpy<2", "pillow", "click")
    return root


def bits_32(folder: Path, bundle: Path) -> ArmRoot:  # noqa: ARG001 (as the others)
    root = ArmRoot("armhf", folder, "python3-numpy", "python3-pil", "python3-click")
    root.install("tflite-runtime==2.14.0", dependencies=False)
    return root


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (litert, {"architecture": "aarch64", "bits": 64, "runtime": "LiteRT"}),
        (old_runtime, {"architecture": "aarch64", "bits": 64, "runtime": "tflite-runtime"}),
        (
            bits_32,
            {
                "architecture": "armv7l",
                "bits": 32,
                "runtime": "tflite-runtime",
                "numpy": "1.24.2",
                "pillow": "9.4.0",
            },
        ),
    ],
    ids=["aarch64-litert", "aarch64-tflite-runtime", "armhf-debian"],
)
def test_the_bundle_runs_on_arm(
    make: Callable[[Path, Path], ArmRoot],
    expected: dict[str, object],
    bundle: Path,
    five: list[Path],
    tmp_path: Path,
) -> None:
    try:
        root = make(tmp_path, bundle)
    except debian.Missing as missing:
        pytest.skip(str(missing))
    program = bundle / "classify.pyz"
    tested = root.run(program, "selftest", bundle / "model.tflite", "--json")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    told = json.loads(tested.stdout)
    found = {**told["device"], **told["packages"], "runtime": told["runtime"]["name"]}
    assert expected.items() <= found.items()
    assert (told["passed"], told["files"]) == (True, 6)
    assert told["goldens"]["right"] == told["goldens"]["total"] >= 4

    classified = root.run(program, *five, "--json")
    assert classified.returncode == 0, classified.stderr
    here = subprocess.run(
        [sys.executable, program, *five, "--json"], capture_output=True, text=True, check=True
    )
    there, wanted = best(classified.stdout), best(here.stdout)
    assert there[0] == wanted[0] == [each.parent.name for each in five]
    assert there[1] == pytest.approx(wanted[1], abs=0.1)
