"""The gate refuses a model that differs from its graph, whatever the cause."""

import json
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy import classifier, image, model_file
from deploy.contract import Contract, InputSpec
from retrain.conversion import inputs
from retrain.quantization.quantize import span_byte_range
from retrain.tflite import metadata as model_metadata
from retrain.tflite.model import operators
from tests.helpers.conversions import wide_network
from tests.helpers.deploy_fixtures import DEVICE, has_tflite_runtime, write_colour_run
from tests.helpers.runs import Invoke

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("recipe", ["int8", "float32"])
def test_a_good_model_passes(run: Path, invoke: Invoke, recipe: str) -> None:
    result = invoke("convert", "--output-dir", run, "--quantize", recipe)
    assert result.exit_code == 0, result.output
    result_json = json.loads((run / "conversion.json").read_text("utf-8"))
    assert result_json["graph"]["right"] == result_json["graph"]["total"] == 12
    assert result_json["agreement"] == 1
    assert all(photo["graph"] == photo["model"] for photo in result_json["worst"])
    assert model_file.read(run / "model.tflite").contract.recipe == recipe
    largest, mean = result_json["max_difference"], result_json["mean_difference"]
    words = f"probabilities differ by {mean:.4f} in the mean, by {largest:.3f} at most, in "
    assert f"{words}{result_json['worst'][0]['photo']}\n" in result.stdout


def swapped_channels(patch: pytest.MonkeyPatch) -> None:
    """Give the model BGR."""

    def to_pixels(photo: Image.Image, spec: InputSpec) -> Any:
        return image.to_pixels(photo, spec)[..., ::-1].copy()

    patch.setattr(classifier, "to_pixels", to_pixels)


def other_mean(patch: pytest.MonkeyPatch) -> None:
    """Normalise the model's photos with another mean than the graph's."""

    def normalise(pixels: Any, spec: InputSpec) -> Any:
        return image.normalise(pixels, replace(spec, mean=60.0))

    patch.setattr(classifier, "normalise", normalise)


def other_std(patch: pytest.MonkeyPatch) -> None:
    """Tell in the model's file of another standard deviation than it has."""
    right = model_file.pack

    def pack(flatbuffer: bytes, contract: Contract, *more: Any) -> bytes:
        spec = replace(contract.input, std=64.0)
        return right(flatbuffer, replace(contract, input=spec), *more)

    patch.setattr(model_file, "pack", pack)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("spoil", "recipe", "code", "words"),
    [
        (swapped_channels, "int8", 4, "its best label is the graph's on"),
        (swapped_channels, "float32", 4, "its best label is the graph's on"),
        (other_mean, "float32", 4, "its probabilities are"),
        (other_std, "int8", 3, "the model's input has scale and zero point"),
    ],
)
def test_what_differs_between_graph_and_model_is_caught(
    run: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Patch,
    recipe: str,
    code: int,
    words: str,
) -> None:
    spoil(monkeypatch)
    result = invoke("convert", "--output-dir", run, "--quantize", recipe)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert not (run / "model.tflite").exists()


@pytest.mark.usefixtures("ready")
def test_a_target_that_cannot_run_it_refuses_before_anything_is_written(
    run: Path, invoke: Invoke
) -> None:
    before = {path.name for path in run.iterdir()}
    result = invoke("convert", "--output-dir", run, "--target", "edgetpu")
    assert result.exit_code == 3
    assert "the Edge TPU does not run this model: " in result.stderr
    assert "DEQUANTIZE" in result.stderr
    assert {path.name for path in run.iterdir()} == {*before, ".lock"}


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("target", [(), ("--target", "litert")])
def test_the_edge_tpus_recipe_is_for_the_edge_tpu_whatever_else_it_is_for(
    run: Path, invoke: Invoke, target: tuple[str, ...]
) -> None:
    result = invoke("convert", "--output-dir", run, "--quantize", "int8-edgetpu", *target)
    assert result.exit_code == 3
    assert "the Edge TPU does not run this model: " in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "tflite-runtime"), "there are litert, tflite-runtime==2.14, edgetpu"),
        (("--explain", "--quantize", "float16"), "--explain is for int8 and int8-edgetpu, not for"),
        (("--explain", "--quantize", "int16x8"), "int8-edgetpu, not for int16x8: leave out --expl"),
        (
            ("--quantize", "int8-edgetpu", "--output-type", "float32"),
            "--output-type float32 is for int8, dynamic, float16, float32 and int16x8, not for "
            "int8-edgetpu: leave it out",
        ),
        (("--time-limit", "inf"), "'--time-limit': inf is not a finite number"),
        (("--reject-rate", "nan"), "'--reject-rate': nan is not a finite number"),
        (("--time-limit", "nan"), "'--time-limit': nan is not a finite number"),
    ],
)
def test_wrong_use_is_told_before_anything_is_read(
    tmp_path: Path, invoke: Invoke, options: tuple[str, ...], words: str
) -> None:
    result = invoke("convert", "--output-dir", tmp_path / "none", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "none").exists()


