"""Find photos of one moment that are in different splits, by time, running number and likeness."""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.system.counts import with_noun
from retrain.data.folder_layout import SPLITS, TESTING, TRAINING
from retrain.data.photo import Photo
from retrain.doctor.copies import inflation_of, inflation_text
from retrain.doctor.finding import Finding, FindingPhoto, name_in
from retrain.doctor.pixel_statistics import statistics_cache, times
from retrain.progress import Progress
from retrain.settings.training import Source
from retrain.training.load_examples import TrainingData

_MAX_SECONDS = 10.0
_MAX_NUMBER_STEP = 2
_MIN_LIKENESS_BY_TIME, _MIN_LIKENESS_BY_NUMBER = 0.9, 0.99
"""Photos of one moment are at least as alike as that share of random pairs of their class."""
_MIN_SERIES_SHARE = 0.1
"""Running numbers mean something if this share of successive photos is alike; 1% is by chance."""
_SAMPLE = 500
_SEED = 0
_ROUNDING = 1e-5
_NUMBERED = re.compile(r"(.*?)(\d{1,18})(\D*)", re.DOTALL)

Floats = npt.NDArray[np.float32]


class Neighbours(NamedTuple):
    """Two photos of a class, by number, that follow each other, and in what."""

    first: int
    second: int
    reason: str


def find_moments(data: TrainingData, source: Source, progress: Progress) -> Sequence[Finding]:
    """Return the photos of validation and testing of whose moment a photo trains."""
    photos, splits = data.dataset.photos, data.splits
    likeness = _Likeness(data)
    by_time = [
        pair
        for pair in _by_time(photos, source, progress)
        if likeness.of(pair) >= _MIN_LIKENESS_BY_TIME
    ]
    numbered = _by_number(photos)
    by_number = [pair for pair in numbered if likeness.of(pair) >= _MIN_LIKENESS_BY_NUMBER]
    if len(by_number) < _MIN_SERIES_SHARE * len(numbered):
        by_number = []
    twin_of: dict[int, tuple[int, str]] = {}
    for first, second, reason in (*by_time, *by_number):
        if splits[first] == TRAINING:
            first, second = second, first
        if splits[first] != TRAINING and splits[second] == TRAINING:
            twin_of.setdefault(first, (second, reason))
    if not twin_of:
        return []
    leaking = [photos[i].digest for i in twin_of if splits[i] == TESTING]
    root = data.dataset.root
    inflation = inflation_of(data, leaking)
    return [
        Finding(
            "one-moment",
            f"{with_noun(len(twin_of), 'photo')} outside training with a training photo of the "
            "same moment",
            "They do not show how the model does on another day, or on another piece."
            + inflation_text(inflation),
            "Keep the photos of one thing in one split: name them cup_nohash_1.jpg, "
            "cup_nohash_2.jpg and so on, or make folders train/ and test/ yourself.",
            tuple(
                FindingPhoto(
                    photos[i].path,
                    photos[i].label,
                    f"{splits[i]}; {reason} {name_in(root, photos[twin].path)}, and like it",
                    photos[twin].path,
                )
                for i, (twin, reason) in sorted(twin_of.items())
            ),
            inflation=inflation.points if inflation else None,
        )
    ]


def _by_time(photos: Sequence[Photo], source: Source, progress: Progress) -> list[Neighbours]:
    """Return the photos of a class that a camera took within seconds."""
    store, rows, readable = statistics_cache(source.pictures).load(photos, progress)
    if not readable:
        return []
    number_of = {photo.digest: number for number, photo in enumerate(photos)}
    timed_photos = [
        (photo.label, time, number_of[photo.digest])
        for photo, time in zip(readable, times(store.take(rows)), strict=True)
        if time
    ]
    pairs = []
    for (label, time, i), (other_label, other_time, j) in pairwise(sorted(timed_photos)):
        seconds = (other_time - time).total_seconds()
        if label == other_label and seconds <= _MAX_SECONDS:
            pairs.append(Neighbours(i, j, f"{seconds:.0f} s from"))
    return pairs


def _by_number(photos: Sequence[Photo]) -> list[Neighbours]:
    """Return the photos of a class whose names have successive numbers."""
    series: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for number, photo in enumerate(photos):
        if match := _NUMBERED.fullmatch(photo.path.stem):
            prefix, digits, suffix = match.groups()
            key = photo.label, prefix, suffix
            series[key].append((int(digits), number))
    return [
        Neighbours(i, j, "next to")
        for members in series.values()
        for (number, i), (other, j) in pairwise(sorted(members))
        if other - number <= _MAX_NUMBER_STEP
    ]


class _Likeness:
    """How alike two photos of a class are, by their bottlenecks."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self._labels = np.array([photo.label for photo in data.dataset.photos])
        row_of: dict[bytes, int] = {}
        for name in SPLITS:
            photos = data.dataset.photos.take(data.splits.members(name))
            if name == TESTING:
                photos = data.test_photos
            rows = data.examples[name].rows[:, 0].tolist()
            row_of.update(zip((photo.digest for photo in photos), rows, strict=True))
        self._rows = np.array([row_of.get(photo.digest, -1) for photo in data.dataset.photos])
        self._store = data.examples[TRAINING].store
        random = np.random.default_rng(_SEED)
        usable = np.flatnonzero(self._rows >= 0)
        self._mean = self._take(random.choice(usable, _SAMPLE)).mean(axis=0)
        self._samples: dict[str, Floats] = {}
        for label in data.labels:
            members = usable[self._labels[usable] == label]
            if len(members) > 1:
                firsts = random.choice(members, _SAMPLE)
                seconds = random.choice(members, _SAMPLE)
                are_two = firsts != seconds
                self._samples[label] = self._cosines(firsts[are_two], seconds[are_two])

    def of(self, pair: Neighbours) -> float:
        """Return the share of random pairs of the class that are not more alike, 0..1."""
        if min(self._rows[pair.first], self._rows[pair.second]) < 0:
            return 0.0
        cosine = self._cosines(np.array([pair.first]), np.array([pair.second]))
        return float(np.mean(self._samples[str(self._labels[pair.first])] < cosine + _ROUNDING))

    def _take(self, numbers: npt.NDArray[np.int64]) -> Floats:
        return self._store.take(self._rows[numbers])

    def _cosines(self, firsts: npt.NDArray[np.int64], seconds: npt.NDArray[np.int64]) -> Floats:
        """Return the cosine of the angle between two bottlenecks, from the mean, of each pair."""
        first, second = self._take(firsts) - self._mean, self._take(seconds) - self._mean
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(np.sum(first * second, axis=1) / np.maximum(lengths, 1e-6), np.float32)
