"""Classify with real models on a real runtime, against what the network must give by hand."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy import model_file
from deploy.classifier import Answer, Classifier, Prediction, decide, top_k
from deploy.contract import Contract
from deploy.errors import BadData, WrongUse
from deploy.image import open_image
from deploy.model_file import ModelFile
from tests.helpers.deploy_fixtures import (
    CONTRACT,
    LABELS,
    SPEC,
    logits,
    networks,
    probabilities,
)

COLOURS = [
    (200, 60, 50),
    (60, 180, 70),
    (40, 60, 200),
    (128, 128, 128),
    (0, 255, 7),
    (250, 20, 130),
]


# The best labels


def test_labels_are_listed_best_first() -> None:
    scores = np.array([0.1, 0.2, 0.05, 0.65], np.float32)
    best = top_k(scores, LABELS, 3)
    assert [prediction.label for prediction in best] == ["grey", "grün, hell", "red"]
    assert [prediction.score for prediction in best] == pytest.approx([0.65, 0.2, 0.1])
    assert all(type(prediction.score) is float for prediction in best)


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    labels = tuple("abcdefghijklmnopqrstuvwxyz")
    scores = np.array([0.01] * 13 + [0.5] + [0.01] * 12, np.float32)
    best = "".join(prediction.text for prediction in top_k(scores, labels, 26))
    assert best == "nabcdefghijklmopqrstuvwxyz"


@pytest.mark.parametrize(("top", "count"), [(1, 1), (4, 4), (9, 4)])
def test_no_more_labels_than_asked_and_than_there_are(top: int, count: int) -> None:
    assert len(top_k(np.ones(4, np.float32), LABELS, top)) == count


@pytest.mark.parametrize(
    ("threshold", "labels", "best", "top", "expected"),
    [
        (None, "abc", 0.1, 2, "a b"),
        (0.5, "abc", 0.5, 2, "a b"),
        (0.51, "abc", 0.5, 2, "- a"),
        (0.51, "abc", 0.5, 9, "- a b c"),
        (0.51, "abc", 0.5, 1, "-"),
        (0.1, "abc", 0.0, 2, "- a"),
        (0.1, "abc", float("nan"), 1, "-"),
        (0.51, ("unknown", "b"), 0.5, 9, "- unknown b"),
        (0.5, ("unknown", "b"), 0.5, 9, "unknown b"),
    ],
)
def test_below_the_threshold_a_photo_is_rejected_whatever_its_classes_are_called(
    threshold: float | None, labels: Sequence[str], best: float, top: int, expected: str
) -> None:
    contract = replace(CONTRACT, labels=tuple(labels), reject_threshold=threshold)
    scores = np.array([best, *(best / 2 for _ in labels[1:])], np.float32)
    answer = Answer(decide(scores, contract, top), {})
    labels_or_dash = ["-" if p.label is None else p.label for p in answer.predictions]
    assert " ".join(labels_or_dash) == expected
    assert answer.rejected == expected.startswith("-")


# From an image to scores


@pytest.mark.parametrize("colour", COLOURS)
def test_scores_are_those_of_the_network(colour: tuple[int, int, int]) -> None:
    image, expected = Image.new("RGB", (50, 40), colour), probabilities(colour)
    exact = Classifier(ModelFile(networks().float32, CONTRACT)).scores(image)
    assert (exact.dtype, exact.shape) == (np.dtype(np.float32), (4,))
    assert exact == pytest.approx(expected, abs=1e-5)
    quantized = Classifier(ModelFile(networks().uint8, CONTRACT)).scores(image)
    assert quantized == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("colour", COLOURS)
def test_quantized_outputs_become_floats(colour: tuple[int, int, int]) -> None:
    """Logits have both signs: their zero point is not 0."""
    classifier = Classifier(ModelFile(networks().uint8_to_uint8_logits, CONTRACT))
    values = classifier.scores(Image.new("RGB", (50, 40), colour))
    assert values.dtype == np.float32
    assert values == pytest.approx(logits(colour), abs=0.1)


def test_float_and_int8_agree_on_drawn_photos(retrained: Path, drawn: dict[str, Path]) -> None:
    exact, quantized = (Classifier.open(retrained / f"{n}.tflite") for n in ("float", "model"))
    assert (exact.model.input_dtype, quantized.model.input_dtype) == (np.float32, np.uint8)
    for label, photo in drawn.items():
        first, second = exact.classify(photo), quantized.classify(photo)
        assert first[0].label == second[0].label == label
        assert first[0].score == pytest.approx(second[0].score, abs=0.02)


def test_a_photo_is_read_by_the_rules_of_its_contract(retrained: Path, tmp_path: Path) -> None:
    """Red outside of the crop does not count; 1/8 of the frame is kept on each axis."""
    image = Image.new("RGB", (160, 160), (255, 0, 0))
    image.paste((0, 0, 255), (60, 60, 100, 100))
    image.save(tmp_path / "photo.png")
    file = model_file.read(retrained / "float.tflite")
    for crop, colour in ((0.125, (0, 0, 255)), (None, (239, 0, 16))):
        contract = replace(file.contract, input=replace(SPEC, crop=crop))
        best = Classifier(replace(file, contract=contract)).classify(tmp_path / "photo.png", top=1)
        expected = probabilities(colour)
        assert best[0].label == LABELS[expected.argmax()]
        assert best[0].score == pytest.approx(expected.max(), abs=0.02)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_photo_by_its_path_gives_predictions(
    retrained: Path, drawn: dict[str, Path], threads: int
) -> None:
    classifier = Classifier.open(str(retrained / "model.tflite"), threads)
    best = classifier.classify(str(drawn["blue"]), top=2)
    assert [type(prediction) for prediction in best] == [Prediction] * 2
    assert best[0].label == "blue"
    image = open_image(drawn["blue"].read_bytes())
    assert best == top_k(classifier.scores(image), LABELS, 2)


def test_a_missing_photo_is_an_os_error(retrained: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Classifier.open(retrained / "model.tflite").classify(tmp_path / "none.jpg")


# What a photo may be


@pytest.fixture(scope="module")
def classifier(retrained: Path) -> Classifier:
    return Classifier.open(retrained / "model.tflite")


def test_a_photo_may_be_a_path_bytes_an_image_or_an_array(
    classifier: Classifier, drawn: dict[str, Path]
) -> None:
    for label, path in drawn.items():
        expected = classifier.classify(path)
        assert expected[0].label == label
        assert classifier.classify(str(path)) == expected
        assert classifier.classify(path.read_bytes()) == expected
        with Image.open(path) as image:
            assert classifier.classify(np.asarray(image.convert("RGB"))) == expected
        with Image.open(path) as image:
            assert classifier.classify(image) == expected


def test_an_image_is_turned_as_its_exif_says(classifier: Classifier, tmp_path: Path) -> None:
    """The kept box of the upright frame is blue; of the frame as stored it is red."""
    upright = Image.new("RGB", (40, 120), (255, 0, 0))
    upright.paste((0, 0, 255), (0, 40, 40, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert classifier.classify(image)[0].label == "blue"
        assert image.size == (120, 40)  # the caller's image is left as it was


def test_an_array_may_be_a_view(classifier: Classifier, drawn: dict[str, Path]) -> None:
    with Image.open(drawn["red"]) as image:
        wide = np.asarray(image.convert("RGB"))
    for view in (wide[::-1], wide[:, ::-1], wide[..., ::-1]):
        assert classifier.classify(view) == classifier.classify(view.copy())
    assert classifier.classify(wide[..., ::-1])[0].label == "blue"


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (np.zeros((8, 8, 3), np.float32), r"an array of float32 \(8, 8, 3\): uint8 \(height, "),
        (np.zeros((8, 8), np.uint8), r"an array of uint8 \(8, 8\): "),
        (np.zeros((8, 8, 4), np.uint8), r"an array of uint8 \(8, 8, 4\): "),
        (np.zeros((1, 8, 8, 3), np.uint8), r"an array of uint8 \(1, 8, 8, 3\): "),
        (np.zeros((0, 8, 3), np.uint8), r"an array of uint8 \(0, 8, 3\): "),
        (Image.new("F", (40, 40)), "a PIL image of mode F"),
        (Image.new("RGB", (10, 0)), r"a PIL image of mode RGB, \(10, 0\): no photo"),
        (None, "NoneType is no photo: give a path, the bytes of a file, a PIL image, or a numpy"),
        (7, "int is no photo"),
        (["photo.jpg"], "list is no photo"),
    ],
)
def test_anything_else_is_refused_in_words(classifier: Classifier, photo: Any, reason: str) -> None:
    with pytest.raises(WrongUse, match=reason):
        classifier.classify(photo)


def test_an_image_that_does_not_decode_is_bad(
    classifier: Classifier, drawn: dict[str, Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(drawn["grün, hell"].read_bytes()[:-40])
    with Image.open(cut) as image, pytest.raises(BadData, match=r"the image is damaged: ."):
        classifier.classify(image)


@pytest.mark.parametrize("top", [0, -1])
def test_fewer_than_one_label_is_wrong_use(classifier: Classifier, top: int) -> None:
    with pytest.raises(WrongUse, match=f"top={top}: how many labels, at least 1"):
        classifier.classify(bytes(9), top)


def test_the_time_of_each_step_is_told(classifier: Classifier, drawn: dict[str, Path]) -> None:
    answer = classifier.answer(drawn["red"], top=1)
    assert answer.predictions == classifier.classify(drawn["red"], top=1)
    assert set(answer.ms) == {"decode", "preprocess", "invoke"}


@pytest.mark.parametrize("shared", [True, False])
def test_four_threads_get_the_answers_of_one(
    retrained: Path, classifier: Classifier, shared: bool
) -> None:
    """Each photo has scores of its own, so that a tensor of another thread would show."""
    random = np.random.default_rng(0)
    photos = list(random.integers(0, 256, (64, 1, 1, 3), np.uint8).repeat(40, 1).repeat(40, 2))
    expected = [classifier.classify(photo) for photo in photos]
    assert len({tuple(predictions) for predictions in expected}) > 40

    def work(first: int) -> list[list[Prediction]]:
        mine = classifier if shared else Classifier.open(retrained / "model.tflite")
        turned = photos[first:] + photos[:first]
        return [mine.classify(photo) for photo in turned * 5]

    starts = (0, 16, 32, 48)
    with ThreadPoolExecutor(4) as pool:
        for first, got in zip(starts, pool.map(work, starts), strict=True):
            assert got == (expected[first:] + expected[:first]) * 5


# A model and a contract that do not fit


def with_input(**values: float) -> Contract:
    return replace(CONTRACT, input=replace(SPEC, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        (replace(CONTRACT, labels=LABELS[:3]), "has 4 outputs, its contract 3 labels"),
        (replace(CONTRACT, labels=(*LABELS, "x")), "has 4 outputs, its contract 5 labels"),
        (with_input(height=40), r"input is \(1, 32, 32, 3\), its contract says \(1, 40, 32, 3\)"),
        (with_input(width=40), r"input is \(1, 32, 32, 3\), its contract says \(1, 32, 40, 3\)"),
        (with_input(mean=127.0), r"zero point \(0.0078125, 128\), its .* \(0.0078125, 127.0\)"),
        (with_input(std=64.0), r"zero point \(0.0078125, 128\), its .* \(0.015625, 128.0\)"),
    ],
)
def test_a_contract_about_another_model_is_refused(
    tmp_path: Path, contract: Contract, reason: str
) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(model_file.pack(networks().uint8, contract))
    with pytest.raises(BadData, match=rf"other\.tflite: the model.*{reason}"):
        Classifier.open(path)


def test_signed_input_is_refused() -> None:
    with pytest.raises(BadData, match="input is int8, not uint8 or float32"):
        Classifier(ModelFile(networks().int8, CONTRACT))


@pytest.mark.parametrize("garbage", [bytes(400), b"not a flatbuffer" * 40, b"x"])
def test_garbage_with_the_right_digest_is_refused(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "garbage.tflite"
    path.write_bytes(model_file.pack(garbage, CONTRACT))
    with pytest.raises(BadData, match=r"garbage\.tflite: not a .tflite model"):
        Classifier.open(path)
