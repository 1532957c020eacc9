"""Test the training of the head: it learns, repeats itself, reports, and learns rare classes."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from retrain.bottlenecks.feature_store import FeatureStore
from retrain.settings.training import HeadSettings, Optimizer
from retrain.training.checkpoint import Checkpoint
from retrain.training.fit_head import ROUNDS, StepReport, fit_head
from retrain.training.head import Examples, Head, score, softmax


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
    return of.store.take(of.rows[:, 0])


def train(of: Examples, config: HeadSettings) -> tuple[Head, list[StepReport]]:
    """Train and validate on the same examples; return the last head, and all reports."""
    reports = list(fit_head(of, of, int(of.labels.max()) + 1, config))
    return reports[-1].head, reports


def test_one_thread_multiplies_and_as_many_as_before_go_on() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(3, "blas"):
        during = [threads() for _ in fit_head(EASY, EASY, 3, SHORT)]
        assert during
        assert all(counts == {1} for counts in during), during
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
    head, reports = train(
        EASY, HeadSettings(300, learning_rate=0.1, optimizer=optimizer, weight_decay=0)
    )
    assert (head.weights.shape, head.bias.shape) == ((16, 3), (3,))
    assert head.weights.dtype == head.bias.dtype == np.float32
    assert score(head.logits(values(EASY)), EASY.labels).accuracy == 1
    assert reports[-1].train.accuracy == reports[-1].validation.accuracy == 1
    assert reports[-1].train.cross_entropy < min(0.1, reports[0].train.cross_entropy)
    assert reports[-1].validation.cross_entropy < 0.1


def test_the_bias_is_learned_too() -> None:
    points = np.concatenate([np.full((50, 1), 1.0), np.full((50, 1), 2.0)])
    of = examples(points, np.repeat([0, 1], 50))
    for optimizer in ("sgd", "standardized"):
        head, _ = train(of, HeadSettings(1000, 1.0, 20, optimizer=optimizer))
        assert score(head.logits(points), of.labels).accuracy == 1


def test_sgd_is_the_classics_step() -> None:
    """One step by hand: softmax regression on the bottlenecks as they are."""
    of = examples(np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0, 1]))
    config = HeadSettings(1, 0.5, 400, optimizer="sgd", class_weight="balanced", seed=3)
    (only,) = fit_head(of, of, 2, config)
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
    expected = next(fit_head(examples(x.astype(np.float64), of.labels), of, 2, config))
    reports = next(fit_head(of, of, 2, HeadSettings(40, 0.1, weight_decay=0.5, seed=2)))
    # The first step is at the full rate; the bottlenecks of `expected` are rounded to float16.
    scale = 1 / (values(of).std(axis=0) + np.float32(0.01))
    np.testing.assert_allclose(
        reports.head.weights, expected.head.weights * scale[:, np.newaxis], atol=2e-4
    )
    shift = values(of).mean(axis=0) @ reports.head.weights
    np.testing.assert_allclose(reports.head.bias, expected.head.bias - shift, atol=2e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "standardized"])
def test_the_rate_falls_unless_it_is_the_classics(optimizer: Optimizer) -> None:
    _, reports = train(EASY, HeadSettings(40, 0.1, eval_step_interval=20, optimizer=optimizer))
    rates = {report.step: report.learning_rate for report in reports}
    middle = 0.05 if optimizer == "standardized" else 0.1
    assert rates[0] == 0.1
    assert rates[20] == pytest.approx(middle)
    assert rates[39] == (pytest.approx(0.1 * 0.0015, rel=0.1) if optimizer != "sgd" else 0.1)


def test_weight_decay_and_label_smoothing_make_weights_smaller() -> None:
    configs = [HeadSettings(200, 0.1, weight_decay=0), HeadSettings(200, 0.1, weight_decay=1)]
    configs.append(HeadSettings(200, 0.1, weight_decay=0, label_smoothing=0.3))
    sizes = [np.abs(train(EASY, config)[0].weights).mean() for config in configs]
    assert sizes[1] < 0.9 * sizes[0]
    assert sizes[2] < 0.9 * sizes[0]


def test_smoothed_labels_give_smoothed_scores() -> None:
    of = examples(np.repeat(np.eye(2), 50, axis=0), np.repeat([0, 1], 50))
    head, _ = train(of, HeadSettings(1000, 1.0, 50, weight_decay=0, label_smoothing=0.2))
    np.testing.assert_allclose(softmax(head.logits(np.eye(2)))[0], [0.9, 0.1], atol=0.01)


def test_the_same_seed_gives_the_same_head_and_another_seed_another() -> None:
    heads = [train(EASY, HeadSettings(60, seed=seed))[0] for seed in (0, 0, 1)]
    same, again, other = (head.weights.tobytes() + head.bias.tobytes() for head in heads)
    assert same == again
    assert same != other


def test_a_rare_class_does_not_drown() -> None:
    # With photos drawn as they come, the line between the two would lie far on the rare side.
    training = clusters((1900, 100), 2, apart=1.5)
    balanced = HeadSettings(2000, 0.1, 20, class_weight="balanced")
    head, _ = train(training, balanced)
    fresh = clusters((2000, 2000), 2, apart=1.5, seed=1)
    right = head.logits(values(fresh)).argmax(axis=1) == fresh.labels
    assert right[fresh.labels == 1].mean() > 0.7
    assert right[fresh.labels == 0].mean() > 0.7


def test_without_class_weights_scores_follow_the_folders_frequencies() -> None:
    training = clusters((900, 100), 2, apart=0)  # nothing to tell the classes by
    head, _ = train(training, HeadSettings(1000, train_batch_size=50, class_weight="none"))
    assert softmax(head.logits(values(training)))[:, 1].mean() == pytest.approx(0.1, abs=0.03)


def test_every_view_is_learned_from_and_validation_is_on_the_photo_itself() -> None:
    # The photos themselves say nothing; their views are separate.
    labels = np.repeat([0, 1], 30)
    points = np.zeros((60, 3, 2))
    for view in (1, 2):
        points[np.arange(60), view, labels] = 4 * view
    of = examples(points, labels)
    head, reports = train(of, HeadSettings(400, 0.1, validation_batch_size=-1))
    for view in (1, 2):
        logits = head.logits(of.store.take(of.rows[:, view]))
        assert score(logits, labels).accuracy == 1
    assert reports[-1].validation.accuracy == 0.5
    assert 0.6 < reports[-1].train.accuracy < 1  # a third of the batch are photos themselves


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
def test_reports_come_at_the_set_steps_and_at_the_end_of_rounds(
    config: HeadSettings, steps: set[int]
) -> None:
    _, reports = train(EASY, config)
    between = [report.step for report in reports if not report.checkpoint]
    rounds = [report.step for report in reports if report.checkpoint]
    length = math.ceil(config.how_many_training_steps / ROUNDS)
    last = config.how_many_training_steps - 1
    assert rounds == sorted({*range(length - 1, last, length), last})
    assert steps <= {*between, *rounds}
    assert set(between) <= steps


def test_the_whole_validation_set_can_be_asked_for() -> None:
    validation = examples(np.zeros((7, 16)), np.array([0, 1, 2, 0, 0, 0, 0]))
    reports = list(fit_head(EASY, validation, 3, HeadSettings(1, validation_batch_size=-1)))
    assert reports[0].validation.accuracy in (1 / 7, 5 / 7)


def best_of(reports: Sequence[StepReport], of: Examples) -> StepReport:
    rounds = [report for report in reports if report.checkpoint]
    return min(rounds, key=lambda report: score(report.head.logits_of(of), of.labels).cross_entropy)


def test_the_weights_that_validate_best_are_kept_and_training_may_stop() -> None:
    # What is learned of the training photos is wrong for the others, and more so with each step.
    training, validation = clusters((40, 40), 4, apart=2), clusters((40, 40), 4, apart=2, seed=9)
    validation = validation._replace(labels=validation.labels[::-1].copy())
    config = HeadSettings(400, 0.1, class_weight="balanced")
    reports = list(fit_head(training, validation, 2, config))
    checkpoint, best = reports[-1].checkpoint, best_of(reports, validation)
    assert checkpoint is not None
    assert best.step < 100
    assert checkpoint.best.weights.tobytes() == best.head.weights.tobytes()
    assert checkpoint.rounds_since_best == ROUNDS - 1 - best.step // 20
    stopping = HeadSettings(400, 0.1, class_weight="balanced", early_stop=3)
    *_, last = fit_head(training, validation, 2, stopping)
    assert last.checkpoint is not None
    assert last.step == best.step + 3 * 20
    assert last.checkpoint.best.weights.tobytes() == checkpoint.best.weights.tobytes()


def noisy(seed: int) -> Examples:
    """Return three classes, two views of each photo, that are hard to tell apart."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), (40, 30, 10))
    points = random.normal(size=(80, 2, 8)) + 0.4 * np.eye(3, 8)[labels][:, np.newaxis]
    return examples(points, labels)