def test_goldens_that_could_not_be_read_again_are_refused_before_the_work(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.goldens.MAX_JSON_BYTES", 1_000)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 2
    assert "--goldens 8: with 4 labels a model file holds the scores of 2 at most" in result.stderr
    assert "converting" not in result.stderr


@pytest.mark.usefixtures("ready")
def test_metadata_that_reads_otherwise_is_caught(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = model_metadata.attach

    def attach(flatbuffer: bytes, metadata: dict[str, Any]) -> bytes:
        return right(flatbuffer, {**metadata, "name": "another"})

    monkeypatch.setattr(model_metadata, "attach", attach)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 3
    assert "the metadata in the model differs from what was written" in result.stderr
    assert not (run / "model.tflite").exists()


def test_dense_layers_get_one_scale_for_a_runtime_that_needs_it(
    tmp_path: Path, invoke: Invoke
) -> None:
    run = write_colour_run(tmp_path, graph=wide_network())
    options = ("--quantize", "dynamic", "--target", "tflite-runtime==2.14")
    proof = ("--target-python", DEVICE) if has_tflite_runtime() else ()
    result = invoke("convert", "--output-dir", run, *options, *proof)
    assert result.exit_code == 0, result.output
    assert ("all goldens pass on tflite-runtime 2.14" in result.stderr) == bool(proof)
    flatbuffer = model_file.read(run / "model.tflite").flatbuffer
    (dense,) = [layer for layer in operators(flatbuffer) if layer.name == "FULLY_CONNECTED"]
    assert dense.version == 9
    assert "converting again: one scale for each dense layer" in result.stderr
    assert "test accuracy 100.0% (N=12, " in result.stderr
    assert json.loads((run / "conversion.json").read_text("utf-8"))["otherwise"]["agreement"] == 1


@pytest.mark.usefixtures("ready")
def test_another_python_must_pass_the_goldens(run: Path, invoke: Invoke) -> None:
    options = ("--output-dir", run, "--target-python")
    result = invoke("convert", *options, sys.executable)
    assert result.exit_code == 0, result.output
    assert f"{sys.executable}: all goldens pass on LiteRT" in result.stderr
    (run / "model.tflite").unlink()
    venv.create(run / "bare", with_pip=False)
    for program, words in (
        (run / "labels.txt", "no such program"),
        (run / "bare/bin/python", "No module named 'click'. Remedy: install click, numpy"),
    ):
        result = invoke("convert", *options, program)
        assert result.exit_code == 2
        assert words in result.stderr
        assert "converting" not in result.stderr
    fails = run / "fails"
    fails.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 3 11 || echo \'{"failures": ["wrong"]}\'\n')
    fails.chmod(0o755)
    result = invoke("convert", *options, fails)
    assert result.exit_code == 4
    assert f"{fails}: wrong" in result.stderr
    assert "another version of the target's runtime" in result.stderr
    assert "wider bounds" not in result.stderr
    assert json.loads((run / "conversion.json").read_text("utf-8"))["passed"] is False
    assert not (run / "model.tflite").exists()
    result = invoke("convert", *options, sys.executable, "--goldens", 0)
    assert result.exit_code == 2
    assert "--goldens 0 leaves none to run" in result.stderr


def test_the_layer_that_is_blamed_can_be_kept(run: Path, invoke: Invoke) -> None:
    result = invoke("convert", "--output-dir", run, "--explain")
    assert result.exit_code == 0, result.output
    table = json.loads((run / "conversion.json").read_text("utf-8"))["layers"]
    worst = table[0]
    assert set(worst) == {"name", "signal_to_noise_db", "scores_db"}
    line = f"{worst['scores_db']:5.1f} {worst['signal_to_noise_db']:5.1f}  {worst['name']}"
    assert line in result.stderr
    result = invoke("convert", "--output-dir", run, "--keep-float", worst["name"])
    assert result.exit_code == 0, result.output


def test_calibration_on_noise_is_caught(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(_photos: Any, _spec: InputSpec) -> Any:
        return span_byte_range(np.random.default_rng(0).integers(0, 256, (99, 32, 32, 3), np.uint8))

    monkeypatch.setattr(inputs, "_calibration_pixels", noise)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 4, result.output
    assert "model.rejected.tflite: it loses" in result.stderr
    assert not (run / "model.tflite").exists()
