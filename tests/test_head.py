"""The final layer: it learns, repeats itself, reports, and lets no class drown."""

import math

import numpy as np
import pytest

from deploy.errors import WrongUse
from retrain.head import Evaluation, Examples, Head, HeadConfig, fit, score, softmax


def clusters(counts: tuple[int, ...], width: int, apart: float, seed: int = 0) -> Examples:
    """Return normal clusters of `counts` points, their centres `apart` on axes of their own."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = apart * np.eye(len(counts), width)
    points = centres[labels] + random.normal(size=(len(labels), width))
    return Examples(points.astype(np.float16), labels)


def train(examples: Examples, config: HeadConfig) -> tuple[Head, list[Evaluation]]:
    evaluations: list[Evaluation] = []
    classes = int(examples.labels.max()) + 1
    return fit(examples, examples, classes, config, evaluations.append), evaluations


EASY = clusters((40, 40, 40), 16, apart=12)
SHORT = HeadConfig(how_many_training_steps=60)


def test_separate_classes_are_learned_in_full() -> None:
    head, evaluations = train(EASY, HeadConfig(300, learning_rate=0.1, weight_decay=0))
    assert (head.weights.shape, head.bias.shape) == ((16, 3), (3,))
    assert score(head.logits(EASY.bottlenecks), EASY.labels)[0] == 1
    assert evaluations[-1].train_accuracy == evaluations[-1].validation_accuracy == 1
    assert evaluations[-1].train_cross_entropy < 0.1 < evaluations[0].train_cross_entropy
    assert evaluations[-1].validation_cross_entropy < 0.1


def test_the_bias_is_learned_too() -> None:
    points = np.concatenate([np.full((50, 1), 1.0), np.full((50, 1), 2.0)])
    examples = Examples(points, np.repeat([0, 1], 50))
    head, _ = train(examples, HeadConfig(how_many_training_steps=2000, learning_rate=1.0))
    assert score(head.logits(points), examples.labels)[0] == 1


def test_the_same_seed_gives_the_same_head_and_another_seed_another() -> None:
    heads = [
        train(EASY, HeadConfig(how_many_training_steps=60, seed=seed))[0] for seed in (0, 0, 1)
    ]
    same, again, other = ((head.weights.tobytes(), head.bias.tobytes()) for head in heads)
    assert same == again
    assert same != other


def test_a_rare_class_does_not_drown() -> None:
    # With photos drawn as they come, the line between the two would lie far on the rare side.
    training = clusters((1900, 100), 2, apart=1.5)
    balanced = HeadConfig(3000, learning_rate=0.1, class_weight="balanced")
    head, _ = train(training, balanced)
    fresh = clusters((2000, 2000), 2, apart=1.5, seed=1)
    right = head.logits(fresh.bottlenecks).argmax(axis=1) == fresh.labels
    assert right[fresh.labels == 1].mean() > 0.7
    assert right[fresh.labels == 0].mean() > 0.7


def test_without_class_weights_scores_follow_the_folders_frequencies() -> None:
    training = clusters((900, 100), 2, apart=0)  # nothing to tell the classes by
    head, _ = train(training, HeadConfig(2000, class_weight="none"))
    assert softmax(head.logits(training.bottlenecks))[:, 1].mean() == pytest.approx(0.1, abs=0.03)


def test_evaluations_come_at_each_interval_and_at_the_end() -> None:
    config = HeadConfig(how_many_training_steps=26, eval_step_interval=10)
    assert [evaluation.step for evaluation in train(EASY, config)[1]] == [0, 10, 20, 25]


def test_the_whole_validation_set_can_be_asked_for() -> None:
    config = HeadConfig(how_many_training_steps=1, validation_batch_size=-1)
    validation = Examples(np.zeros((7, 16)), np.array([0, 1, 2, 0, 0, 0, 0]))
    found: list[Evaluation] = []
    fit(EASY, validation, 3, config, found.append)
    assert found[0].validation_accuracy in (1 / 7, 5 / 7)


@pytest.mark.parametrize("rate", [math.nan, math.inf, 0.0])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(WrongUse, match="--learning-rate"):
        HeadConfig(learning_rate=rate)


def test_validating_on_nothing_is_refused() -> None:
    with pytest.raises(WrongUse, match="--validation-batch-size 0"):
        HeadConfig(validation_batch_size=0)


def test_the_learning_rate_scales_the_first_step() -> None:
    small, large = (
        train(EASY, HeadConfig(how_many_training_steps=1, learning_rate=rate))[0].weights
        - train(EASY, HeadConfig(how_many_training_steps=1, learning_rate=1e-12))[0].weights
        for rate in (0.1, 1)
    )
    assert np.abs(small).max() > 0
    np.testing.assert_allclose(large, 10 * small, rtol=1e-3, atol=1e-4 * np.abs(large).max())


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
