"""Train the head by stochastic gradient descent that can stop and resume.

Training rows that fit `POOL_BYTES` are drawn from all of them, more are drawn from blocks
(`block_pool`). Moments, and validation, take a bounded number of rows, in the order of the file.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from retrain.bottlenecks.feature_store import POOL_BYTES, FeatureStore, RowsInMemory
from retrain.settings.training import HeadSettings
from retrain.training.block_pool import BlockPool, ByClass
from retrain.training.checkpoint import Checkpoint
from retrain.training.head import (
    Examples,
    Floats,
    Head,
    Ints,
    Score,
    evenly_spaced,
    log_frequencies,
    score,
    smoothed_targets,
    softmax,
)

ROUNDS = 20
"""Rounds per run; after each the head is compared with the best one and may be saved."""

_MAX_MOMENT_ROWS = 10_000
_MAX_COMPARED_PHOTOS = 10_000
_ROWS_READ_AHEAD = 400
DEVIATION_OFFSET = np.float32(0.01)
"""Added to each deviation, so that nearly constant values are not amplified."""


class StepReport(NamedTuple):
    """The scores after a step: `train` of its batch, `validation` of `head`.

    `step` counts from 0. `head` takes bottlenecks as they are. `logits` are the batch's, from the
    head in training. `checkpoint` is None except at the end of a round.
    """

    step: int
    train: Score
    validation: Score
    learning_rate: float
    logits: Floats
    head: Head
    checkpoint: Checkpoint | None


def fit_head(
    training: Examples,
    validation: Examples,
    classes: int,
    settings: HeadSettings,
    checkpoint: Checkpoint | None = None,
) -> Iterator[StepReport]:
    """Minimise the cross entropy; yield a report at each evaluation step of `settings`.

    The result is `checkpoint.best` of the last report. Equal seed, data and settings give equal
    weights, on any number of cores, also if the run resumes from a `checkpoint`. Every label of
    0..classes-1 must occur in `training`. `python -m bench.experiments.accuracy` compares the
    optimizers.
    """
    everything = ByClass(training, classes)
    pool = _pool(everything)
    mean, deviations = _moments(training, settings)
    # A column for each class: numpy divides whole arrays several times as fast as by a column.
    deviation = np.repeat(deviations[:, np.newaxis], classes, axis=1)
    prior = np.zeros(classes, np.float32)
    if settings.class_weight == "none":
        prior = log_frequencies(training.labels, classes)
    width, size = training.store.width, settings.train_batch_size

    def unstandardized(head: Head) -> Head:
        """Return the head that gives `head`'s logits for bottlenecks as they are."""
        weights = head.weights / deviation
        return Head(weights, head.bias - mean @ weights)

    def exported(head: Head) -> Head:
        raw = unstandardized(head)
        return Head(raw.weights, raw.bias + prior)

    if checkpoint is None:
        weights = np.random.default_rng(settings.seed).normal(0, 0.001, (width, classes))
        head = Head(weights.astype(np.float32), np.zeros(classes, np.float32))
        checkpoint = Checkpoint(0, head, exported(head), math.inf, 0)
    head = Head(checkpoint.head.weights.copy(), checkpoint.head.bias.copy())
    compared = evenly_spaced(validation, _MAX_COMPARED_PHOTOS)
    bottlenecks = compared.store.take(compared.rows[:, 0])
    if pool:  # a few random photos of each step come from these too, not from all over the file
        validation = _in_memory(compared, bottlenecks, validation, settings)
    targets = smoothed_targets(classes, settings.label_smoothing)
    steps = settings.how_many_training_steps
    round_length = max(1, math.ceil(steps / ROUNDS))
    # The products are small: threads would cost more than they save, and on a busy machine, or
    # under a quota, all of them wait for the one that does not run.
    with threadpool_limits(1, "blas"):
        while checkpoint.step < steps and not (
            0 < settings.early_stop <= checkpoint.rounds_since_best
        ):
            span = range(checkpoint.step, min(checkpoint.step + round_length, steps))
            random = np.random.default_rng((settings.seed, span.start))
            sample = everything  # the pool of the last round goes before the next one comes
            if pool:
                sample = pool.draw(len(span) * size, random)
            labels = random.integers(classes, size=(len(span), size))
            rows = sample.draw(labels, random)
            for step, batch in zip(span, _batches(sample.examples, rows), strict=True):
                rate = _learning_rate(step, settings)
                raw_logits = unstandardized(head).logits(batch)
                gradient = softmax(raw_logits) - targets[labels[step - span.start]]
                gradient *= rate / size
                total = gradient.sum(axis=0)
                # Equal to standardizing the batch and then multiplying.
                change = (batch.T @ gradient - np.outer(mean, total)) / deviation
                decay = 1 - rate * settings.effective_weight_decay
                np.multiply(head.weights, decay, out=head.weights)
                np.subtract(head.weights, change, out=head.weights)
                np.subtract(head.bias, total, out=head.bias)
                if step == span[-1]:
                    candidate = exported(head)
                    loss = score(candidate.logits(bottlenecks), compared.labels).cross_entropy
                    checkpoint = _next_checkpoint(checkpoint, step + 1, head, candidate, loss)
                elif not _is_reported(step, settings):
                    continue
                logits, current = unstandardized(head).logits(batch), exported(head)
                yield StepReport(
                    step,
                    score(logits, labels[step - span.start]),
                    _validate(current, validation, settings, step),
                    rate,
                    logits,
                    current,
                    checkpoint if step == span[-1] else None,
                )


