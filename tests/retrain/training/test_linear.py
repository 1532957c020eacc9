"""Training of the final layer: it learns, repeats itself, reports, and lets no class drown."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.training import HeadSettings, Optimizer
from retrain.training import linear as module
from retrain.training.head import Examples, Head, score, softmax
from retrain.training.linear import Evaluation, State, fit


def examples(points: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> Examples:
    """Return `points` (N, D), or (N, V, D) with V views of each, as examples."""
    views = points.reshape(len(points), -1, points.shape[-1])
    rows = np.arange(views[..., 0].size).reshape(views.shape[:2])
    return Examples(FeatureStore.of(views.reshape(-1, views.shape[-1])), rows, labels)


def clusters(counts: tuple[int, ...], width: int, apart: float, seed: int = 0) -> Examples:
    """Return normal clusters of `counts` points, their centres `apart` on axes of their own."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = apart * np.eye(len(counts), width)
    return examples(centres[labels] + random.normal(size=(len(labels), width)), labels)


def values(of: Examples) -> npt.NDArray[np.float32]:
    return of.matrix.take(of.rows[:, 0])


def train(of: Examples, config: HeadSettings) -> tuple[Head, list[Evaluation]]:
    """Train and validate on the same; return the last weights, and each evaluation."""
    found = list(fit(of, of, int(of.labels.max()) + 1, config))
    return found[-1].head, found


def test_one_thread_multiplies_and_as_many_as_before_go_on() -> None:
    def threads() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    with threadpool_limits(3, "blas"):
        during = [threads() for _ in fit(EASY, EASY, 3, SHORT)]
        assert during
        assert all(each == {1} for each in during), during
        assert threads() == {3}


def test_weights_do_not_depend_on_the_threads_of_numpy() -> None:
    of = clusters((60,) * 20, 1280, apart=3)
    results = []
    for count in (1, 2):
        with threadpool_limits(count, "blas"):
            results.append(train(of, HeadSettings(20, train_batch_size=32))[0].weights.tobytes())
    assert results[0] == results[1], "threads divide sums differently"


EASY = clusters((40, 40, 40), 16, apart=12)
SHORT = HeadSettings(how_many_training_steps=60)
SGD = HeadSettings(60, optimizer="sgd", class_weight="balanced")


@pytest.mark.parametrize("optimizer", ["sgd", "standardized"])
def test_separate_classes_are_learned_in_full(optimizer: Optimizer) -> None:
    head, found = train(
        EASY, HeadSettings(300, learning_rate=0.1, optimizer=optimizer, weight_decay=0)
    )
    assert (head.weights.shape, head.bias.shape) == ((16, 3), (3,))
    assert head.weights.dtype == head.bias.dtype == np.float32
    assert score(head.logits(values(EASY)), EASY.labels).accuracy == 1
    assert found[-1].train.accuracy == found[-1].validation.accuracy == 1
    assert found[-1].train.cross_entropy < min(0.1, found[0].train.cross_entropy)
    assert found[-1].validation.cross_entropy < 0.1


def test_the_bias_is_learned_too() -> None:
    points = np.concatenate([np.full((50, 1), 1.0), np.full((50, 1), 2.0)])
    of = examples(points, np.repeat([0, 1], 50))
    for optimizer in ("sgd", "standardized"):
        head, _ = train(of, HeadSettings(2000, learning_rate=1.0, optimizer=optimizer))
        assert score(head.logits(points), of.labels).accuracy == 1


def test_sgd_is_the_classics_step() -> None:
    """One step by hand: softmax regression on the bottlenecks as they are."""
    of = examples(np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0, 1]))
    config = HeadSettings(1, 0.5, 400, optimizer="sgd", class_weight="balanced", seed=3)
    (only,) = fit(of, of, 2, config)
    start = np.random.default_rng(3).normal(0, 0.001, (2, 2))
    x, y = values(of), np.eye(2)
    share = np.random.default_rng((3, 0)).integers(2, size=(1, 400)).mean()
    weight = np.array([1 - share, share])[:, np.newaxis]
    gradient = (softmax((x @ start).astype(np.float32)) - y) * weight
    np.testing.assert_allclose(only.head.weights, start - 0.5 * x.T @ gradient, rtol=1e-4)
    np.testing.assert_allclose(only.head.bias, -0.5 * gradient.sum(axis=0), rtol=1e-4)
    assert only.learning_rate == 0.5


