"""Other people's runtime: MediaPipe Tasks opens the file without help and sees what we see."""

from dataclasses import replace
from pathlib import Path

import mediapipe
import numpy as np
import numpy.typing as npt
import pytest
from mediapipe.tasks.python import BaseOptions, vision

from deploy import model_file
from deploy.classifier import Classifier
from deploy.image import open_image, to_pixels
from retrain.data.manifest import read_manifest
from retrain.settings.conversion import About
from retrain.tflite.metadata import attach, describe
from tests.conftest import Invoke
from tests.helpers.deploy_fixtures import CONTRACT, networks, probabilities

FLOWERS = Path(__file__).parents[3].parent / "shared/data/flowers"


@pytest.fixture(scope="module")
def flowers(cache_dir: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on photos of flowers."""
    if not FLOWERS.is_dir():
        pytest.skip(f"no flower photos in {FLOWERS}")
    folder = tmp_path_factory.mktemp("flowers")
    result = invoke("train", FLOWERS, "--cache-dir", cache_dir, "--output-dir", folder)
    assert result.exit_code == 0, result.output
    return folder


def opened(model: Path) -> vision.ImageClassifier:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(model)))
    return vision.ImageClassifier.create_from_options(options)


def scores_of(
    classifier: vision.ImageClassifier, pixels: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """Return what MediaPipe gives each label, for uint8 (1, height, width, 3)."""
    image = mediapipe.Image(mediapipe.ImageFormat.SRGB, pixels[0])
    (head,) = classifier.classify(image).classifications
    return {each.category_name: each.score for each in head.categories}


@pytest.mark.parametrize("form", ["float32", "uint8"])
def test_labels_of_any_letters_are_the_ones_it_tells(form: str, tmp_path: Path) -> None:
    labels = ('red, "crimson"', "grün; hell", "蓝色 'blau' \\n", " grey\t☀ ")
    contract = replace(CONTRACT, labels=labels)
    model = tmp_path / "model.tflite"
    flatbuffer = attach(getattr(networks(), form), describe(contract, About(), 0))
    model.write_bytes(model_file.pack(flatbuffer, contract))
    with opened(model) as theirs:
        for label, colour in zip(
            labels, [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128)], strict=True
        ):
            found = scores_of(theirs, np.full((1, 32, 32, 3), colour, np.uint8))
            assert max(found, key=found.__getitem__) == label
            expected = dict(zip(labels, probabilities(colour), strict=True))
            assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("recipe", ["int8", "float32"])
@pytest.mark.parametrize("run", ["trained", "flowers"])
def test_every_photo_gets_the_label_that_it_gets_here(
    run: str, recipe: str, invoke: Invoke, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Drawn photos: all of them; flowers: those of the test split."""
    folder: Path = request.getfixturevalue(run)
    for name in ("output_graph.pb", "contract.json", "manifest.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    result = invoke("convert", "--output-dir", tmp_path, "--quantize", recipe)
    assert result.exit_code == 0, result.output
    model = tmp_path / "model.tflite"
    ours = Classifier.open(model)
    spec, labels = ours.contract.input, ours.contract.labels
    manifest = read_manifest(tmp_path / "manifest.csv")
    photos = [photo for photo, split in manifest if run == "trained" or split == "testing"]
    agree, differences = 0, []
    with opened(model) as theirs:
        for photo in photos:
            image = open_image(photo.read(), spec)
            found = scores_of(theirs, to_pixels(image, spec))
            assert set(found) == set(labels)
            scores = ours.scores(image)
            agree += max(found, key=found.__getitem__) == labels[scores.argmax()]
            expected = dict(zip(labels, scores, strict=True))
            differences.append(max(abs(found[label] - expected[label]) for label in labels))
    assert len(photos) >= 70
    assert agree >= 0.99 * len(photos)
    assert np.mean(differences) < (0.001 if recipe == "float32" else 0.02)
