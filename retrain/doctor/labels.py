"""Find wrong labels, by heads that were trained without the photo."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.system.counts import with_noun
from retrain.data.photo import Photo
from retrain.doctor import classes
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.doctor.out_of_fold import all_examples, divide, judged, predict
from retrain.doctor.ringleaders import find_ringleaders
from retrain.training.head import Examples, Floats, Ints, softmax

KINDS = ("wrong-label", "ringleader", "overlap", "collapse")
_MAX_CLASS_SHARE = 0.5
"""Of a class, no larger share is suggested to be set aside."""
_TEMPERATURES = np.geomspace(0.1, 2, 14).tolist()
_FIRST_SHARE = 0.05
"""Of wrong labels, where expectation maximisation starts."""
_MIN_SHARE = 0.02
"""No fewer labels are expected to be wrong; ten public data sets have 3.3% on average."""
_ROUNDS = 40
_TINY = 1e-9


class Suspects(NamedTuple):
    """Photos by number, the most likely wrong label first; so many of the first are `suggested`."""

    numbers: Ints
    suggested: int


def find(examination: Examination) -> Sequence[Finding]:
    """Return likely wrong labels, ringleaders, classes that overlap, or the collapse of them all.

    After a collapse there is nothing else to say: the predictions mean nothing. Photos of a class
    that the split keeps together are left out: no head knew the class that did not see them.
    """
    data = examination.data
    everything, labels = all_examples(data), data.labels
    folds = divide(data.dataset.photos, everything.labels)
    numbers = judged(folds, everything.labels)
    if not len(numbers):
        return []
    photos = data.dataset.photos.take(numbers)
    examples = Examples(everything.store, everything.rows[numbers], everything.labels[numbers])

    def judge(left_out: Ints | None = None) -> tuple[Floats, Suspects]:
        probabilities = predict(folds, everything, len(labels), left_out)[numbers]
        return probabilities, rank(probabilities, examples.labels)

    probabilities, suspects = judge()
    if collapse := classes.find_collapse(probabilities.argmax(axis=1), examples.labels, labels):
        return [collapse]
    if suspects.suggested:  # heads that do not learn from them judge all photos better
        probabilities, suspects = judge(numbers[suspects.numbers[: suspects.suggested]])
    predicted = probabilities.argmax(axis=1)
    return [
        *_wrong_labels(photos, probabilities, suspects, examples.labels, labels),
        *find_ringleaders(photos, predicted, examples, labels),
        *classes.find_overlaps(photos, probabilities, examples.labels, labels),
    ]


def rank(probabilities: Floats, labels: Ints) -> Suspects:
    """Return the photos that are predicted as another label, by the probability of their own.

    As many are suggested as have labels that are more likely wrong than right.
    `bench.experiments.doctor` compares them with those of cleanlab.
    """
    numbers = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    own = probabilities[numbers, labels[numbers]]
    count = int((probability_wrong(probabilities, labels)[numbers] > 0.5).sum())
    numbers = numbers[np.argsort(own, kind="stable")]
    sizes = np.bincount(labels, minlength=probabilities.shape[1])
    return _spare_classes(numbers, count, labels, sizes)


def probability_wrong(probabilities: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    """Return the probability (N,) that the label of each photo is wrong, by Bayes' rule.

    A share of all labels is taken to be wrong, with each other label as likely as the next. The
    share, of at least `_MIN_SHARE`, and the temperature of `probabilities` (N, C) are those under
    which `labels` (N,) are most likely; expectation maximisation finds the share.
    """
    count, class_count = probabilities.shape
    logits = np.log(np.maximum(probabilities, _TINY))
    highest, best = -math.inf, np.zeros(count)
    for temperature in _TEMPERATURES:
        right = softmax(logits / temperature)[np.arange(count), labels].astype(np.float64)
        right = np.clip(right, _TINY, 1 - _TINY)
        share = _FIRST_SHARE
        for _ in range(_ROUNDS):
            wrong = share * (1 - right) / max(1, class_count - 1)
            likelihood = wrong + (1 - share) * right
            share = max(_MIN_SHARE, float(np.mean(wrong / likelihood)))
        if (logarithm := float(np.log(likelihood).sum())) > highest:
            highest, best = logarithm, wrong / likelihood
    return best


def _spare_classes(numbers: Ints, suggested: int, labels: Ints, sizes: Ints) -> Suspects:
    """Return the suspects; those of a class of which half is suggested already come later."""
    left = np.floor(sizes * _MAX_CLASS_SHARE).astype(np.int64)
    first: list[int] = []
    spared: list[int] = []
    for number in numbers[:suggested].tolist():
        label = labels[number]
        (first if left[label] > 0 else spared).append(number)
        left[label] -= 1
    return Suspects(
        np.array([*first, *spared, *numbers[suggested:].tolist()], np.int64), len(first)
    )


def _wrong_labels(
    photos: Sequence[Photo],
    probabilities: Floats,
    suspects: Suspects,
    labels: Ints,
    names: Sequence[str],
) -> list[Finding]:
    if not suspects.suggested:
        return []

    def describe(number: int) -> FindingPhoto:
        photo, row = photos[number], probabilities[number]
        other = int(row.argmax())
        reason = (
            f"looks like {names[other]} ({row[other]:.0%}), not like {photo.label} "
            f"({row[labels[number]]:.0%})"
        )
        return FindingPhoto(photo.path, photo.label, reason, better_label=names[other])

    count = suspects.suggested
    return [
        Finding(
            "wrong-label",
            f"{with_noun(count, 'photo')} likely {'has' if count == 1 else 'have'} a wrong label",
            "A network that was trained without them takes them for another class, so surely that "
            "their label is more likely wrong than right; what they teach is wrong.",
            "Look at them: move each one to its right class, or set them aside. The ones after "
            f"the first {count:,} are less sure.",
            tuple(describe(number) for number in suspects.numbers.tolist()),
            suggested=count,
        )
    ]
