"""Train the top of a network on feature maps, from the head that was trained on bottlenecks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData
from retrain.metrics import calibrated_cross_entropies
from retrain.settings.training import FineTuneSettings, HeadSettings
from retrain.training import curves
from retrain.training.adamw import AdamW
from retrain.training.checkpoint import Array, number
from retrain.training.curves import CurvePoint
from retrain.training.head import (
    Examples,
    Floats,
    Ints,
    Score,
    evenly_spaced,
    log_frequencies,
    score,
    smoothed_targets,
)
from retrain.training.top import Top

_HEAD_RATE = 3.0
"""The head's learning rate, as a multiple of the other layers'."""
_WARM_UP = 0.1
"""Share of the steps in which the learning rate rises from 0."""
_MAX_COMPARED_PHOTOS = 2_000
_NUMBER_KINDS = {
    "steps": "iu",
    "best_cross_entropy": "f",
    "epochs_since_best": "iu",
    "epoch": "iu",
    "runs": "iu",
}
"""The numpy kinds that each member of a checkpoint which is a number may have."""


@dataclass(frozen=True)
class FineTuneState:
    """The state after an epoch, complete enough to resume as if training had not stopped.

    `optimizer` is the state of the run in training after `epoch` epochs; the next epoch changes
    it. `best` are the run's parameters with the lowest validation cross entropy,
    `best_cross_entropy` in nats; `epochs_since_best` counts the epochs after it. `total` is the sum
    of the parameters of the `runs` that are finished. `curve` has the scores of all epochs.
    """

    optimizer: AdamW
    best: list[Floats]
    best_cross_entropy: float
    epochs_since_best: int
    epoch: int
    runs: int
    total: list[Floats]
    curve: tuple[CurvePoint, ...] = ()

    @classmethod
    def start(
        cls, parameters: Sequence[Floats], runs: int = 0, total: Sequence[Floats] = ()
    ) -> "FineTuneState":
        """Return the state before a run's first epoch, after `runs` others with the sum `total`."""
        total = list(total) or [np.zeros_like(values) for values in parameters]
        return cls(AdamW.start(parameters), list(parameters), math.inf, 0, 0, runs, total)

    def to_members(self) -> dict[str, npt.ArrayLike]:
        """Return the members of its checkpoint."""
        members: dict[str, npt.ArrayLike] = {
            name: getattr(self, name) for name in _NUMBER_KINDS if name != "steps"
        }
        members["steps"] = self.optimizer.steps
        members[curves.MEMBER] = curves.to_array(self.curve)
        for name, arrays in self._lists().items():
            members |= {f"{name}/{number}": values for number, values in enumerate(arrays)}
        return members

    def _lists(self) -> dict[str, list[Floats]]:
        optimizer = self.optimizer
        return {
            "parameters": optimizer.parameters,
            "means": optimizer.means,
            "squares": optimizer.squares,
            "best": self.best,
            "total": self.total,
        }

    @classmethod
    def from_members(
        cls, members: Mapping[str, Array], shapes: Sequence[tuple[int, ...]]
    ) -> "FineTuneState":
        """Return the state that `to_members` gave, of parameters of `shapes`.

        Raises ValueError for others.
        """

        def arrays(name: str) -> list[Floats]:
            values = [members.get(f"{name}/{number}") for number in range(len(shapes))]
            for array, shape in zip(values, shapes, strict=True):
                if array is None or array.dtype != np.float32 or array.shape != shape:
                    raise ValueError(f"{name} do not fit the network")
            return values  # type: ignore[return-value]

        numbers = {name: number(members, name, kinds) for name, kinds in _NUMBER_KINDS.items()}
        optimizer = AdamW(
            arrays("parameters"), arrays("means"), arrays("squares"), int(numbers["steps"])
        )
        return cls(
            optimizer,
            arrays("best"),
            numbers["best_cross_entropy"],
            int(numbers["epochs_since_best"]),
            int(numbers["epoch"]),
            int(numbers["runs"]),
            arrays("total"),
            curves.from_members(members),
        )

    @property
    def average(self) -> list[Floats]:
        """The mean of the parameters of the finished runs."""
        return [values / np.float32(self.runs) for values in self.total]


