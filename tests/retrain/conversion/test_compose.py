"""The model of a run whose photos an int8 trunk analysed: put together, not converted again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import model_file
from deploy.classifier import UNKNOWN, Classifier
from retrain.conversion import layer_errors
from retrain.quantization import quantize
from retrain.run_folder import RunFolder
from tests.helpers.conversions import add_trunk, tiny_composed, tiny_flatbuffer, tiny_trunk
from tests.helpers.runs import Invoke


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what was converted; nothing is, as the models are there."""
    tiny_trunk()
    recorded: list[Any] = []

    def convert(_graph: Any, how: Any, _photos: Any) -> bytes:
        recorded.append(how.recipe)
        return tiny_flatbuffer(how)

    monkeypatch.setattr(quantize, "quantize", convert)
    return recorded


def figures(run: Path) -> Any:
    return json.loads((run / "conversion.json").read_text("utf-8"))


def test_the_model_is_the_trunk_with_the_graphs_final_layer(
    run: Path, conversions: list[Any], invoke: Invoke
) -> None:
    add_trunk(run)
    result = invoke("convert", "--output-dir", run, "--target", "tflite-runtime==2.14")
    assert result.exit_code == 0, result.output
    assert conversions == []
    values = figures(run)
    assert (values["composed"], values["calibration_images"]) == (True, 0)
    assert values["agreement"] == 1
    assert values["mean_difference"] < 0.005
    file = model_file.read(run / "model.tflite")
    assert len(file.goldens) == 8
    assert len(file.flatbuffer) > len(tiny_composed())
    assert "putting together" in result.stderr


def test_the_trunk_is_calibrated_already(run: Path, invoke: Invoke) -> None:
    add_trunk(run)
    result = invoke("convert", "--output-dir", run, "--calibration-images", 7)
    assert result.exit_code == 2
    assert "--calibration-images: the run's trunk" in result.stderr


@pytest.mark.parametrize(
    ("metrics", "options"),
    [
        ({"trunk_sha256": "0" * 64}, ()),
        ({"trunk_sha256": None}, ()),
        ({"graph_sha256": "0" * 64}, ()),
        ({"fine_tuning": {"kept": "fine-tuned"}}, ()),
        ({}, ("--quantize", "float32")),
        ({}, ("--keep-float", "layer")),
    ],
)
def test_any_other_model_is_converted(
    run: Path, conversions: list[Any], invoke: Invoke, metrics: Any, options: tuple[str, ...]
) -> None:
    add_trunk(run, **metrics)
    result = invoke("convert", "--output-dir", run, *options)
    assert result.exit_code == 0, result.output
    assert len(conversions) == 1
    assert "composed" not in figures(run)


def test_photos_for_the_layers_errors_alone_calibrate_no_model(
    run: Path, conversions: list[Any], invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_trunk(run)
    monkeypatch.setattr(layer_errors, "explain", lambda *_: [])
    result = invoke("convert", "--output-dir", run, "--explain")
    assert result.exit_code == 0, result.output
    assert conversions == []
    assert figures(run)["calibration_images"] == 0


def test_a_trunk_that_is_gone_is_not_missed(
    run: Path, conversions: list[Any], invoke: Invoke
) -> None:
    add_trunk(run)
    RunFolder(run).trunk.unlink()
    assert invoke("convert", "--output-dir", run).exit_code == 0
    assert conversions == ["int8"]


def test_a_fine_tuning_that_was_not_kept_changes_nothing(
    run: Path, conversions: list[Any], invoke: Invoke
) -> None:
    add_trunk(run, fine_tuning={"kept": "linear"})
    assert invoke("convert", "--output-dir", run).exit_code == 0
    assert conversions == []


@pytest.mark.usefixtures("conversions")
@pytest.mark.parametrize(("right", "code"), [(11, 0), (10, 3)])
def test_the_models_accuracy_is_held_against_training(
    run: Path, invoke: Invoke, right: int, code: int
) -> None:
    per_class = dict.fromkeys(json.loads((run / "contract.json").read_text("utf-8"))["labels"])
    add_trunk(run, test={"right": right, "total": 12, "per_class": per_class})
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == code, result.output
    assert ("the model's test accuracy is 100.0%" in result.stderr) == (code == 3)
    result = invoke("convert", "--output-dir", run, "--quantize", "float32")
    assert result.exit_code == 0, result.output


def test_it_is_one_of_the_recipes_that_are_compared(
    run: Path, conversions: list[Any], invoke: Invoke
) -> None:
    add_trunk(run)
    result = invoke("convert", "--output-dir", run, "--choose", "smallest")
    assert result.exit_code == 0, result.output
    assert "int8" not in conversions
    assert len(conversions) == 4
    assert "int8" in {candidate["recipe"] for candidate in figures(run)["candidates"]}


@pytest.mark.parametrize("output_type", ["float32", "uint8"])
def test_a_photo_of_something_else_is_unknown(
    run: Path, conversions: list[Any], invoke: Invoke, output_type: str
) -> None:
    lines = (run / "manifest.csv").read_text("utf-8").splitlines(keepends=True)
    without_grey = "".join(line for line in lines if "grey" not in line)
    (run / "manifest.csv").write_text(without_grey, "utf-8")
    add_trunk(run)
    options = ("--reject-rate", 0.34, "--output-type", output_type)
    result = invoke("convert", "--output-dir", run, *options)
    assert result.exit_code == 0, result.output
    assert conversions == []
    assert figures(run)["rejection"]["photos"] == 9
    classifier = Classifier.open(run / "model.tflite")
    answer = classifier.answer(np.full((40, 40, 3), (220, 30, 220), np.uint8))
    assert answer.predictions[0].text == UNKNOWN