def rounds(
    config: HeadSettings, checkpoint: Checkpoint | None = None
) -> Iterator[tuple[StepReport, Checkpoint]]:
    """Yield the report and the checkpoint of each round of a run on `noisy`."""
    for report in fit_head(noisy(0), noisy(1), 3, config, checkpoint):
        if report.checkpoint:
            yield report, report.checkpoint


@pytest.mark.parametrize(
    "config",
    [
        HeadSettings(100, 0.1),
        HeadSettings(100, 0.1, optimizer="sgd", class_weight="balanced", validation_batch_size=-1),
        HeadSettings(7),
        HeadSettings(100, 0.1, early_stop=2),
    ],
)
def test_a_run_that_is_interrupted_after_any_round_ends_the_same(config: HeadSettings) -> None:
    whole = list(rounds(config))
    end = whole[-1][1].to_bytes("")
    for place, (stop, checkpoint) in enumerate(whole):
        _, again = Checkpoint.from_bytes(checkpoint.to_bytes("a run"))
        rest = list(rounds(config, again))
        assert [later.step for later, _ in rest] == [later.step for later, _ in whole[place + 1 :]]
        assert all(later.step > stop.step for later, _ in rest)
        assert (rest[-1][1] if rest else again).to_bytes("") == end
    # Interrupted after each round in turn, as by one kill after another.
    latest = None
    for _ in whole:
        ((_, latest),) = itertools.islice(rounds(config, latest), 1)
        latest = Checkpoint.from_bytes(latest.to_bytes(""))[1]
    assert latest is not None
    assert latest.to_bytes("") == end


def test_no_round_draws_the_photos_of_another() -> None:
    config = HeadSettings(40, 1e-12, 8, eval_step_interval=1)  # the head stays as it is
    _, reports = train(EASY, config)
    assert len({np.round(report.logits, 6).tobytes() for report in reports}) == 40


def test_a_round_does_not_change_earlier_checkpoints() -> None:
    pairs = [(state, state.to_bytes("")) for _, state in rounds(HeadSettings(100, 0.1))]
    assert all(checkpoint.to_bytes("") == content for checkpoint, content in pairs)
    start = pairs[3]
    list(rounds(HeadSettings(100, 0.1), start[0]))
    assert start[0].to_bytes("") == start[1]


def test_the_learning_rate_scales_the_first_step() -> None:
    small, large = (
        train(EASY, HeadSettings(1, learning_rate=rate))[0].weights
        - train(EASY, HeadSettings(1, learning_rate=1e-12))[0].weights
        for rate in (0.1, 1)
    )
    assert np.abs(small).max() > 0
    np.testing.assert_allclose(large, 10 * small, rtol=1e-3, atol=1e-4 * np.abs(large).max())
