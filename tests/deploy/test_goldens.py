"""Goldens: made of test photos, carried in the file, and noticed when a device gives others."""

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy import goldens, model_file
from deploy.classifier import Classifier
from deploy.errors import BadData
from deploy.goldens import Golden
from deploy.image import open_image, to_pixels
from deploy.model_file import ModelFile
from retrain.conversion import make_goldens as maker
from retrain.conversion.graph_classifier import GraphClassifier
from retrain.data import split
from retrain.data.manifest import read_manifest
from retrain.data.photo_folder import Photo
from retrain.settings.conversion import RECIPES
from tests.conftest import LABELS as DRAWN
from tests.helpers.deploy_fixtures import CONTRACT, LABELS, SPEC, encoded, networks, write_run

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128)]


def golden_of(classifier: Classifier, colour: tuple[int, int, int]) -> Golden:
    png = encoded(Image.new("RGB", (64, 64), colour), "PNG")
    image = open_image(png, SPEC)
    scores = classifier.scores(image)
    found = goldens.digest(to_pixels(image, SPEC))
    return Golden(png, found, LABELS[scores.argmax()], tuple(map(float, scores)))


@pytest.fixture(scope="module")
def file() -> ModelFile:
    """Return the tiny network with a golden of each label."""
    bare = ModelFile(networks().uint8, CONTRACT)
    made = tuple(golden_of(Classifier(bare), colour) for colour in COLOURS)
    assert {each.label for each in made} == set(LABELS)
    return replace(bare, goldens=made, tolerance=0.1)


def packed(file: ModelFile) -> bytes:
    return model_file.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)


def read(tmp_path: Path, content: bytes) -> ModelFile:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    return model_file.read(path)


def spoil(file: ModelFile, index: int, **values: Any) -> ModelFile:
    """Return `file` with another golden at `index`."""
    changed = list(file.goldens)
    changed[index] = replace(changed[index], **values)
    return replace(file, goldens=tuple(changed))


# In the file


def test_what_is_packed_is_read(file: ModelFile, tmp_path: Path) -> None:
    assert read(tmp_path, packed(file)) == file


def test_a_file_without_goldens_has_none(file: ModelFile, tmp_path: Path) -> None:
    content = packed(replace(file, goldens=()))
    assert b"golden" not in content
    assert read(tmp_path, content).goldens == ()


@pytest.mark.parametrize("part", [b"goldens.json", b"golden-3.png"])
def test_goldens_are_digested_like_every_part(file: ModelFile, tmp_path: Path, part: bytes) -> None:
    content = bytearray(packed(file))
    start = content.index(part) + len(part)  # its bytes follow its name in the local header
    content[start + 9] ^= 1
    with pytest.raises(BadData, match=r"model\.tflite: damaged"):
        read(tmp_path, bytes(content))


def swapped(file: ModelFile) -> ModelFile:
    labels = (LABELS[1], LABELS[0], *LABELS[2:])
    return replace(file, contract=replace(CONTRACT, labels=labels))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swapped, "golden-0.png is of 'red', the labels make it 'grün, hell'"),
        (lambda file: spoil(file, 1, label="blue"), "golden-1.png is of 'blue', the labels make"),
        (lambda file: spoil(file, 2, scores=(0.5, 0.5)), "golden-2.png has 2 scores, there are 4"),
        (lambda file: spoil(file, 3, scores=(0.0, 0.0, 0.0, float("nan"))), "nan is no number"),
        (lambda file: spoil(file, 3, scores=("a",)), "the goldens cannot be read"),
        (lambda file: replace(file, tolerance=float("inf")), "inf is no number"),
    ],
)
def test_goldens_that_disagree_with_the_rest_are_refused_though_their_digests_are_right(
    file: ModelFile, tmp_path: Path, change: Callable[[ModelFile], ModelFile], reason: str
) -> None:
    with pytest.raises(BadData, match=rf"model\.tflite: .*{reason}"):
        read(tmp_path, packed(change(file)))