def test_a_standardized_step_is_that_of_standardized_bottlenecks() -> None:
    of = clusters((30, 20), 6, apart=3, seed=1)
    x = values(of)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + np.float32(0.01))
    config = HeadSettings(40, 0.1, optimizer="sgd", weight_decay=0.5, seed=2)
    expected = next(fit(examples(x.astype(np.float64), of.labels), of, 2, config))
    found = next(fit(of, of, 2, HeadSettings(40, 0.1, weight_decay=0.5, seed=2)))
    # The first step is at the full rate; the bottlenecks of `expected` are rounded to float16.
    scale = 1 / (values(of).std(axis=0) + np.float32(0.01))
    np.testing.assert_allclose(
        found.head.weights, expected.head.weights * scale[:, np.newaxis], atol=2e-4
    )


@pytest.mark.parametrize("optimizer", ["sgd", "standardized"])
def test_the_rate_falls_unless_it_is_the_classics(optimizer: Optimizer) -> None:
    _, found = train(EASY, HeadSettings(40, 0.1, eval_step_interval=20, optimizer=optimizer))
    rates = {each.step: each.learning_rate for each in found}
    middle = 0.05 if optimizer == "standardized" else 0.1
    assert (rates[0], rates[20]) == (0.1, pytest.approx(middle))
    assert rates[39] == (pytest.approx(0.1 * 0.0015, rel=0.1) if optimizer != "sgd" else 0.1)


def test_weight_decay_and_label_smoothing_make_weights_smaller() -> None:
    configs = [HeadSettings(200, 0.1, weight_decay=0), HeadSettings(200, 0.1, weight_decay=1)]
    configs.append(HeadSettings(200, 0.1, weight_decay=0, label_smoothing=0.3))
    sizes = [np.abs(train(EASY, config)[0].weights).mean() for config in configs]
    assert sizes[1] < 0.9 * sizes[0]
    assert sizes[2] < 0.9 * sizes[0]


def test_smoothed_labels_give_smoothed_scores() -> None:
    of = examples(np.repeat(np.eye(2), 50, axis=0), np.repeat([0, 1], 50))
    head, _ = train(of, HeadSettings(2000, 1.0, weight_decay=0, label_smoothing=0.2))
    np.testing.assert_allclose(softmax(head.logits(np.eye(2)))[0], [0.9, 0.1], atol=0.01)


def test_the_same_seed_gives_the_same_head_and_another_seed_another() -> None:
    heads = [train(EASY, HeadSettings(60, seed=seed))[0] for seed in (0, 0, 1)]
    same, again, other = (head.weights.tobytes() + head.bias.tobytes() for head in heads)
    assert same == again
    assert same != other


def test_a_rare_class_does_not_drown() -> None:
    # With photos drawn as they come, the line between the two would lie far on the rare side.
    training = clusters((1900, 100), 2, apart=1.5)
    balanced = HeadSettings(3000, learning_rate=0.1, class_weight="balanced")
    head, _ = train(training, balanced)
    fresh = clusters((2000, 2000), 2, apart=1.5, seed=1)
    right = head.logits(values(fresh)).argmax(axis=1) == fresh.labels
    assert right[fresh.labels == 1].mean() > 0.7
    assert right[fresh.labels == 0].mean() > 0.7


def test_without_class_weights_scores_follow_the_folders_frequencies() -> None:
    training = clusters((900, 100), 2, apart=0)  # nothing to tell the classes by
    head, _ = train(training, HeadSettings(2000, class_weight="none"))
    assert softmax(head.logits(values(training)))[:, 1].mean() == pytest.approx(0.1, abs=0.03)


