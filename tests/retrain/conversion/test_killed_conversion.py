"""A conversion that is killed while it writes leaves nothing that is misread."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from deploy import files, model_file
from deploy.errors import GateFailed
from retrain.conversion.convert import convert
from retrain.conversion.parity import Parity
from retrain.conversion.result import ConversionResult
from retrain.run_folder import RunFolder
from retrain.settings.conversion import ConvertSettings, Quantization
from tests.helpers.runs import Invoke

pytestmark = pytest.mark.usefixtures("ready")
WRITES = 4
"""Files that a conversion writes: the model, its labels, its predictions and its record."""


class Killed(BaseException):
    """What nothing catches."""


@pytest.fixture
def trained_run(run: Path) -> Path:
    """Return a run with what `summary` reads of its training."""
    contract = RunFolder(run).read_contract()
    test = {"right": 12, "total": 12, "per_class": dict.fromkeys(contract.labels)}
    metrics = {"graph_sha256": contract.graph_sha256, "test": test, "seconds": {}}
    files.write_json(run / "metrics.json", metrics)
    return run


def conversion(run: Path, recipe: str) -> ConversionResult:
    quantization = Quantization(recipe)
    images = 4 if quantization.record.needs_calibration else ConvertSettings.calibration_images
    return convert(ConvertSettings(run, quantization, calibration_images=images))


def refused(run: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Parity, "violations", lambda *_: ["it is worse"])
        with pytest.raises(GateFailed, match=r"model\.rejected\.tflite: it is worse"):
            conversion(run, recipe)


def kill_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill what writes before its file of this number, from 0, has its name."""
    left, atomic = [number], files.atomic

    def count(path: Path) -> AbstractContextManager[IO[bytes]]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return atomic(path)

    monkeypatch.setattr(files, "atomic", count)


def convert_and_kill(run: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert to int8, killed before write `number`, counted from 0; WRITES is after the last."""
    with monkeypatch.context() as patch:
        kill_at(number, patch)
        if number < WRITES:
            with pytest.raises(Killed):
                conversion(run, "int8")
        else:
            conversion(run, "int8")


@pytest.mark.parametrize("number", range(WRITES + 1))
def test_killed_after_one_that_passed(
    trained_run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run = trained_run
    conversion(run, "float32")
    convert_and_kill(run, number, monkeypatch)
    assert not (run / "model.rejected.tflite").exists(), "a good model is called rejected"
    model = RunFolder(run).accepted_model()
    expected = "float32" if number == 0 else "int8"
    assert model_file.read(model).contract.recipe == expected
    result = invoke("summary", "--output-dir", run)
    if number in (0, WRITES):
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code == 3
        assert f"{run / 'conversion.json'}: measured on another model.tflite" in result.stderr
        assert f"run `retrain convert --output-dir {run}`" in result.stderr


@pytest.mark.parametrize("number", range(WRITES + 1))
def test_killed_after_one_that_was_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refused(run, "float32", monkeypatch)
    convert_and_kill(run, number, monkeypatch)
    if number < WRITES:
        assert model_file.read(run / "model.rejected.tflite").contract.recipe == "float32"
        with pytest.raises(GateFailed, match="the last conversion did not pass"):
            RunFolder(run).accepted_model()
    else:
        assert not (run / "model.rejected.tflite").exists()
        assert model_file.read(RunFolder(run).accepted_model()).contract.recipe == "int8"


def test_a_record_beside_a_refused_model_that_nobody_removed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the record of a model that passed and the removal of the refused one."""
    refused(run, "float32", monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        conversion(run, "int8")
    assert (run / "model.rejected.tflite").exists()
    assert model_file.read(RunFolder(run).accepted_model()).contract.recipe == "int8"
    refused(run, "float32", monkeypatch)
    with pytest.raises(GateFailed, match="the last conversion did not pass"):
        RunFolder(run).accepted_model()
