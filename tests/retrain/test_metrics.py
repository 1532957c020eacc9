"""Test accuracy with its interval, scores of classes, calibration and temperature."""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, special, stats

from retrain.metrics import (
    Accuracy,
    ClassScore,
    calibration_error,
    class_scores,
    confusion_matrix,
    fit_temperature,
)

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0, 0.2775),
        (10, 10, 0.7225, 1),
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(right: int, total: int, low: float, high: float) -> None:
    assert Accuracy(right, total).interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("right", "total"), [(0, 1), (1, 1), (3, 7), (92, 99), (999, 1000)])
def test_the_interval_is_scipys(right: int, total: int) -> None:
    expected = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert Accuracy(right, total).interval == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_the_best_score_is_compared_with_the_label() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    accuracy = Accuracy.of(scores, np.array([1, 0, 0, 1]))
    assert accuracy == Accuracy(3, 4)
    assert accuracy.value == 0.75


def test_it_reads_as_a_sentence_part() -> None:
    assert str(Accuracy(8, 10)) == "80.0% (N=10, 95% interval 49.0% to 94.3%)"


def test_its_json_has_the_counts() -> None:
    values = Accuracy(8, 10).to_json()
    assert values.pop("interval95") == pytest.approx([0.4902, 0.9433], abs=5e-5)
    assert values == {"accuracy": 0.8, "right": 8, "total": 10}


def test_the_rows_of_the_confusion_matrix_are_true_classes() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    predicted = np.array([0, 1, 1, 1, 0, 2])
    matrix = confusion_matrix(predicted, labels, 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_small_integers_do_not_overflow_in_the_confusion_matrix() -> None:
    labels = np.array([199, 3], np.uint8)
    matrix = confusion_matrix(np.array([198, 3], np.uint8), labels, 200)  # type: ignore[arg-type]
    assert np.argwhere(matrix).tolist() == [[3, 3], [199, 198]]


def test_a_class_that_is_not_there_is_an_error_and_not_another_class() -> None:
    with pytest.raises(IndexError):
        confusion_matrix(np.array([3]), np.array([0]), 3)


def test_each_class_is_scored() -> None:
    first, second = class_scores(np.array([[6, 2], [4, 8]]))
    assert first == pytest.approx((0.6, 0.75, 2 / 3, 8))
    assert second == pytest.approx((0.8, 2 / 3, 8 / 11, 12))


def test_what_a_class_does_not_have_is_undefined() -> None:
    # Never predicted; predicted but without a photo; neither; predicted, with photos, never right.
    matrix = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 5, 0, 0]])
    assert class_scores(matrix) == [
        ClassScore(None, 0.0, 0.0, 3),
        ClassScore(0.0, None, 0.0, 0),
        ClassScore(None, None, None, 0),
        ClassScore(0.0, 0.0, 0.0, 5),
    ]


def test_the_scores_of_a_class_can_be_written_as_json() -> None:
    values = [score.to_json() for score in class_scores(np.array([[0, 2], [0, 2]]))]
    assert json.loads(json.dumps(values)) == [
        {"precision": None, "recall": 0, "f1": 0, "support": 2},
        {"precision": 0.5, "recall": 1, "f1": pytest.approx(2 / 3), "support": 2},
    ]


def error_of(probabilities: npt.NDArray[Any], labels: npt.NDArray[Any], bins: int = 15) -> float:
    """Return the calibration error of probabilities (N, C) for labels (N,)."""
    right = probabilities.argmax(axis=1) == labels
    return calibration_error(probabilities.max(axis=1), right, bins)


def test_the_calibration_error_weighs_each_bins_gap() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.6, 0.4], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 1, 1])
    # Two bins of (0.5, 0.75] and (0.75, 1]: 2 photos, 0.575 against 1/2; 3, 2.65/3 against 2/3.
    expected = 2 / 5 * 0.075 + 3 / 5 * (2.65 / 3 - 2 / 3)
    assert error_of(probabilities, labels, 4) == pytest.approx(expected)
    # One bin: 3.8/5 against 3/5.
    assert error_of(probabilities, labels, 1) == pytest.approx(0.16)


def test_too_little_confidence_is_an_error_as_well_and_does_not_offset_too_much() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1]])
    assert error_of(probabilities, np.array([0, 1])) == pytest.approx(0.65)


def test_a_bin_holds_its_upper_edge() -> None:
    # 0.5 is in (0, 0.5] alone; in one bin with 1.0, the gaps of the two would cancel.
    probabilities = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert error_of(probabilities, np.array([0, 1]), 2) == pytest.approx(0.75)


def test_certain_and_right_is_no_calibration_error() -> None:
    assert error_of(np.eye(3, dtype=np.float32), np.arange(3)) == 0


def test_a_probability_that_was_rounded_above_1_is_in_the_last_bin() -> None:
    probabilities = np.array([[1 + 1e-7, 0], [0.95, 0.05]])
    error = error_of(probabilities, np.array([1, 0]))
    assert error == pytest.approx((1 - 0.05) / 2)


