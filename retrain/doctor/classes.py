"""Find classes that cannot be learned well: too few photos, too unequal, overlapping, collapsed."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from deploy.system.counts import with_noun
from retrain.data import split
from retrain.data.dataset import MIN_PHOTOS_PER_CLASS
from retrain.data.photo import Photo
from retrain.data.photo_groups import Groups
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto
from retrain.metrics import Accuracy, confusion_matrix
from retrain.training.head import Floats, Ints

KINDS = ("few-photos", "imbalance")
_MAX_RATIO = 3
"""Of the photos of two classes; with more, the smaller class is rare."""
_MIN_OVERLAP = 0.1
"""Least share of two classes' photos that are taken for the other one: the lower end of its 95%
interval."""
_MIN_COLLAPSE = 0.95
"""Least share of the photos of other classes, but for rare ones, that are taken for one class."""


def find(examination: Examination) -> Sequence[Finding]:
    """Return the classes of too few photos or things, and those far smaller than the largest."""
    data = examination.data
    members: dict[str, list[Photo]] = {label: [] for label in data.labels}
    photos = data.dataset.photos
    for photo in photos:
        members[photo.label].append(photo)
    missing: dict[str, list[str]] = defaultdict(list)
    for label, name in split.without_photos(photos, data.splits):
        missing[label].append(name)
    _, labels = Groups(photos).labels()
    counts = np.bincount(labels, minlength=len(photos.label_names)).tolist()
    things = dict(zip(photos.label_names, counts, strict=True))
    few = [
        finding
        for label, own in members.items()
        if (finding := _few_photos(label, own, things.get(label, 0), missing[label]))
    ]
    return [*few, *_imbalance(members)]


def find_collapse(predicted: Ints, labels: Ints, names: Sequence[str]) -> Finding | None:
    """Return the finding that nearly all photos are taken for one class, None if they are not.

    `predicted` and `labels` are (N,). Classes that are rare beside that class do not count: in
    doubt, a network names the frequent class.
    """
    matrix = confusion_matrix(predicted, labels, len(names))
    chosen = int(matrix.sum(axis=0).argmax())
    sizes = matrix.sum(axis=1)
    is_compared = sizes * _MAX_RATIO >= sizes[chosen]
    is_compared[chosen] = False
    foreign = int(sizes[is_compared].sum())
    misclassified = int(matrix[is_compared, chosen].sum())
    if misclassified < max(MIN_PHOTOS_PER_CLASS, _MIN_COLLAPSE * foreign):
        return None
    return Finding(
        "collapse",
        f"nearly all photos are taken for {names[chosen]}",
        f"{misclassified:,} of the {foreign:,} photos of other classes are taken for it: to the "
        "network all photos look the same, which is hardly the photos' fault.",
        "Check `input_mean`, `input_std` and `input_size` of a network of your own, or use "
        "another `architecture`.",
        (),
    )


def find_overlaps(
    photos: Sequence[Photo], probabilities: Floats, labels: Ints, names: Sequence[str]
) -> list[Finding]:
    """Return each two classes of which many photos are taken for the other, the worst first.

    `probabilities` are (N, C), `labels` (N,). The photos are those that are taken for the other
    class, the surest first.
    """
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(predicted, labels, len(names))
    confused = matrix + matrix.T
    sizes = matrix.sum(axis=1)
    overlaps = []
    for first, second in np.argwhere(np.triu(confused, 1)).tolist():
        errors = Accuracy(int(confused[first, second]), int(sizes[first] + sizes[second]))
        if errors.interval[0] >= _MIN_OVERLAP:
            overlaps.append((errors.value, first, second))
    findings = []
    for share, first, second in sorted(overlaps, reverse=True):
        ends = np.sort(np.stack([labels, predicted]), axis=0)
        numbers = np.flatnonzero((ends[0] == first) & (ends[1] == second))
        surest = np.argsort(-probabilities[numbers, predicted[numbers]], kind="stable")
        findings.append(
            Finding(
                "overlap",
                f"{names[first]} and {names[second]} are hard to tell apart",
                f"{share:.0%} of their photos are taken for the other class by a network that was "
                "trained without them.",
                "Add photos that show the difference, name the classes more clearly, or make one "
                "class of both.",
                tuple(
                    FindingPhoto(
                        photos[number].path,
                        photos[number].label,
                        f"is taken for {names[predicted[number]]} "
                        f"({probabilities[number, predicted[number]]:.0%})",
                    )
                    for number in numbers[surest].tolist()
                ),
            )
        )
    return findings


def _few_photos(
    label: str, photos: Sequence[Photo], things: int, missing: Sequence[str]
) -> Finding | None:
    """Return the finding that a class has too few photos, or photos of too few things.

    `things` counts what the split keeps together, `missing` are the splits without a photo of the
    class. A class of one thing is in one fold, so that `out_of_fold.judged` leaves it out.
    """
    count = with_noun(len(photos), "photo")
    are_few, is_one_thing = len(photos) < MIN_PHOTOS_PER_CLASS, things == 1
    are_kept_together = things < min(len(photos), len(split.SPLITS))
    if are_few:
        title = f"only {count} of {label}"
    elif are_kept_together:
        title = f"all {count} of {label} are of {with_noun(things, 'thing')}"
    elif missing:
        title = f"no photo of {label} for {' and '.join(missing)}"
    else:
        return None
    reasons = []
    if are_few:
        reasons.append(
            f"With fewer than {MIN_PHOTOS_PER_CLASS} photos a class is learned badly, and its "
            "accuracy is a guess."
        )
    if are_kept_together:
        outcome = (
            "in several splits they make the accuracy too good"
            if photos[0].split  # the user's own
            else "they stay in one split"
        )
        reasons.append(f"Photos with the same name before _nohash_ are of one thing: {outcome}.")
    if missing:
        untested = f": nothing shows how well {label} is recognised"
        reasons.append(
            f"None is left for {' and '.join(missing)}"
            f"{untested if split.TESTING in missing else ''}."
        )
    if is_one_thing:
        reasons.append(
            "Their labels are not judged: a network that was trained without them does not know "
            "the class."
        )
    remedy = "other things, places and light, rather than more shots of the same"
    if not are_few and not are_kept_together:
        remedy = "in each split"
    return Finding(
        "few-photos",
        title,
        " ".join(reasons),
        f"Add photos of {label}: {remedy}.",
        tuple(FindingPhoto(photo.path, label, f"is one of {len(photos)}") for photo in photos),
    )


def _imbalance(members: dict[str, list[Photo]]) -> list[Finding]:
    counts = {label: len(photos) for label, photos in members.items()}
    largest = max(counts, key=lambda label: counts[label])
    small = [label for label in counts if counts[label] * _MAX_RATIO < counts[largest]]
    if not small:
        return []
    listed = ", ".join(f"{counts[label]:,} of {label}" for label in small)
    return [
        Finding(
            "imbalance",
            f"{largest} has more than {_MAX_RATIO} times as many photos as {', '.join(small)}",
            f"There are {counts[largest]:,} photos of {largest}, but {listed}: in doubt, the "
            "network names the frequent class.",
            "Add photos of the rare classes; if they are not as rare where the model is used, "
            "train with `class_weight` balanced.",
            (),
        )
    ]
