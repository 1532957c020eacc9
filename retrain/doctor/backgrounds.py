"""Find classes that are recognised by their background: by the border of the photos alone."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np

from retrain.bottlenecks.engine import EngineChoice
from retrain.bottlenecks.extract import DistortedViews, extract
from retrain.data.photo import Photo
from retrain.data.take_in_turn import take_in_turn
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.doctor.out_of_fold import all_examples, divide, predict
from retrain.metrics import ClassScore, class_scores, confusion_matrix
from retrain.settings.training import Distortion
from retrain.training.fit_head import DEVIATION_OFFSET
from retrain.training.head import Examples, Floats, Ints

KINDS = ("background",)
_MAX_PHOTOS = 400
_MIN_PHOTOS_PER_CLASS = 10
"""With fewer photos in the sample, a class is not judged."""
_BORDERS = DistortedViews(1, Distortion(blank_centre=80))
_MIN_F1 = 0.85
"""Least F1 by the border alone: at most 0.80 of flowers and solar cells, at least 0.87 of flowers
within a blue border, of which 3% have a wrong label."""
_MIN_GAIN = 0.775
"""Least share of what separates the F1 of a head that always names the class from 1. For one of
five equal classes it is `_MIN_F1`."""
_MAX_LOSS = 0.05
"""By how much it may be below that of whole photos: at most 0.044 of flowers within a border."""
_MAX_LOSS_SHARE = 0.075
"""The same as a share of what separates chance from 1. For one of five equal classes that is
`_MAX_LOSS`, for one of two it is 0.025. Two clean classes of flowers lose 0.033 or more, and 0.021
or less if one of them has a border."""


def find(examination: Examination) -> Sequence[Finding]:
    """Return a finding for each class that is recognised by the border of its photos.

    Of two classes the border of either tells both apart: they have one finding.

    In a sample of at most 400 photos, as evenly of the classes as can be, the centre is made grey:
    80% of each side of what the network gets. Heads are trained on these borders, and if they
    recognise a class, on the same photos as they are; each predicts photos that it did not see. A
    copy of a photo would give it away by any border, and is left out. The bottlenecks of the
    borders stay in the cache.
    """
    data, source = examination.data, examination.source
    number_of = {photo.digest: i for i, photo in enumerate(data.dataset.photos)}
    in_order = sorted(data.dataset.photos, key=lambda photo: (photo.label, photo.digest))
    sample = take_in_turn(in_order, _MAX_PHOTOS)
    digests = {photo.digest for photo in sample}
    copies = {pair.other.digest for pair in examination.near_copies if pair.photo.digest in digests}
    borders = extract(
        _without_majority([photo for photo in sample if photo.digest not in copies]),
        data.backbone,
        EngineChoice.of(source),
        source.bottlenecks,
        examination.progress,
        distorted=_BORDERS,
    )
    numbers = [number_of[photo.digest] for photo in borders.photos]
    whole = all_examples(data)
    labels = whole.labels[numbers]
    count = len(data.labels)
    folds = divide(borders.photos, labels)
    by_border = predict(folds, Examples(borders.store, borders.rows, labels), count)
    scores = class_scores(confusion_matrix(by_border.argmax(axis=1), labels, count))
    recognised = [
        label
        for label, score in enumerate(scores)
        if score.support >= _MIN_PHOTOS_PER_CLASS
        and (score.f1 or 0) >= _least_f1(score.support / len(labels))
    ]
    if not recognised:
        return []
    by_whole = predict(folds, Examples(whole.store, whole.rows[numbers], labels), count)
    usual = class_scores(confusion_matrix(by_whole.argmax(axis=1), labels, count))
    named = [
        label
        for label in recognised
        if (usual[label].f1 or 0) - (scores[label].f1 or 0)
        <= _max_loss(scores[label].support / len(labels))
    ]
    photos = _Borders(borders.photos, by_border, labels, data.labels)
    if named and count == 2:
        spreads = _spreads(borders.store.take(borders.rows[:, 0]), labels)
        return [_finding_of_two(int(spreads.argmin()), photos)]
    return [_finding(label, scores[label], photos) for label in named]


def _least_f1(share: float) -> float:
    """Return the least F1 by the border alone of a class with this `share` of the photos, 0..1."""
    return max(_MIN_F1, 1 - (1 - _MIN_GAIN) * _beyond_chance(share))


def _max_loss(share: float) -> float:
    """Return by how much the F1 of such a class may be below that of whole photos."""
    return min(_MAX_LOSS, _MAX_LOSS_SHARE * _beyond_chance(share))


def _beyond_chance(share: float) -> float:
    """Return what separates the F1 of a head that always names such a class from 1."""
    return 1 - 2 * share / (1 + share)


def _without_majority(photos: Sequence[Photo]) -> list[Photo]:
    """Return `photos`, of the largest class at most as many as of all others together."""
    sizes = Counter(photo.label for photo in photos)
    return take_in_turn(photos, 2 * (len(photos) - max(sizes.values())))


def _spreads(bottlenecks: Floats, labels: Ints) -> Floats:
    """Return how much the borders of each of two classes differ among themselves, (2,).

    That is the mean variance of their standardized `bottlenecks` (N, D); `labels` are (N,).
    """
    standardized = bottlenecks / (bottlenecks.std(axis=0) + DEVIATION_OFFSET)
    variances = [standardized[labels == label].var(axis=0).mean() for label in range(2)]
    return np.array(variances, np.float32)


class _Borders(NamedTuple):
    """The photos of the sample, what their borders are taken for (N, C), and their labels (N,)."""

    photos: Sequence[Photo]
    probabilities: Floats
    labels: Ints
    names: Sequence[str]

    def recognised(self, label: int) -> list[FindingPhoto]:
        """Return the photos of a class that are recognised by the border, the surest first."""
        name, probability = self.names[label], self.probabilities[:, label]
        is_right = self.probabilities.argmax(axis=1) == label
        members = np.flatnonzero((self.labels == label) & is_right)
        surest = members[np.argsort(-probability[members], kind="stable")]
        return [
            FindingPhoto(
                self.photos[number].path,
                name,
                f"its border alone is taken for {name} ({probability[number]:.0%})",
            )
            for number in surest.tolist()
        ]


def _finding(label: int, score: ClassScore, borders: _Borders) -> Finding:
    """Return the finding of a class, with its photos that are recognised."""
    name = borders.names[label]
    return Finding(
        "background",
        f"{name} is recognised by its background",
        f"By the border of the photos alone, their centre grey, {score.recall:.0%} of {name} are "
        f"recognised, and {score.precision:.0%} of what is taken for {name} is right. Before "
        "another background the model may fail.",
        f"Photograph {name} before the backgrounds of the other classes, and these before its "
        f"background; or cut the photos closer. If {name} fills its photos to the border, all is "
        "well.",
        tuple(borders.recognised(label)),
    )


def _finding_of_two(first: int, borders: _Borders) -> Finding:
    """Return the finding of two classes that the border tells apart, with photos of both in turn.

    The borders of the class `first` are more alike than those of the other one.
    """
    name, other = borders.names[first], borders.names[1 - first]
    in_turn = zip_longest(borders.recognised(first), borders.recognised(1 - first))
    share = np.mean(borders.probabilities.argmax(axis=1) == borders.labels)
    return Finding(
        "background",
        f"{name} and {other} are told apart by their backgrounds",
        f"By the border of the photos alone, their centre grey, {share:.0%} are recognised. Before "
        "another background the model may fail. The borders of either class may be the reason; "
        f"those of {name} are more alike.",
        "Photograph both before the same backgrounds, or cut the photos closer. If they fill their "
        "photos to the border, all is well.",
        tuple(photo for photo in chain.from_iterable(in_turn) if photo),
    )
