"""Goldens by `retrain convert`: test photos of each class, with the scores that the model gives."""

import io
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import model_file
from deploy.check_goldens import check_goldens
from deploy.classifier import Classifier
from deploy.image import open_image, to_pixels
from retrain.conversion import make_goldens as maker
from retrain.conversion.graph_classifier import GraphClassifier
from retrain.data import split
from retrain.data.manifest import read_manifest
from retrain.data.photo import Photo
from retrain.settings.conversion import RECIPES
from tests.helpers.deploy_fixtures import LABELS, encoded, write_run

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128)]


def test_conversion_makes_them_of_each_class_and_they_pass(converted: Path) -> None:
    classifier = Classifier.open(converted / "model.tflite")
    file_goldens = classifier.file.goldens
    assert classifier.file.tolerance == 0.1
    manifest = read_manifest(converted / "manifest.csv")
    testing = Counter(photo.label for photo, name in manifest if name == split.TESTING)
    count = Counter(golden.label for golden in file_goldens)
    assert len(file_goldens) == min(8, testing.total())
    assert all(count[label] >= min(2, testing[label]) for label in LABELS)
    for golden in file_goldens:
        image = Image.open(io.BytesIO(golden.png))
        assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")
        assert sum(golden.scores) == pytest.approx(1, abs=0.02)
    assert check_goldens(classifier) == []


def test_they_are_of_test_photos_alone(converted: Path) -> None:
    file = model_file.read(converted / "model.tflite")
    small = replace(file.contract.input, height=64, width=64, crop=1.0)
    by_split: dict[str, set[bytes]] = {}
    for photo, name in read_manifest(converted / "manifest.csv"):
        pixels = to_pixels(open_image(photo.read(), small), small)
        by_split.setdefault(name, set()).add(pixels.tobytes())
    for golden in file.goldens:
        pixels = np.asarray(Image.open(io.BytesIO(golden.png)))
        assert pixels.tobytes() in by_split["testing"]
        assert pixels.tobytes() not in by_split["training"] | by_split["validation"]


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (2, 2), (100, "all")])
def test_as_many_as_are_asked_for(converted: Path, count: int, expected: int | str) -> None:
    file = model_file.read(converted / "model.tflite")
    photos = [p for p, s in read_manifest(converted / "manifest.csv") if s == split.TESTING]
    graph = GraphClassifier.open(converted / "output_graph.pb")
    file_goldens = maker.make(graph, replace(file, goldens=()), photos, count)
    assert len(file_goldens) == (len(photos) if expected == "all" else expected)


def test_a_model_that_calls_them_wrong_has_goldens_too(tmp_path: Path) -> None:
    """A golden says what the model gives, right or wrong: photos called right come first."""
    run = write_run(tmp_path)
    photos = []
    for i, (label, colour) in enumerate(
        [("red", COLOURS[1]), ("blue", COLOURS[1]), ("red", COLOURS[0]), ("blue", COLOURS[2])]
    ):
        content = encoded(Image.new("RGB", (90, 80), colour), "PNG")
        path = tmp_path / f"{i}.png"
        path.write_bytes(content)
        photos.append(Photo(path, label, sha256(content).digest()))
    graph = GraphClassifier.open(run / "output_graph.pb")
    file = model_file.read(run / "model.tflite")
    assert [golden.label for golden in maker.make(graph, file, photos, 2)] == ["red", "blue"]
    assert sorted(golden.label for golden in maker.make(graph, file, photos, 4)) == [
        "blue",
        "grün, hell",
        "grün, hell",
        "red",
    ]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("float32", 0.001), ("float16", 0.001), ("int8", 0.1), ("dynamic", 0.1), ("int16x8", 0.1)],
)
def test_the_tolerance_is_that_of_the_arithmetic(recipe: str, expected: float) -> None:
    assert RECIPES[recipe].golden_tolerance == expected
