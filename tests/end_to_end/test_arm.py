"""Run the bundle in an ARM userland: Debian bookworm, its Python, the wheels that a Pi gets.

qemu-user emulates it; 200 MB of packages are downloaded.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import debian
from tests.helpers.arm_root import ArmRoot
from tests.helpers.conversions import add_trunk, rounded_weights
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.runs import Invoke

pytestmark = [pytest.mark.network, pytest.mark.emulated]


@pytest.fixture(scope="module")
def bundle(converted: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    result = invoke("bundle", "--output-dir", converted, "--bundle-dir", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def composed(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model file with familiarity that was put together, and not converted.

    Its weights are stored in int8, which needs one operator more than exact ones.
    """
    run = write_colour_run(tmp_path_factory.mktemp("composed"))
    add_trunk(run)
    with rounded_weights():
        result = invoke("convert", "--output-dir", run, "--reject-rate", 0.1)
    assert result.exit_code == 0, result.output
    return run / "model.tflite"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the roots, which share Debian's packages."""
    return tmp_path_factory.mktemp("roots")


@pytest.fixture(scope="module")
def three(photos: Path) -> list[Path]:
    """Return a photo of each class: JPEG, PNG, JPEG."""
    return sorted(photos.glob("*/*"))[::25]


def best(printed: str) -> tuple[list[str], list[float]]:
    """Return the best label of each photo and its score."""
    photos = [json.loads(line) for line in printed.splitlines()]
    return [photo["labels"][0] for photo in photos], [photo["scores"][0] for photo in photos]


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
    composed: Path,
    three: list[Path],
    roots: Path,
) -> None:
    try:
        root = make(roots, bundle)
    except debian.Missing as missing:
        pytest.skip(str(missing))
    program = bundle / "classify.pyz"
    tested = root.run(program, "selftest", bundle / "model.tflite", "--json")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    report = json.loads(tested.stdout)
    system = {**report["device"], **report["packages"], "runtime": report["runtime"]["name"]}
    assert expected.items() <= system.items()
    assert (report["passed"], report["files"]) == (True, 6)
    assert report["goldens"]["right"] == report["goldens"]["total"] >= 4

    tested = root.run(program, "selftest", composed)
    assert tested.returncode == 0, tested.stdout + tested.stderr

    classified = root.run(program, *three, "--json")
    assert classified.returncode == 0, classified.stderr
    here = subprocess.run(
        [sys.executable, program, *three, "--json"], capture_output=True, text=True, check=True
    )
    emulated, native = best(classified.stdout), best(here.stdout)
    assert emulated[0] == native[0] == [photo.parent.name for photo in three]
    assert emulated[1] == pytest.approx(native[1], abs=0.1)
