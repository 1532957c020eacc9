"""Accuracy with its interval."""

import numpy as np
import pytest

from retrain.scores import Accuracy


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


def test_the_best_score_is_compared_with_the_label() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    found = Accuracy.of(scores, np.array([1, 0, 0, 1]))
    assert found == Accuracy(3, 4)
    assert found.value == 0.75


def test_it_reads_as_a_sentence_part() -> None:
    assert str(Accuracy(8, 10)) == "80.0% (N=10, 95% interval 49.0% to 94.3%)"


def test_its_json_has_the_counts() -> None:
    found = Accuracy(8, 10).to_json()
    assert found["interval95"] == pytest.approx([0.4902, 0.9433], abs=5e-5)
    del found["interval95"]
    assert found == {"accuracy": 0.8, "right": 8, "total": 10}