def test_a_golden_whose_photo_is_not_there_is_refused() -> None:
    text = json.dumps({"tolerance": 0.1, "goldens": [{"photo": "golden-0.png"}]})
    with pytest.raises(BadData, match=r"cannot be read \('golden-0\.png' is not there\)"):
        goldens.from_json(text.encode(), {}.__getitem__, LABELS)


# On a device


def test_the_right_model_passes(file: ModelFile) -> None:
    assert goldens.check(Classifier(file)) == []


def test_another_recipe_of_the_same_network_is_within_tolerance_or_not(file: ModelFile) -> None:
    """The quantized network's goldens, run in float32: close, and not equal."""
    exact = replace(file, flatbuffer=networks().float32)
    assert goldens.check(Classifier(exact)) == []
    assert len(goldens.check(Classifier(replace(exact, tolerance=1e-6)))) == len(COLOURS)


def test_scores_that_are_not_the_goldens_are_told(file: ModelFile) -> None:
    wrong = spoil(file, 1, label=LABELS[0], scores=(1.0, 0.0, 0.0, 0.0))
    (failure,) = goldens.check(Classifier(wrong))
    assert failure.startswith("golden-1.png: grün, hell ")
    assert "% here, red 100.0% when it was converted; a score differs by " in failure
    assert failure.endswith("more than 0.1")


@pytest.mark.parametrize("value", [float("nan"), 0.5])
def test_a_runtime_that_gives_nonsense_fails_each(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    classifier = Classifier(file)
    nonsense = np.full(4, value, np.float32)
    monkeypatch.setattr(classifier, "scores", lambda _: nonsense)
    assert len(goldens.check(classifier)) == len(COLOURS)


def test_pixels_that_are_not_the_goldens_are_told(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One level of one pixel: no score would show it."""

    def off_by_one(image: Image.Image, spec: Any) -> Any:
        pixels = to_pixels(image, spec).copy()
        pixels[0, 5, 6, 1] += 1
        return pixels

    monkeypatch.setattr(goldens, "to_pixels", off_by_one)
    failures = goldens.check(Classifier(file))
    assert len(failures) == len(COLOURS)
    assert failures[0] == "golden-0.png: its pixels are not what they were at conversion"


def test_a_photo_that_is_not_decoded_here_is_told(file: ModelFile) -> None:
    (failure,) = goldens.check(Classifier(spoil(file, 2, png=b"\x89PNG\r\n\x1a\n" + bytes(40))))
    assert failure.startswith("golden-2.png: the file is damaged")


# By `retrain convert`


def test_conversion_makes_them_of_each_class_and_they_pass(converted: Path) -> None:
    classifier = Classifier.open(converted / "model.tflite")
    found = classifier.file.goldens
    assert classifier.file.tolerance == 0.1
    manifest = read_manifest(converted / "manifest.csv")
    there = Counter(photo.label for photo, name in manifest if name == split.TESTING)
    made = Counter(golden.label for golden in found)
    assert len(found) == min(8, there.total())
    assert all(made[label] >= min(2, there[label]) for label in DRAWN)
    for golden in found:
        image = Image.open(io.BytesIO(golden.png))
        assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")
        assert sum(golden.scores) == pytest.approx(1, abs=0.02)
    assert goldens.check(classifier) == []


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


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (2, 2), (100, "all")])
def test_as_many_as_are_asked_for(converted: Path, asked: int, given: int | str) -> None:
    file = model_file.read(converted / "model.tflite")
    photos = [p for p, s in read_manifest(converted / "manifest.csv") if s == split.TESTING]
    graph = GraphClassifier.open(converted / "output_graph.pb")
    made = maker.make(graph, replace(file, goldens=()), photos, asked)
    assert len(made) == (len(photos) if given == "all" else given)


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