def test_every_view_is_learned_from_and_validation_is_on_the_photo_itself() -> None:
    # The photos themselves say nothing; their views are separate.
    labels = np.repeat([0, 1], 30)
    points = np.zeros((60, 3, 2))
    for view in (1, 2):
        points[np.arange(60), view, labels] = 4 * view
    of = examples(points, labels)
    head, found = train(of, HeadSettings(400, 0.1, validation_batch_size=-1))
    for view in (1, 2):
        logits = head.logits(of.matrix.take(of.rows[:, view]))
        assert score(logits, labels).accuracy == 1
    assert found[-1].validation.accuracy == 0.5
    assert 0.6 < found[-1].train.accuracy < 1  # a third of the batch are photos themselves


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (HeadSettings(26, eval_step_interval=10), {0, 10, 20, 25}),
        (
            HeadSettings(26, eval_step_interval=20, intermediate_store_frequency=7),
            {0, 7, 14, 20, 21, 25},
        ),
        (HeadSettings(100, eval_step_interval=1000), {0, 99}),
    ],
)
def test_evaluations_come_when_asked_and_at_the_end_of_rounds(
    config: HeadSettings, steps: set[int]
) -> None:
    _, found = train(EASY, config)
    asked = [each.step for each in found if not each.state]
    rounds = [each.step for each in found if each.state]
    length = math.ceil(config.how_many_training_steps / module.ROUNDS)
    last = config.how_many_training_steps - 1
    assert rounds == sorted({*range(length - 1, last, length), last})
    assert steps <= {*asked, *rounds}
    assert set(asked) <= steps


def test_the_whole_validation_set_can_be_asked_for() -> None:
    validation = examples(np.zeros((7, 16)), np.array([0, 1, 2, 0, 0, 0, 0]))
    found = list(fit(EASY, validation, 3, HeadSettings(1, validation_batch_size=-1)))
    assert found[0].validation.accuracy in (1 / 7, 5 / 7)


def best_of(found: Sequence[Evaluation], of: Examples) -> Evaluation:
    rounds = [each for each in found if each.state]
    return min(rounds, key=lambda each: score(each.head.logits_of(of), of.labels).cross_entropy)


def test_the_weights_that_validate_best_are_kept_and_training_may_stop() -> None:
    # What is learned of the training photos is wrong for the others, and more so with each step.
    training, validation = clusters((40, 40), 4, apart=2), clusters((40, 40), 4, apart=2, seed=9)
    validation = validation._replace(labels=validation.labels[::-1].copy())
    config = HeadSettings(400, 0.1, class_weight="balanced")
    found = list(fit(training, validation, 2, config))
    state, best = found[-1].state, best_of(found, validation)
    assert state is not None
    assert best.step < 100
    assert state.best.weights.tobytes() == best.head.weights.tobytes()
    assert state.rounds_since == module.ROUNDS - 1 - best.step // 20
    stopped = list(
        fit(training, validation, 2, HeadSettings(400, 0.1, class_weight="balanced", early_stop=3))
    )
    assert stopped[-1].state is not None
    assert stopped[-1].step == best.step + 3 * 20
    assert stopped[-1].state.best.weights.tobytes() == state.best.weights.tobytes()


@pytest.mark.parametrize("optimizer", ["sgd", "standardized"])
def test_a_run_goes_on_from_any_round_as_if_unbroken(optimizer: Optimizer) -> None:
    config = HeadSettings(45, optimizer=optimizer)
    _, whole = train(EASY, config)
    for each in whole:
        if not each.state:
            continue
        key, state = State.from_bytes(each.state.to_bytes("mine"))
        assert key == "mine"
        rest = list(fit(EASY, EASY, 3, config, state))
        assert [later.step for later in rest] == [
            later.step for later in whole if later.step > each.step
        ]
        end = rest[-1].state if rest else state
        assert end is not None
        assert whole[-1].state is not None
        assert end.to_bytes("") == whole[-1].state.to_bytes("")


@pytest.mark.parametrize("content", [b"", b"PK nonsense", b"\x93NUMPY"])
def test_what_is_no_checkpoint_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a checkpoint"):
        State.from_bytes(content)


def test_the_learning_rate_scales_the_first_step() -> None:
    small, large = (
        train(EASY, HeadSettings(1, learning_rate=rate))[0].weights
        - train(EASY, HeadSettings(1, learning_rate=1e-12))[0].weights
        for rate in (0.1, 1)
    )
    assert np.abs(small).max() > 0
    np.testing.assert_allclose(large, 10 * small, rtol=1e-3, atol=1e-4 * np.abs(large).max())
