"""`convert --reject-rate`: a photo that is like none of the training photos is unknown."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy import model_file
from deploy.classifier import UNKNOWN, Classifier
from deploy.contract import Contract
from retrain import tf_graph
from retrain.conversion import parity, unknown
from retrain.data.manifest import read_manifest, write_manifest
from retrain.data.photo import Photo
from retrain.data.photo_folder import scan
from retrain.frozen_graph import FrozenGraph
from retrain.predictions import read_predictions
from retrain.progress import Progress
from retrain.tflite.final_layer import Dense
from tests.helpers.deploy_fixtures import COLOURS, LABELS, SPEC, WEIGHTS, networks, write_colour_run
from tests.helpers.runs import Invoke

STRANGE = [(220, 30, 220), (30, 220, 220), (220, 220, 30)]
"""Mixtures: the network has no class for them, and its softmax takes them for one of two."""


def colour(rgb: tuple[int, ...]) -> Any:
    pixels = np.random.default_rng(1).normal(rgb, 4, (40, 40, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def validation(run: Path) -> list[Any]:
    return [photo for photo, name in read_manifest(run / "manifest.csv") if name == "validation"]


def remove_grey(run: Path) -> None:
    """Remove grey photos from the manifest: the network has no feature for grey."""
    lines = (run / "manifest.csv").read_text("utf-8").splitlines(keepends=True)
    without_grey = "".join(line for line in lines if "grey" not in line)
    (run / "manifest.csv").write_text(without_grey, "utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """Return a run folder that was converted to int8 with a reject rate of a third."""
    run = write_colour_run(tmp_path_factory.mktemp("rejecting"))
    remove_grey(run)
    result = invoke("convert", "--output-dir", run, "--reject-rate", 0.34)
    assert result.exit_code == 0, result.output
    return run


def test_a_photo_of_something_else_is_unknown(run: Path) -> None:
    classifier = Classifier.open(run / "model.tflite")
    for rgb in STRANGE:
        answer = classifier.answer(colour(rgb), top=9)
        assert answer.rejected
        labels = [prediction.text for prediction in answer.predictions]
        assert (labels[0], sorted(labels[1:])) == (UNKNOWN, sorted(LABELS))
        assert answer.predictions[0].score == pytest.approx(1 - answer.predictions[1].score)
        assert answer.predictions[1].score < 0.1


def test_without_it_the_network_names_one_of_its_classes(run: Path) -> None:
    contract = Contract.from_json((run / "contract.json").read_bytes())
    plain = model_file.ModelFile(networks().uint8, contract)
    for rgb in STRANGE:
        (best,) = Classifier(plain).classify(colour(rgb), top=1)
        assert best.label in LABELS
        assert best.score > 0.3


def test_photos_of_known_classes_are_known_but_for_the_rate(run: Path) -> None:
    rejection = json.loads((run / "conversion.json").read_text("utf-8"))["rejection"]
    classifier = Classifier.open(run / "model.tflite")
    assert rejection["threshold"] == classifier.contract.reject_threshold
    photos = validation(run)
    rejected = [classifier.answer(photo.read()).rejected for photo in photos]
    assert (rejection["rate"], rejection["photos"]) == (0.34, len(photos)) == (0.34, 9)
    assert rejection["rejected"] == sum(rejected) <= 3


def test_the_rate_is_measured_on_the_test_photos_too(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(worst: float, photos: Sequence[Photo]) -> Any:
        best = np.linspace(0.9, worst, len(photos), dtype=np.float32)[:, np.newaxis]
        return np.hstack([best, np.zeros((len(photos), len(LABELS) - 1), np.float32)])

    run = write_colour_run(tmp_path)
    remove_grey(run)
    monkeypatch.setattr(unknown, "model_scores", lambda _, photos, __: scores(0.5, photos))
    monkeypatch.setattr(parity, "model_scores", lambda _, photos, __: scores(0.1, photos))
    options = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)
    result = invoke("convert", "--output-dir", run, "--reject-rate", 0.85, *options)
    assert result.exit_code == 0, result.output
    assert "unknown below a score of 0.850: 7 of 9 validation photos, 8 of 9 test" in result.stdout
    rejection = json.loads((run / "conversion.json").read_text("utf-8"))["rejection"]
    assert (rejection["test_photos"], rejection["test_rejected"]) == (9, 8)


def test_its_labels_and_accuracy_are_those_of_the_plain_graph(run: Path) -> None:
    figures = json.loads((run / "conversion.json").read_text("utf-8"))
    assert figures["graph"]["right"] == figures["model"]["right"] == 9
    assert model_file.read(run / "model.tflite").contract.labels == LABELS


def test_an_unfamiliar_photo_of_the_first_class_is_not_right(
    tmp_path: Path, invoke: Invoke
) -> None:
    """All its scores are 0, of which the first is the largest."""
    run, photos = write_colour_run(tmp_path), tmp_path / "photos"
    shutil.rmtree(photos / "grey")
    Image.fromarray(colour(STRANGE[0])).save(photos / LABELS[0] / "2.png")
    names = [f"{number}.png" for number in range(9)]
    splits = [("training", "validation", "testing")[i % 3] for i in range(3 * len(names))]
    write_manifest(run / "manifest.csv", scan(photos).photos, splits)
    bounds = ("--min-agreement", 0, "--max-mean-difference", 1)
    result = invoke("convert", "--output-dir", run, "--reject-rate", 0.34, *bounds)
    assert result.exit_code == 0, result.output
    figures = json.loads((run / "conversion.json").read_text("utf-8"))
    assert [figures[name]["right"] for name in ("graph", "model")] == [8, 8]
    rows = read_predictions(run / "model_predictions.parquet", "").rows
    (wrong,) = [row for row in rows if not row.is_right]
    assert (wrong.label, wrong.predicted, wrong.probability) == (LABELS[0], UNKNOWN, 0)


def test_label_prints_unknown_whatever_the_threshold(
    run: Path, invoke: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / "strange.png"
    Image.fromarray(colour(STRANGE[0])).save(path)
    red = tmp_path / "red.png"
    Image.fromarray(colour(COLOURS["red"])).save(red)
    options = ("--model", run / "model.tflite", "--threshold", 0.999)
    result = invoke("label", path, red, *options, "--json")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["unknown"], second["unknown"]) == (True, False)
    assert first["labels"] == [UNKNOWN]
    assert result.exit_code == 0
    assert "%  unknown\n" in invoke("label", path, *options).stdout


@pytest.mark.parametrize(
    ("rate", "rejected"),
    [(0.01, 0), (0.09, 0), (0.1, 0), (0.3, 2), (0.5, 4), (0.99, 9), (1 - 1e-12, 9)],
)
def test_the_threshold_is_the_quantile(
    monkeypatch: pytest.MonkeyPatch, rate: float, rejected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    best = np.random.default_rng(0).permutation(np.linspace(0.5, 0.95, 10, dtype=np.float32))
    scores = np.stack([best, 1 - best], axis=1)
    monkeypatch.setattr(unknown, "model_scores", lambda *_: scores)
    rejection = unknown.find_threshold(None, [], rate, Progress())  # type: ignore[arg-type]
    assert (rejection.photos, rejection.rejected) == (10, rejected)
    assert rejection.threshold == np.sort(best)[rejected]
    warned = "a photo is unknown if it scores less than each of them" in capsys.readouterr().err
    assert warned == (rate < 1 / 11)


def test_a_share_that_floating_point_rounds_down_rejects_as_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert int(0.29 * (99 + 1)) == 28
    scores = np.linspace(0.5, 0.95, 99, dtype=np.float32)[:, np.newaxis]
    monkeypatch.setattr(unknown, "model_scores", lambda *_: scores)
    rejection = unknown.find_threshold(None, [], 0.29, Progress())  # type: ignore[arg-type]
    assert rejection.rejected == 28  # all that score less than the photo of rank 29


@pytest.mark.parametrize("photos", [20, 40, 100])
def test_of_new_photos_no_more_than_the_rate_are_rejected(
    monkeypatch: pytest.MonkeyPatch, photos: int
) -> None:
    random, shares = np.random.default_rng(photos), []
    for _ in range(2000):
        scores = random.random((photos, 1), np.float32)
        monkeypatch.setattr(unknown, "model_scores", lambda *_, scores=scores: scores)
        rejection = unknown.find_threshold(None, [], 0.05, Progress())  # type: ignore[arg-type]
        shares.append(rejection.threshold)  # of scores spread evenly over 0..1, as many are below
    assert 0.04 < np.mean(shares) < 0.0525


def test_equal_scores_are_accepted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.array([[0.9, 0.1]] * 8 + [[0.5, 0.5]] * 2, np.float32)
    monkeypatch.setattr(unknown, "model_scores", lambda *_: scores)
    for rate, rejected in ((0.1, 0), (0.3, 2), (0.9, 2)):
        rejection = unknown.find_threshold(None, [], rate, Progress())  # type: ignore[arg-type]
        assert rejection.rejected == rejected


def test_no_validation_photo_is_an_error(tmp_path: Path, invoke: Invoke) -> None:
    run = write_colour_run(tmp_path)
    text = (run / "manifest.csv").read_text("utf-8")
    text = text.replace('"validation"', '"training"')  # not in the path
    (run / "manifest.csv").write_text(text, "utf-8")
    result = invoke("convert", "--output-dir", run, "--reject-rate", 0.1)
    assert (result.exit_code, "no validation photos" in result.stderr) == (3, True)
    assert not (run / "model.tflite").exists()


def test_the_scores_of_the_model_file_itself_calibrate(run: Path) -> None:
    file = model_file.read(run / "model.tflite")
    best = np.sort(parity.model_scores(file, validation(run), Progress()).max(axis=1))
    assert file.contract.reject_threshold in best


def test_classes_may_be_named_unknown_and_none(tmp_path: Path, invoke: Invoke) -> None:
    names = (UNKNOWN, "none", "red", "grey")
    colours = dict(zip(names, COLOURS.values(), strict=True))
    run = write_colour_run(tmp_path, colours, networks().graph)
    remove_grey(run)
    result = invoke("convert", "--output-dir", run, "--reject-rate", 0.34)
    assert result.exit_code == 0, result.output
    file = model_file.read(run / "model.tflite")
    assert file.contract.labels == names
    assert {golden.label for golden in file.goldens} == set(names[:3])
    figures = json.loads((run / "conversion.json").read_text("utf-8"))
    assert figures["graph"]["right"] == figures["model"]["right"] == 9
    classifier = Classifier(file)
    strange = classifier.answer(colour(STRANGE[0]), top=9)
    assert strange.rejected
    assert {prediction.label for prediction in strange.predictions} == {None, *names}
    answer = classifier.answer(colour(colours[UNKNOWN]))
    assert (answer.rejected, answer.predictions[0].label) == (False, UNKNOWN)


@pytest.mark.parametrize("output", ["BiasAdd", "mul", "l2_normalize"])
def test_the_output_may_have_the_name_of_an_operation_that_is_added(output: str) -> None:
    graph = tf_graph.parse(networks().graph)
    for node in graph.node:
        node.name = output if node.name == "final_result" else node.name
    content = graph.SerializeToString()
    far = Dense(np.zeros((len(WEIGHTS), 2), np.float32), np.full(2, -1, np.float32))
    extended = unknown.add_familiarity(FrozenGraph(content, SPEC, output), far)
    scores = tf_graph.open_session(extended)(np.ones((1, SPEC.height, SPEC.width, 3), np.float32))
    assert scores.shape == (1, len(LABELS))
    assert not scores.any()
