"""The final layer: its arithmetic, by hand."""

import math

import numpy as np
import pytest

from deploy.errors import WrongUse
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.training import HeadSettings
from retrain.training.head import Examples, Head, score, softmax


@pytest.mark.parametrize("rate", [math.nan, math.inf, 0.0])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(WrongUse, match="--learning-rate"):
        HeadSettings(learning_rate=rate)


def test_validating_on_nothing_is_refused() -> None:
    with pytest.raises(WrongUse, match="--validation-batch-size 0"):
        HeadSettings(validation_batch_size=0)


def test_weight_decay_is_the_optimizers_unless_it_is_given() -> None:
    assert HeadSettings().decay == 0.1
    assert HeadSettings(optimizer="sgd").decay == 0
    assert HeadSettings(weight_decay=0.0).decay == 0
    assert HeadSettings(optimizer="sgd", weight_decay=0.3).decay == 0.3


def test_logits_of_many_photos_are_those_of_each_as_it_is() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(9001, 3)).astype(np.float16)
    rows = np.stack([random.permutation(9001), np.zeros(9001, np.int64)], axis=1)
    head = Head(random.normal(size=(3, 2)).astype(np.float32), np.array([1, 2], np.float32))
    found = head.logits_of(Examples(FeatureStore.of(values), rows, np.zeros(9001, np.int64)))
    np.testing.assert_allclose(found, head.logits(values[rows[:, 0]]), rtol=1e-5, atol=1e-5)


def test_a_cooled_head_divides_its_logits() -> None:
    head = Head(np.array([[1.0, 2.0]], np.float32), np.array([0.5, 0.0], np.float32))
    values = np.array([[3.0], [-1.0]])
    np.testing.assert_allclose(head.cooled(0.5).logits(values), 2 * head.logits(values))


def test_softmax_by_hand() -> None:
    logits = np.array([[0, math.log(3)], [5, 5], [1000, 0], [-1000, 0]], np.float32)
    np.testing.assert_allclose(
        softmax(logits), [[0.25, 0.75], [0.5, 0.5], [1, 0], [0, 1]], rtol=1e-6
    )


def test_score_by_hand() -> None:
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], np.float32))
    accuracy, entropy = score(logits, np.array([1, 0, 1, 1]))
    assert accuracy == 0.75
    assert entropy == pytest.approx(-math.log(0.75 * 0.5 * 0.1 * 0.8) / 4, rel=1e-5)


def test_a_sure_mistake_has_a_finite_cross_entropy() -> None:
    accuracy, entropy = score(np.array([[1e4, 0]], np.float32), np.array([1]))
    assert accuracy == 0
    assert 80 < entropy < 90


def test_logits_are_float32_whatever_the_bottlenecks() -> None:
    head = Head(np.array([[1.0, 2.0]], np.float32), np.array([0.5, 0.0], np.float32))
    found = head.logits(np.array([[3.0]], np.float16))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[3.5, 6.0]])
