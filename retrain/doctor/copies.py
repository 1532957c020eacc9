"""Find copies of photos: of the same bytes, or resized, cropped, recompressed and brightened."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.system.counts import with_noun
from retrain.bottlenecks.near_duplicates import Pair
from retrain.data.folder_layout import TESTING, TRAINING, VALIDATION
from retrain.data.photo import Photo
from retrain.data.remote_path import look
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto, name_in
from retrain.metrics import Accuracy
from retrain.settings.training import HeadSettings
from retrain.training.fit_head import fit_head
from retrain.training.load_examples import TrainingData

_HEAD = HeadSettings(how_many_training_steps=1000, eval_step_interval=1000)
"""How the head is trained that shows what copies do to the accuracy."""


class Inflation(NamedTuple):
    """The accuracy on `every` test photo, and on the `clean` ones, like no training photo."""

    every: Accuracy
    clean: Accuracy

    @property
    def points(self) -> float | None:
        """By how many points the accuracy is too good, None if that may be chance.

        It may if the accuracy on every photo is within the 95% interval of that on the clean ones.
        """
        if self.every.value <= self.clean.interval[1]:
            return None
        return 100 * (self.every.value - self.clean.value)


def find_copies(examination: Examination) -> Sequence[Finding]:
    """Return the exact copies, and the near ones in a class, across classes and across splits.

    Of near copies with one label one photo stays: a training photo, the largest file. Of near
    copies with several labels all but one label are wrong, and gain as much as other wrong labels.
    """
    data, pairs = examination.data, examination.near_copies
    split_of = dict(zip((p.digest for p in data.dataset.photos), data.splits, strict=True))
    near: list[FindingPhoto] = []
    wrong = 0
    across_splits: list[FindingPhoto] = []
    across_classes = [
        FindingPhoto(bad.path, data.dataset.label_of(bad), bad.reason, bad.twin)
        for bad in data.dataset.bad
        if bad.twin
    ]
    for group in _groups(pairs):
        if len({photo.label for photo in group}) > 1:
            across_classes += _with_another_label(group)
            wrong += len(group) - max(Counter(photo.label for photo in group).values())
            continue
        first = min(group, key=lambda photo: (split_of[photo.digest] != TRAINING, -_size(photo)))
        for photo in group:
            if photo is first:
                continue
            split, other = split_of[photo.digest], split_of[first.digest]
            is_within = split == other
            where = "" if is_within else f" ({split}; the other is in {other})"
            reason = f"shows the same as {name_in(data.dataset.root, first.path)}{where}"
            finding_photo = FindingPhoto(photo.path, photo.label, reason, first.path)
            (near if is_within else across_splits).append(finding_photo)
    gain = 100 * wrong / len(data.dataset.photos) if wrong else None
    findings = [_exact(data), _across_classes(across_classes, gain), _near(near)]
    if across_splits:
        leaking = {pair.photo.digest for pair in pairs if _is_leak(pair)}
        findings.append(_across_splits(across_splits, inflation_of(data, leaking)))
    return [finding for finding in findings if finding.photos]


def _is_leak(pair: Pair) -> bool:
    """Return whether the label of a test photo was learned from its copy."""
    is_learned = (pair.split, pair.other_split) == (TESTING, TRAINING)
    return is_learned and pair.photo.label == pair.other.label


def inflation_of(data: TrainingData, leaking: Iterable[bytes]) -> Inflation | None:
    """Return the accuracy on all test photos, and on those whose digest is not in `leaking`.

    Return None if a class has no photo to train on, or if no other test photo is left.
    """
    training, testing = data.examples[TRAINING], data.examples[TESTING]
    digests = set(leaking)
    is_clean = np.array([photo.digest not in digests for photo in data.test_photos])
    if not is_clean.any() or is_clean.all():
        return None
    if len(np.unique(training.labels)) < len(data.labels):
        return None
    *_, last = fit_head(training, data.examples[VALIDATION], len(data.labels), _HEAD)
    if last.checkpoint is None:  # for the type checker: the last step ends a round
        return None
    logits: npt.NDArray[np.float32] = last.checkpoint.best.logits_of(testing)
    every = Accuracy.of(logits, testing.labels)
    return Inflation(every, Accuracy.of(logits[is_clean], testing.labels[is_clean]))


def inflation_text(inflation: Inflation | None) -> str:
    """Return a sentence about what `inflation_of` returned, after a space; "" for None."""
    if not inflation:
        return ""
    every, clean, points = inflation.every, inflation.clean, inflation.points
    if points is not None:
        verdict = f": {points:.1f} points too good."
    else:
        verdict = ": the difference may be chance." if every.value > clean.value else "."
    return (
        " A final layer that was trained to compare reaches "
        f"{every.value:.1%} on all {with_noun(every.total, 'test photo')}, and "
        f"{clean.value:.1%} without the {with_noun(every.total - clean.total, 'photo')} like a "
        f"training photo{verdict}"
    )


def _groups(pairs: Sequence[Pair]) -> list[list[Photo]]:
    """Return the photos that show the same, each group in the order of the paths."""
    group_of: dict[bytes, dict[bytes, Photo]] = {}
    for pair in pairs:
        smaller, larger = sorted(
            (
                group_of.setdefault(photo.digest, {photo.digest: photo})
                for photo in (pair.photo, pair.other)
            ),
            key=len,
        )
        if smaller is not larger:
            # The smaller group is moved, so that a photo moves log2(N) times at most.
            larger |= smaller
            group_of.update(dict.fromkeys(smaller, larger))
    distinct = {id(group): group for group in group_of.values()}
    return [sorted(group.values(), key=lambda photo: photo.path) for group in distinct.values()]


def _with_another_label(group: Sequence[Photo]) -> list[FindingPhoto]:
    """Return all photos of a group, each with one of another label."""
    photos = []
    for photo in group:
        other = next(other for other in group if other.label != photo.label)
        reason = f"shows the same as a photo of {other.label}"
        photos.append(FindingPhoto(photo.path, photo.label, reason, other.path))
    return photos


def _size(photo: Photo) -> int:
    try:
        return look(photo.path).size or 0
    except OSError:
        return 0


def _is_same_file(photo: Photo, other: Photo) -> bool:
    """Return whether two paths name one file: two rows of a list, or a link and its target."""
    if isinstance(photo.path, Path) and isinstance(other.path, Path):
        return os.path.realpath(photo.path) == os.path.realpath(other.path)
    return photo.path == other.path


def _exact(data: TrainingData) -> Finding:
    by_split: dict[bool, list[FindingPhoto]] = defaultdict(list)
    for copy in data.dataset.copies:
        photo, original = copy
        if _is_same_file(photo, original):
            continue
        reason = f"the same file as {name_in(data.dataset.root, original.path)}"
        finding_photo = FindingPhoto(photo.path, photo.label, reason, original.path)
        by_split[photo.split == original.split].append(finding_photo)
    photos = (*by_split[False], *by_split[True])
    leaks = len(by_split[False])
    return Finding(
        "exact-copy",
        with_noun(len(photos), "exact copy"),
        "Each content is used once: copies add nothing."
        + (f" Those in another split, {leaks}, are not used there." if leaks else ""),
        "Set the copies aside.",
        photos,
        suggested=len(photos),
    )


def _across_classes(photos: Sequence[FindingPhoto], gain: float | None) -> Finding:
    return Finding(
        "copy-across-classes",
        f"{with_noun(len(photos), 'photo')} with the same picture as one of another class",
        "One of the two labels is wrong. Exact copies are left out until one label is left; the "
        "model learns both labels of the others.",
        "Look at them, and keep each in the right class only.",
        tuple(photos),
        gain=gain,
    )


def _near(photos: Sequence[FindingPhoto]) -> Finding:
    return Finding(
        "near-copy",
        f"{with_noun(len(photos), 'photo')} with the same picture as another of the class",
        "Resized, cropped or recompressed copies add little, and give one picture more weight.",
        "Set the copies aside: the largest file of each stays.",
        tuple(photos),
        suggested=len(photos),
    )


def _across_splits(photos: Sequence[FindingPhoto], inflation: Inflation | None) -> Finding:
    reason = (
        "A model that has trained on a photo knows its copy: the accuracy looks too good."
        + inflation_text(inflation)
    )
    return Finding(
        "copy-across-splits",
        f"{with_noun(len(photos), 'photo')} with the same picture as one in another split",
        reason,
        "Set the copies aside: the photo in training stays.",
        tuple(photos),
        suggested=len(photos),
        inflation=inflation.points if inflation else None,
    )
