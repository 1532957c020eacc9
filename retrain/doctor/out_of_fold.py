"""Predict the label of each photo by a head that was trained without that photo."""

from collections.abc import Sequence

import numpy as np

from retrain.data.photo import Photo
from retrain.data.photo_groups import Groups
from retrain.data.photo_table import PhotoTable
from retrain.settings.training import HeadSettings
from retrain.training.fit_head import fit_head
from retrain.training.head import Examples, Floats, Ints, softmax
from retrain.training.load_examples import TrainingData

_FOLDS = 5
_STEPS = 200
_MAX_VALIDATION_PHOTOS = 10
"""The last head is taken, whatever it validates: validation would only cost time."""


def all_examples(data: TrainingData) -> Examples:
    """Return the undistorted photos of all splits, in the order of `data.dataset.photos`."""
    rows = np.empty((len(data.splits), 1), np.int64)
    labels = np.empty(len(data.splits), np.int64)
    for name, examples in data.examples.items():
        members = data.splits.members(name)
        rows[members] = examples.rows[:, :1]
        labels[members] = examples.labels
    return Examples(next(iter(data.examples.values())).store, rows, labels)


def divide(photos: Sequence[Photo], labels: Ints) -> Ints:
    """Return the fold of each photo, (N,), one of five; each class is spread evenly over them.

    Photos that the split keeps together are in one fold.
    """
    groups = Groups(PhotoTable.of(photos))
    leaders = groups.leaders
    numbers = np.flatnonzero(leaders == np.arange(len(leaders)))
    hashes = groups.hashes(b"fold", numbers)
    order = np.lexsort((*reversed(hashes.view(">u8").T), labels[numbers]))
    fold = np.empty(len(leaders), np.int64)
    fold[numbers[order]] = np.arange(len(order)) % _FOLDS
    return np.asarray(fold[leaders])


def predict(folds: Ints, examples: Examples, classes: int, left_out: Ints | None = None) -> Floats:
    """Return the probabilities (N, C) of photos, each by the heads of the folds that it is not in.

    `folds` are those of `divide`. Photos numbered in `left_out` are predicted too, but no head
    learns from them, unless nothing else is left of their class. A class that has no photo in the
    other folds gets the probability 0 there: see `judged`. Memory grows with N C, not with the
    bottlenecks.
    """
    is_learned = np.ones(len(folds), bool)
    if left_out is not None:
        is_learned[left_out] = False
    probabilities = np.zeros((len(folds), classes), np.float32)
    settings = HeadSettings(_STEPS, eval_step_interval=_STEPS)
    for number in range(_FOLDS):
        held_out = np.flatnonzero(folds == number)
        training = np.flatnonzero(folds != number)
        is_kept = is_learned[training]
        is_kept |= ~np.isin(examples.labels[training], examples.labels[training[is_kept]])
        training = training[is_kept]
        if not len(held_out) or not len(training):
            continue
        present, labels = np.unique(examples.labels[training], return_inverse=True)
        known = Examples(examples.store, examples.rows[training], labels)
        few = slice(_MAX_VALIDATION_PHOTOS)
        validation = Examples(known.store, known.rows[few], known.labels[few])
        *_, report = fit_head(known, validation, len(present), settings)
        logits = report.head.logits_of(
            Examples(examples.store, examples.rows[held_out], examples.labels[held_out])
        )
        probabilities[np.ix_(held_out, present)] = softmax(logits)
    return probabilities


def judged(folds: Ints, labels: Ints) -> Ints:
    """Return the numbers of the photos whose class has photos in other folds too.

    The others are predicted by a head that never saw their class, which says nothing about them.
    """
    classes_of_folds = np.unique(labels * _FOLDS + folds) // _FOLDS
    return np.flatnonzero(np.bincount(classes_of_folds)[labels] > 1)
