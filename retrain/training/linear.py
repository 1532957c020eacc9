"""Training of the final layer: stochastic gradient descent that can be stopped and resumed."""

import hashlib
import io
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from retrain.settings.training import HeadSettings
from retrain.training.head import Examples, Floats, Head, Ints, Score, score, softmax

ROUNDS = 20
"""A run has so many parts; at the end of each, weights are compared and can be kept."""
_ENOUGH = 10_000
"""Rows that are enough to measure means on, and photos to compare weights on."""
_QUIET = np.float32(0.01)
"""Added to a deviation, so that a value that hardly moves is not blown up."""
MAX_CHECKPOINT = 2 * 1024**3
"""Bytes of a checkpoint that are read."""
_ARRAYS = ("weights", "bias", "best_weights", "best_bias")
_MEMBERS = ("key", "step", *_ARRAYS, "best_cross_entropy", "rounds_since")
_AHEAD = 400
"""About how many rows are read while others are learned from."""


@dataclass(frozen=True)
class State:
    """Where a run is after a round: all that it needs to go on as if it had not stopped.

    `head` is the one in training, of bottlenecks as the optimizer takes them; `best` takes them as
    they are, and had the lowest cross entropy on the validation set, `rounds_since` rounds ago.
    """

    step: int
    head: Head
    best: Head
    best_cross_entropy: float
    rounds_since: int

    def to_bytes(self, key: str) -> bytes:
        """Return an .npz file and its SHA-256; `key` names the run that it is of."""
        content = io.BytesIO()
        np.savez(
            content,
            key=key,
            step=self.step,
            weights=self.head.weights,
            bias=self.head.bias,
            best_weights=self.best.weights,
            best_bias=self.best.bias,
            best_cross_entropy=self.best_cross_entropy,
            rounds_since=self.rounds_since,
        )
        return content.getvalue() + hashlib.sha256(content.getvalue()).digest()

    @classmethod
    def from_bytes(cls, content: bytes) -> tuple[str, "State"]:
        """Return the key and the state that `to_bytes` wrote; raise ValueError for others.

        An array larger than the file, which a member that unpacks to more would be, is refused.
        """
        content, digest = content[:-32], content[-32:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("not a checkpoint, or damaged")
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            if not set(_MEMBERS) <= set(found.files):
                raise ValueError("a checkpoint of another version")
            if sum(each.file_size for each in found.zip.infolist()) > len(content):
                raise ValueError("its arrays are larger than the file")
            values = {name: found[name] for name in _MEMBERS}
        weights, bias, best_weights, best_bias = (values[name] for name in _ARRAYS)
        if not (
            weights.ndim == 2
            and weights.shape == best_weights.shape
            and weights.shape[1:] == bias.shape == best_bias.shape
            and all(values[name].dtype == np.float32 for name in _ARRAYS)
        ):
            raise ValueError("its arrays do not fit each other")
        return str(values["key"]), cls(
            int(values["step"]),
            Head(weights, bias),
            Head(best_weights, best_bias),
            float(values["best_cross_entropy"]),
            int(values["rounds_since"]),
        )


class Evaluation(NamedTuple):
    """What a step reports, after it: `train` is of its batch, `validation` of the `head`.

    `step` counts from 0. `head` takes bottlenecks as they are; `logits` are the batch's, of the
    head in training. `state` is there at the end of a round.
    """

    step: int
    train: Score
    validation: Score
    learning_rate: float
    logits: Floats
    head: Head
    state: State | None


def fit(
    training: Examples,
    validation: Examples,
    classes: int,
    config: HeadSettings,
    state: State | None = None,
) -> Iterator[Evaluation]:
    """Train on cross entropy; yield an evaluation at each of the steps that `config` names.

    The last one's `state.best` is the result. The same seed, data and settings give the same
    weights, on any number of cores, and so does a run that goes on from a `state` of such a run.
    Every label of 0..classes-1 must be in `training`. What the optimizers are worth is measured by
    `python -m bench.experiments.accuracy`.
    """
    mean, deviation = _moments(training, config)
    order = np.argsort(training.labels, kind="stable")
    counts = np.bincount(training.labels, minlength=classes)
    prior = np.zeros(classes, np.float32)
    if config.class_weight == "none":
        prior[:] = np.log(counts * (classes / counts.sum()))
    width, size = training.matrix.width, config.train_batch_size

    def raw(head: Head) -> Head:
        """Return the head that does to bottlenecks as they are what `head` does to its own."""
        weights = head.weights / deviation[:, np.newaxis]
        return Head(weights, head.bias - mean @ weights)

    def shipped(head: Head) -> Head:
        found = raw(head)
        return Head(found.weights, found.bias + prior)

    if state is None:
        weights = np.random.default_rng(config.seed).normal(0, 0.001, (width, classes))
        head = Head(weights.astype(np.float32), np.zeros(classes, np.float32))
        state = State(0, head, shipped(head), math.inf, 0)
    head = Head(state.head.weights.copy(), state.head.bias.copy())
    compared = _some(validation)
    bottlenecks = compared.matrix.take(compared.rows[:, 0])
    targets = np.eye(classes, dtype=np.float32) * (1 - config.label_smoothing)
    targets += config.label_smoothing / classes
    steps = config.how_many_training_steps
    length = max(1, math.ceil(steps / ROUNDS))
    # The products are small: threads would cost more than they save, and on a busy machine, or
    # under a quota, all of them wait for the one that does not run.
    with threadpool_limits(1, "blas"):
        while state.step < steps and not (0 < config.early_stop <= state.rounds_since):
            span = range(state.step, min(state.step + length, steps))
            random = np.random.default_rng((config.seed, span.start))
            labels = random.integers(classes, size=(len(span), size))
            chosen = order[(np.cumsum(counts) - counts)[labels] + random.integers(counts[labels])]
            rows = training.rows[chosen, random.integers(training.rows.shape[1], size=chosen.shape)]
            for step, batch in zip(span, _batches(training, rows), strict=True):
                rate = _rate(step, config)
                gradient = softmax(raw(head).logits(batch)) - targets[labels[step - span.start]]
                gradient *= rate / size
                total = gradient.sum(axis=0)
                # What standardizing the batch, and then multiplying, would give.
                change = (batch.T @ gradient - np.outer(mean, total)) / deviation[:, np.newaxis]
                np.multiply(head.weights, 1 - rate * config.decay, out=head.weights)
                np.subtract(head.weights, change, out=head.weights)
                np.subtract(head.bias, total, out=head.bias)
                if step == span[-1]:
                    now = shipped(head)
                    found = score(now.logits(bottlenecks), compared.labels).cross_entropy
                    state = _after(state, step + 1, head, now, found)
                elif not _reports(step, config):
                    continue
                logits, now = raw(head).logits(batch), shipped(head)
                yield Evaluation(
                    step,
                    score(logits, labels[step - span.start]),
                    _validate(now, validation, config, step),
                    rate,
                    logits,
                    now,
                    state if step == span[-1] else None,
                )


def _rate(step: int, config: HeadSettings) -> float:
    if config.optimizer == "sgd":
        return config.learning_rate
    fall = 0.5 * (1 + math.cos(math.pi * step / config.how_many_training_steps))
    return config.learning_rate * fall


def _reports(step: int, config: HeadSettings) -> bool:
    store = config.intermediate_store_frequency
    return step % config.eval_step_interval == 0 or bool(store and step % store == 0)


def _moments(training: Examples, config: HeadSettings) -> tuple[Floats, Floats]:
    """Return mean and deviation of the bottlenecks, (D,) each; 0 and 1 leave them as they are."""
    width = training.matrix.width
    if config.optimizer == "sgd":
        return np.zeros(width, np.float32), np.ones(width, np.float32)
    rows = training.rows.T.ravel()  # a view after the other, so that each has its share
    x = training.matrix.take(rows[:: max(1, len(rows) // _ENOUGH)])
    return x.mean(axis=0), x.std(axis=0) + _QUIET


def _some(examples: Examples) -> Examples:
    every = max(1, len(examples.labels) // _ENOUGH)
    return Examples(examples.matrix, examples.rows[::every], examples.labels[::every])


def _batches(training: Examples, rows: Ints) -> Iterator[Floats]:
    """Yield the bottlenecks (batch, D) of each line of `rows`; the next are read meanwhile."""
    steps, size = rows.shape
    together = max(1, _AHEAD // size)

    def read(first: int) -> Floats:
        found = training.matrix.take(rows[first : first + together].ravel())
        return found.reshape(-1, size, training.matrix.width)

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for first in range(together, steps + together, together):
            batches = following.result()
            if first < steps:
                following = reader.submit(read, first)
            yield from batches


def _after(state: State, step: int, head: Head, candidate: Head, found: float) -> State:
    kept = Head(head.weights.copy(), head.bias.copy())
    if found < state.best_cross_entropy:
        return State(step, kept, candidate, found, 0)
    return State(step, kept, state.best, state.best_cross_entropy, state.rounds_since + 1)


def _validate(head: Head, validation: Examples, config: HeadSettings, step: int) -> Score:
    if not 0 < config.validation_batch_size < len(validation.labels):
        return score(head.logits_of(validation), validation.labels)
    random = np.random.default_rng((config.seed, step, 1))
    chosen = random.integers(len(validation.labels), size=config.validation_batch_size)
    batch = Examples(validation.matrix, validation.rows[chosen], validation.labels[chosen])
    return score(head.logits_of(batch), batch.labels)
