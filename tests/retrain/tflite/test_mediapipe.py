"""Let MediaPipe Tasks open the file without further settings, and give the same scores."""

from collections.abc import Callable
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
from tests.helpers.conversions import tiny_composed
from tests.helpers.deploy_fixtures import CONTRACT, networks, probabilities


def opened(model: Path) -> vision.ImageClassifier:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(model)))
    return vision.ImageClassifier.create_from_options(options)


def scores_of(
    classifier: vision.ImageClassifier, pixels: npt.NDArray[np.uint8]
) -> dict[str, float]:
    """Return MediaPipe's score of each label, for uint8 (1, height, width, 3)."""
    image = mediapipe.Image(mediapipe.ImageFormat.SRGB, pixels[0])
    (head,) = classifier.classify(image).classifications
    return {item.category_name: item.score for item in head.categories}


@pytest.mark.parametrize(
    ("form", "tolerance"),
    [
        (lambda: networks().float32, 0.001),
        (lambda: networks().uint8, 0.02),
        (tiny_composed, 0.005),
    ],
)
def test_labels_of_any_letters_and_their_scores_are_the_same(
    form: Callable[[], bytes], tolerance: float, tmp_path: Path
) -> None:
    labels = ('red, "crimson"', "grün; hell", "蓝色 'blau' \\n", " grey\t☀ ")
    contract = replace(CONTRACT, labels=labels)
    model = tmp_path / "model.tflite"
    flatbuffer = attach(form(), describe(contract, About(), 0))
    model.write_bytes(model_file.pack(flatbuffer, contract))
    with opened(model) as theirs:
        for label, colour in zip(
            labels, [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128)], strict=True
        ):
            scores = scores_of(theirs, np.full((1, 32, 32, 3), colour, np.uint8))
            assert max(scores, key=scores.__getitem__) == label
            expected = dict(zip(labels, probabilities(colour), strict=True))
            assert scores == pytest.approx(expected, abs=tolerance)


def test_every_photo_gets_the_label_that_it_gets_here(converted: Path) -> None:
    model = converted / "model.tflite"
    ours = Classifier.open(model)
    spec, labels = ours.contract.input, ours.contract.labels
    photos = [photo for photo, _ in read_manifest(converted / "manifest.csv")]
    agree, differences = 0, []
    with opened(model) as theirs:
        for photo in photos:
            image = open_image(photo.read(), spec)
            scores, their_scores = ours.scores(image), scores_of(theirs, to_pixels(image, spec))
            assert set(their_scores) == set(labels)
            agree += max(their_scores, key=their_scores.__getitem__) == labels[scores.argmax()]
            expected = dict(zip(labels, scores, strict=True))
            differences.append(max(abs(their_scores[name] - expected[name]) for name in labels))
    assert len(photos) >= 70
    assert agree >= 0.99 * len(photos)
    assert np.mean(differences) < 0.02