def _pool(training: ByClass) -> BlockPool | None:
    """Return the pool to draw from, None if the rows are few enough to draw from all of them."""
    store, rows = training.examples.store, training.examples.rows
    if not isinstance(store, FeatureStore) or 2 * rows.size * store.width <= POOL_BYTES:
        return None
    return BlockPool(training, store)


def _in_memory(
    compared: Examples, bottlenecks: Floats, validation: Examples, settings: HeadSettings
) -> Examples:
    """Return the photos that steps draw from to validate.

    If they draw, these are the photos of `compared`, whose `bottlenecks` are in memory. If the
    whole validation set is scored each time, it is `validation` itself.
    """
    if not 0 < settings.validation_batch_size < len(validation.labels):
        return validation
    rows = np.arange(len(bottlenecks))[:, np.newaxis]
    return Examples(RowsInMemory(bottlenecks.astype(np.float16)), rows, compared.labels)


def _learning_rate(step: int, settings: HeadSettings) -> float:
    if settings.optimizer == "sgd":
        return settings.learning_rate
    factor = 0.5 * (1 + math.cos(math.pi * step / settings.how_many_training_steps))
    return settings.learning_rate * factor


def _is_reported(step: int, settings: HeadSettings) -> bool:
    interval = settings.intermediate_store_frequency
    return step % settings.eval_step_interval == 0 or bool(interval and step % interval == 0)


def _moments(training: Examples, settings: HeadSettings) -> tuple[Floats, Floats]:
    """Return mean and deviation of the bottlenecks, (D,) each; 0 and 1 for "sgd"."""
    width = training.store.width
    if settings.optimizer == "sgd":
        return np.zeros(width, np.float32), np.ones(width, np.float32)
    rows = training.rows.T.ravel()  # all first views, then all second ones: each gets its share
    bottlenecks = training.store.take(rows[:: max(1, len(rows) // _MAX_MOMENT_ROWS)])
    return bottlenecks.mean(axis=0), bottlenecks.std(axis=0) + DEVIATION_OFFSET


def _batches(training: Examples, rows: Ints) -> Iterator[Floats]:
    """Yield the bottlenecks (batch, D) of each line of `rows`; a thread reads the next ones."""
    steps, size = rows.shape
    block = max(1, _ROWS_READ_AHEAD // size)

    def read(first: int) -> Floats:
        bottlenecks = training.store.take(rows[first : first + block].ravel())
        return bottlenecks.reshape(-1, size, training.store.width)

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for first in range(block, steps + block, block):
            batches = following.result()
            if first < steps:
                following = reader.submit(read, first)
            yield from batches


def _next_checkpoint(
    previous: Checkpoint, step: int, head: Head, candidate: Head, cross_entropy: float
) -> Checkpoint:
    snapshot = Head(head.weights.copy(), head.bias.copy())
    if cross_entropy < previous.best_cross_entropy:
        return Checkpoint(step, snapshot, candidate, cross_entropy, 0)
    rounds = previous.rounds_since_best + 1
    return Checkpoint(step, snapshot, previous.best, previous.best_cross_entropy, rounds)


def _validate(head: Head, validation: Examples, settings: HeadSettings, step: int) -> Score:
    size = settings.validation_batch_size
    if not 0 < size < len(validation.labels):
        return score(head.logits_of(validation), validation.labels)
    random = np.random.default_rng((settings.seed, step, 1))
    photos = random.integers(len(validation.labels), size=size)
    batch = Examples(validation.store, validation.rows[photos], validation.labels[photos])
    return score(head.logits_of(batch), batch.labels)
