"""The gate gates: what goes wrong between graph and model is refused, whatever it is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Invoke
from deploy_fixtures import networks, write_run
from PIL import Image

from deploy import classifier, metadata
from deploy.contract import Contract, InputSpec
from retrain import converter, recipes
from retrain.dataset import scan, write_manifest

COLOURS = {"red": (200, 60, 50), "grün, hell": (60, 180, 70), "blue": (40, 60, 200)}
Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run folder of the tiny network, which tells colours; a third of the photos tests."""
    random = np.random.default_rng(0)
    for label, colour in {**COLOURS, "grey": (128, 128, 128)}.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(9):
            pixels = np.clip(random.normal(colour, 4, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    folder = tmp_path / "run"
    folder.mkdir()
    write_run(folder)
    (folder / "model.tflite").unlink()
    photos = scan(tmp_path / "photos").photos
    splits = [("training", "validation", "testing")[i % 3] for i in range(len(photos))]
    write_manifest(folder / "manifest.csv", photos, splits)
    return folder


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the networks that were converted already."""

    def made(_graph: bytes, how: recipes.Quantization, *_: Any) -> bytes:
        return networks().uint8 if how.recipe == "int8" else networks().float32

    monkeypatch.setattr(recipes, "quantize", made)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("recipe", ["int8", "float32"])
def test_a_good_model_passes(run: Path, invoke: Invoke, recipe: str) -> None:
    result = invoke("convert", "--output-dir", run, "--quantize", recipe)
    assert result.exit_code == 0, result.output
    found = json.loads((run / "conversion.json").read_text("utf-8"))
    assert found["graph"]["right"] == found["graph"]["total"] == 12
    assert found["agreement"] == 1
    assert [each["graph"] for each in found["worst"]] == [each["model"] for each in found["worst"]]
    assert metadata.read(run / "model.tflite").contract.recipe == recipe


def swapped_channels(patch: pytest.MonkeyPatch) -> None:
    """Give the model BGR."""
    right = classifier.to_pixels
    patch.setattr(classifier, "to_pixels", lambda image, spec: right(image, spec)[..., ::-1].copy())


def permuted_labels(patch: pytest.MonkeyPatch) -> None:
    """Name the outputs in the model's file in another order."""
    right = metadata.pack

    def pack(flatbuffer: bytes, contract: Contract, *more: Any) -> bytes:
        return right(flatbuffer, replace(contract, labels=contract.labels[::-1]), *more)

    patch.setattr(metadata, "pack", pack)


def other_mean(patch: pytest.MonkeyPatch) -> None:
    """Normalise the model's photos with another mean than the graph's."""
    right = classifier.normalise

    def normalise(pixels: Any, spec: InputSpec) -> Any:
        return right(pixels, replace(spec, mean=60.0))

    patch.setattr(classifier, "normalise", normalise)


def other_std(patch: pytest.MonkeyPatch) -> None:
    """Tell in the model's file of another standard deviation than it has."""
    right = metadata.pack

    def pack(flatbuffer: bytes, contract: Contract, *more: Any) -> bytes:
        spec = replace(contract.input, std=64.0)
        return right(flatbuffer, replace(contract, input=spec), *more)

    patch.setattr(metadata, "pack", pack)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("spoil", "recipe", "code", "words"),
    [
        (swapped_channels, "int8", 4, "its best label is the graph's on"),
        (swapped_channels, "float32", 4, "its best label is the graph's on"),
        (permuted_labels, "int8", 3, "the labels make it"),
        (permuted_labels, "float32", 3, "the labels make it"),
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


def test_calibration_on_noise_is_caught(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(_photos: Any, _spec: InputSpec) -> Any:
        return recipes.spanned(np.random.default_rng(0).integers(0, 256, (99, 32, 32, 3), np.uint8))

    monkeypatch.setattr(converter, "_calibration", noise)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 4, result.output
    assert "model.rejected.tflite: it loses" in result.stderr
    assert not (run / "model.tflite").exists()
