"""The device's half where only a device's packages are: no TensorFlow, the oldest runtime."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy import model_file
from deploy.bundle import write
from deploy.classifier import Classifier
from tests.helpers.conversions import tiny_composed
from tests.helpers.deploy_fixtures import DEVICE, LABELS, REPOSITORY

pytestmark = pytest.mark.skipif(
    not DEVICE.exists(), reason=f"no device environment at {DEVICE}: `make test` makes it"
)


def device(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the device's Python in `folder`, the repository being all that it can import besides."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [DEVICE, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("package", ["tensorflow", "pyarrow", "ai_edge_litert"])
def test_the_environment_has_only_a_devices_packages(package: str, tmp_path: Path) -> None:
    result = device(
        "-c", f"import sys; print(sys.version_info >= (3, 12)); import {package}", folder=tmp_path
    )
    if package == "ai_edge_litert" and result.stdout == "True\n":
        pytest.skip("from Python 3.12 LiteRT is the only runtime")
    assert f"No module named '{package}'" in result.stderr


def test_the_runtime_is_the_oldest_that_python_can_have(tmp_path: Path) -> None:
    code = (
        "import sys; from deploy.runtime import find_runtime as f; "
        "print(f().name, f().version, sys.version_info < (3, 12))"
    )
    name, version, old = device("-c", code, folder=tmp_path).stdout.split()
    if old == "True":
        assert (name, version) == ("tflite-runtime", "2.14.0")
    else:
        assert name == "LiteRT"


@pytest.fixture(scope="module")
def models(retrained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the paths of a model that was converted to each type, and of one put together."""
    composed = tmp_path_factory.mktemp("composed") / "model.tflite"
    contract = model_file.read(retrained / "model.tflite").contract
    composed.write_bytes(model_file.pack(tiny_composed(), contract))
    return {
        "int8": retrained / "model.tflite",
        "float32": retrained / "float.tflite",
        "composed": composed,
    }


@pytest.mark.parametrize("program", ["-m deploy label", "-m retrain label", "classify.pyz"])
@pytest.mark.parametrize("model", ["int8", "float32", "composed"])
def test_photos_get_the_labels_that_they_get_on_the_laptop(
    models: dict[str, Path], drawn: dict[str, Path], tmp_path: Path, program: str, model: str
) -> None:
    path = models[model]
    write(models["int8"], tmp_path / "bundle")
    result = device(
        *program.split(), *drawn.values(), "--model", path, "--json", folder=tmp_path / "bundle"
    )
    assert result.returncode == 0, result.stderr
    here = Classifier.open(path)
    for line, (label, photo) in zip(result.stdout.splitlines(), drawn.items(), strict=True):
        shown = json.loads(line)
        assert (shown["path"], shown["labels"][0]) == (str(photo), label)
        scores = dict(zip(shown["labels"], shown["scores"], strict=True))
        expected = {prediction.label: prediction.score for prediction in here.classify(photo)}
        assert next(iter(expected)) == label
        assert set(scores) == set(LABELS)
        assert scores == pytest.approx(expected, abs=0.05)


def test_the_bundle_tests_itself(retrained: Path, tmp_path: Path) -> None:
    write(retrained / "model.tflite", tmp_path / "bundle")
    result = device(
        "classify.pyz", "selftest", "model.tflite", "--json", folder=tmp_path / "bundle"
    )
    record = json.loads(result.stdout)
    assert (result.returncode, record["passed"], record["files"]) == (0, True, 6)
    assert record["runtime"]["name"] == "LiteRT" or record["runtime"]["version"] == "2.14.0"


def test_a_damaged_model_never_reaches_the_runtime(
    retrained: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    content = bytearray((retrained / "model.tflite").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "model.tflite").write_bytes(content)
    result = device(
        "-m", "deploy", "label", drawn["red"], "--model", "model.tflite", folder=tmp_path
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == "Error: model.tflite: damaged (model): copy it again\n"


@pytest.mark.parametrize("command", [["train"], ["label", "--graph", "output_graph.pb"]])
def test_what_a_device_cannot_do_names_the_packages_to_install(
    retrained: Path, drawn: dict[str, Path], command: list[str]
) -> None:
    folder = drawn["red"].parent
    result = device("-m", "retrain", *command, folder, folder=retrained)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: this command needs ")
    assert "pip install 'retrain-tflite[train]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_laptops_help_is_there_too(tmp_path: Path) -> None:
    result = device("-m", "retrain", "--help", folder=tmp_path)
    assert result.returncode == 0
    assert "label" in result.stdout
