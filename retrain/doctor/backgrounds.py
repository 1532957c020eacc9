"""Find classes that are recognised by their background: by the border of the photos alone."""

from collections import Counter
from collections.abc import Sequence

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
from retrain.training.head import Examples, Floats, Ints

KINDS = ("background",)
_MAX_PHOTOS = 400
_MIN_PHOTOS_PER_CLASS = 10
"""With fewer photos in the sample, a class is not judged."""
_BORDERS = DistortedViews(1, Distortion(blank_centre=80))
_MIN_F1 = 0.85
"""Least F1 by the border alone: at most 0.80 of flowers and solar cells, at least 0.92 of flowers
within a blue border, of which 3% have a wrong label."""
_MIN_GAIN = 0.775
"""Least share of what separates the F1 of a head that always names the class from 1. For one of
five equal classes it is `_MIN_F1`."""
_MAX_LOSS = 0.05
"""By how much it may be below that of whole photos."""


def find(examination: Examination) -> Sequence[Finding]:
    """Return a finding for each class that is recognised by the border of its photos.

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
    return [
        _finding(label, data.labels[label], scores[label], by_border, labels, borders.photos)
        for label in recognised
        if (scores[label].f1 or 0) >= (usual[label].f1 or 0) - _MAX_LOSS
    ]


def _least_f1(share: float) -> float:
    """Return the least F1 by the border alone of a class with this `share` of the photos, 0..1."""
    by_chance = 2 * share / (1 + share)  # of a head that always names the class
    return max(_MIN_F1, by_chance + _MIN_GAIN * (1 - by_chance))


def _without_majority(photos: Sequence[Photo]) -> list[Photo]:
    """Return `photos`, of the largest class at most as many as of all others together."""
    sizes = Counter(photo.label for photo in photos)
    return take_in_turn(photos, 2 * (len(photos) - max(sizes.values())))


def _finding(
    label: int,
    name: str,
    score: ClassScore,
    by_border: Floats,
    labels: Ints,
    photos: Sequence[Photo],
) -> Finding:
    """Return the finding of a class, with its photos that are recognised, the surest first."""
    probability = by_border[:, label]
    members = np.flatnonzero((labels == label) & (by_border.argmax(axis=1) == label))
    surest = members[np.argsort(-probability[members], kind="stable")]
    return Finding(
        "background",
        f"{name} is recognised by its background",
        f"By the border of the photos alone, their centre grey, {score.recall:.0%} of {name} are "
        f"recognised, and {score.precision:.0%} of what is taken for {name} is right. Before "
        "another background the model may fail.",
        f"Photograph {name} before the backgrounds of the other classes, and these before its "
        f"background; or cut the photos closer. If {name} fills its photos to the border, all is "
        "well.",
        tuple(
            FindingPhoto(
                photos[number].path,
                name,
                f"its border alone is taken for {name} ({probability[number]:.0%})",
            )
            for number in surest.tolist()
        ),
    )
