"""`label` on a device: a class may be called unknown, and a rejected photo is told apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from deploy import model_file
from deploy.classifier import UNKNOWN, Classifier
from deploy.cli import commands
from tests.helpers.deploy_fixtures import CONTRACT, networks

GREEN, UNSURE = (60, 180, 70), (200, 190, 50)
LABELS = ("red", UNKNOWN, "blue", "grey")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write a model that rejects a photo whose best score is below 0.7; its green is "unknown"."""
    contract = replace(CONTRACT, labels=LABELS, reject_threshold=0.7)
    path = tmp_path / "model.tflite"
    path.write_bytes(model_file.pack(networks().uint8, contract))
    return path


def label(model: Path, colour: tuple[int, int, int], *options: object) -> dict[str, Any]:
    photo = model.parent / "photo.png"
    Image.new("RGB", (40, 40), colour).save(photo)
    words = ["label", photo, "--model", model, "--json", *options]
    result = CliRunner().invoke(commands, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def test_a_photo_of_the_class_called_unknown_is_not_rejected(model: Path) -> None:
    record = label(model, GREEN)
    assert (record["labels"][0], record["unknown"]) == (UNKNOWN, False)
    assert sorted(record["labels"]) == sorted(LABELS)


def test_the_class_called_unknown_needs_the_threshold_as_any_class_does(model: Path) -> None:
    record = label(model, GREEN, "--threshold", 1)
    assert (record["labels"], record["unknown"]) == ([], False)


def test_a_rejected_photo_is_marked_and_lists_all_classes(model: Path) -> None:
    record = label(model, UNSURE)
    assert (record["labels"][0], record["unknown"]) == (UNKNOWN, True)
    assert sorted(record["labels"][1:]) == sorted(LABELS)
    record = label(model, UNSURE, "--threshold", 1)
    assert (record["labels"], record["unknown"]) == ([UNKNOWN], True)


def test_a_program_sees_a_rejection_as_a_prediction_without_a_label(model: Path) -> None:
    classifier = Classifier.open(model)
    first, second = classifier.classify(Image.new("RGB", (40, 40), UNSURE), top=2)
    assert (first.label, first.text) == (None, UNKNOWN)
    assert first.score == pytest.approx(1 - second.score)
    (best,) = classifier.classify(Image.new("RGB", (40, 40), GREEN), top=1)
    assert best.label == best.text == UNKNOWN