class EpochReport(NamedTuple):
    """The scores of an epoch: `train` of its batches, `validation` after it.

    `epoch` counts from 1 in each run. `state` is the one after it.
    """

    run: int
    epoch: int
    train: Score
    validation: Score
    learning_rate: float
    state: FineTuneState


def fit_top(
    top: Top,
    training: Examples,
    validation: Examples,
    parameters: Sequence[Floats],
    head_settings: HeadSettings,
    settings: FineTuneSettings,
    state: FineTuneState | None = None,
) -> Iterator[EpochReport]:
    """Minimise the cross entropy from `parameters`; yield a report after each epoch.

    The result is `state.average` of the last report. Equal seed, data and settings give equal
    parameters, on any number of cores, also if training resumes from a `state`. A run ends with its
    last parameters, or with its best ones if `early_stop` is set. Raises BadData if training
    diverges.
    """
    photos, classes = len(training.labels), parameters[-1].size
    epochs = settings.epochs_for(photos)
    batches = math.ceil(photos / settings.train_batch_size)
    compared = evenly_spaced(validation, _MAX_COMPARED_PHOTOS)
    targets = smoothed_targets(classes, settings.label_smoothing)
    offset = np.zeros(classes, np.float32)
    if head_settings.class_weight == "balanced":
        offset = log_frequencies(training.labels, classes)
    state = state or FineTuneState.start(parameters)
    while state.runs < settings.average:
        run, epoch, optimizer = state.runs, state.epoch, state.optimizer
        sums, rate = np.zeros(2), 0.0
        for batch, (rows, labels) in enumerate(
            _batches(training, head_settings.seed + run, epoch, batches)
        ):
            step = epoch * batches + batch
            rate = settings.learning_rate * _rate_factor(step, epochs * batches)
            rates = [rate] * (len(parameters) - 2) + [_HEAD_RATE * rate] * 2
            # Rounding has no gradient: that of the rounded kernels moves the exact ones.
            rounded = top.rounded(optimizer.parameters)
            logits, gradients = top.gradient(training.store, rows, targets[labels], offset, rounded)
            optimizer.update(gradients, rates, settings.weight_decay, top.run_all)
            sums += np.multiply(score(logits, labels), len(labels))
        logits = top.logits_of(compared, top.rounded(optimizer.parameters))
        if not all(np.isfinite(values).all() for values in (logits, *optimizer.parameters)):
            raise BadData("fine-tuning diverged, and no weights are usable: lower `learning_rate`")
        state = _next_state(state, logits, compared.labels, head_settings.early_stop)
        if state.epoch == epochs or 0 < head_settings.early_stop <= state.epochs_since_best:
            result = state.best if head_settings.early_stop else optimizer.parameters
            total = [before + values for before, values in zip(state.total, result, strict=True)]
            state = FineTuneState.start(parameters, run + 1, total)
        scores = Score(*(sums / photos).tolist()), score(logits, compared.labels)
        yield EpochReport(run, epoch + 1, *scores, rate, state)


def _batches(training: Examples, seed: int, epoch: int, count: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows and labels of each of `count` batches: every photo once, in random order.

    A photo shows another of its views in each epoch, until all were used.
    """
    photos, views = training.rows.shape
    first_views = np.random.default_rng((seed, 1)).integers(views, size=photos)
    rows = training.rows[np.arange(photos), (first_views + epoch) % views]
    order = np.random.default_rng((seed, 0, epoch)).permutation(photos)
    for batch in np.array_split(order, count):
        yield rows[batch], training.labels[batch]


def _rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate, 0..1: a linear rise, then a cosine to zero."""
    rising = max(1, round(_WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _next_state(
    state: FineTuneState, logits: Floats, labels: Ints, early_stop: int
) -> FineTuneState:
    """Return the state after an epoch with these validation logits."""
    state = replace(state, epoch=state.epoch + 1)
    if not early_stop:  # the best parameters are not used, and copying them takes memory
        return state
    cross_entropy = float(calibrated_cross_entropies(logits, labels).mean())
    if cross_entropy < state.best_cross_entropy:
        best = [values.copy() for values in state.optimizer.parameters]
        return replace(state, best=best, best_cross_entropy=cross_entropy, epochs_since_best=0)
    return replace(state, epochs_since_best=state.epochs_since_best + 1)