def test_calibration_errors_of_drawn_labels_are_the_known_ones() -> None:
    random = np.random.default_rng(3)
    sure = random.uniform(0.5, 1, 50_000)
    probabilities = np.stack([1 - sure, sure], axis=1)
    right = random.random(50_000)
    assert error_of(probabilities, (right < sure).astype(np.int64)) < 0.02
    # Right less often than it is said, by 0.2 everywhere.
    labels = (right < sure - 0.2).astype(np.int64)
    assert error_of(probabilities, labels) == pytest.approx(0.2, abs=0.01)


def _softmax(logits: Floats) -> Floats:
    return np.asarray(special.softmax(logits, axis=1))


def _drawn(photos: int, classes: int) -> tuple[Floats, Labels]:
    """Return logits (N, C) and labels (N,) that are drawn from their softmax."""
    random = np.random.default_rng(photos + classes)
    logits = random.normal(0, 2, (photos, classes))
    edges = _softmax(logits).cumsum(axis=1)
    return logits, (random.random((photos, 1)) > edges[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_the_temperature_undoes_a_factor(factor: float, classes: int) -> None:
    logits, labels = _drawn(20_000, classes)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.04)


def test_the_temperature_scales_with_the_logits() -> None:
    logits, labels = _drawn(20_000, 5)
    once = fit_temperature(logits, labels)
    for factor in (0.3, 2.0, 5.0):
        assert fit_temperature(factor * logits, labels) == pytest.approx(factor * once, rel=2e-3)


def test_the_temperature_calibrates_and_leaves_the_best_class() -> None:
    logits, labels = _drawn(20_000, 5)
    logits *= 3
    before, after = _softmax(logits), _softmax(logits / fit_temperature(logits, labels))
    assert error_of(before, labels) > 0.1
    assert error_of(after, labels) < 0.015
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()


def _penalised(logits: Floats, labels: Labels, temperature: float) -> float:
    """Return the function that the temperature minimises, in nats."""
    chosen = _softmax(logits / temperature)[np.arange(len(labels)), labels]
    return float(-np.log(chosen).sum()) + 4 * (1 / temperature - 1 + math.log(temperature))


@pytest.mark.parametrize(("photos", "classes"), [(1, 2), (3, 3), (30, 2), (300, 7)])
def test_the_temperature_is_the_minimum(photos: int, classes: int) -> None:
    logits, labels = _drawn(photos, classes)
    best = optimize.minimize_scalar(
        lambda log_t: _penalised(logits, labels, math.exp(log_t)),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit_temperature(logits, labels) == pytest.approx(math.exp(best.x), rel=1e-5)


def _margins(margin: float, photos: int) -> tuple[Floats, Labels]:
    """Return logits (N, 2) in which the label's is higher by `margin`."""
    labels = np.arange(photos) % 2
    return np.eye(2)[labels] * margin, labels


def test_a_few_photos_that_are_all_right_hardly_move_the_temperature() -> None:
    assert fit_temperature(*_margins(10, 3)) == pytest.approx(1, abs=0.01)
    assert 0.6 < fit_temperature(*_margins(2, 1)) < 1
    assert 0.6 < fit_temperature(*_margins(2, 3)) < fit_temperature(*_margins(2, 1))


def test_one_photo_that_is_wrong_raises_the_temperature() -> None:
    assert 1 < fit_temperature(*_margins(-2, 1)) < 2


def test_many_photos_that_are_all_right_lower_it_within_bounds() -> None:
    assert 0.3 < fit_temperature(*_margins(5, 100_000)) < 0.6
    assert fit_temperature(*_margins(0.05, 100_000)) == pytest.approx(0.05)
    assert fit_temperature(*_margins(0.05, 100_000)) >= 0.05


def test_many_photos_that_are_all_wrong_raise_it_within_bounds() -> None:
    assert fit_temperature(*_margins(-5, 100_000)) == pytest.approx(20)
    assert fit_temperature(*_margins(-5, 100_000)) <= 20


@pytest.mark.parametrize(
    "logits", [np.zeros((0, 3)), np.full((5, 3), 7.0), np.array([[4.0], [5.0]])]
)
def test_logits_that_say_nothing_leave_the_temperature_at_1(logits: Floats) -> None:
    assert fit_temperature(logits, np.zeros(len(logits), np.int64)) == pytest.approx(1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_do_not_overflow(dtype: type[np.floating[Any]]) -> None:
    logits, labels = _margins(1e6, 4)
    temperature = fit_temperature((logits + 1e7).astype(dtype), labels)
    assert type(temperature) is float
    assert temperature == pytest.approx(1)
    labels[0] = 1
    assert fit_temperature((logits + 1e7).astype(dtype), labels) == pytest.approx(20)


def test_the_temperature_is_computed_in_float64() -> None:
    logits, labels = _drawn(1000, 4)
    rounded = logits.astype(np.float16)
    assert fit_temperature(rounded, labels) == fit_temperature(rounded.astype(np.float64), labels)


def test_what_is_added_to_a_row_of_logits_does_not_matter() -> None:
    logits, labels = _drawn(1000, 4)
    shifted = logits + np.arange(1000)[:, np.newaxis]
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(logits, labels))
