"""Test the head's arithmetic, against results by hand and scipy."""

import math

import numpy as np
import pytest
from scipy import special

from deploy.errors import WrongUse
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.training import HeadSettings
from retrain.training.head import Examples, Head, score, softmax


@pytest.mark.parametrize("rate", [math.nan, math.inf, 0.0])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(WrongUse, match="`learning_rate`"):
        HeadSettings(learning_rate=rate)


def test_validating_on_nothing_is_refused() -> None:
    with pytest.raises(WrongUse, match="`validation_batch_size`: 0"):
        HeadSettings(validation_batch_size=0)


def test_weight_decay_is_the_optimizers_unless_it_is_set() -> None:
    assert HeadSettings().effective_weight_decay == 0.1
    assert HeadSettings(optimizer="sgd").effective_weight_decay == 0
    assert HeadSettings(weight_decay=0.0).effective_weight_decay == 0
    assert HeadSettings(optimizer="sgd", weight_decay=0.3).effective_weight_decay == 0.3


def test_logits_of_many_photos_are_those_of_each_as_it_is() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(9001, 3)).astype(np.float16)
    rows = np.stack([random.permutation(9001), np.zeros(9001, np.int64)], axis=1)
    head = Head(random.normal(size=(3, 2)).astype(np.float32), np.array([1, 2], np.float32))
    logits = head.logits_of(Examples(FeatureStore.of(values), rows, np.zeros(9001, np.int64)))
    np.testing.assert_allclose(logits, head.logits(values[rows[:, 0]]), rtol=1e-5, atol=1e-5)


def test_a_temperature_divides_the_logits() -> None:
    head = Head(np.array([[1.0, 2.0]], np.float32), np.array([0.5, 0.0], np.float32))
    values = np.array([[3.0], [-1.0]])
    np.testing.assert_allclose(head.with_temperature(0.5).logits(values), 2 * head.logits(values))


def test_softmax_by_hand() -> None:
    logits = np.array([[0, math.log(3)], [5, 5], [1000, 0], [-1000, 0]], np.float32)
    expected = np.array([[0.25, 0.75], [0.5, 0.5], [1, 0], [0, 1]])
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-6)


def test_softmax_and_cross_entropy_are_scipys() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 5, (50, 7)).astype(np.float32)
    labels = random.integers(7, size=50)
    np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=1), rtol=1e-6)
    expected = -special.log_softmax(logits, axis=1)[np.arange(50), labels].mean()
    assert score(logits, labels).cross_entropy == pytest.approx(expected, rel=1e-5)


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
    logits = head.logits(np.array([[3.0]], np.float16))
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, [[3.5, 6.0]])
