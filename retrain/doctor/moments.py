"""Find photos of one moment that are in different splits, by time, running number and likeness."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.system.counts import with_noun
from retrain.data.folder_layout import SPLITS, TESTING, TRAINING
from retrain.data.photo import Photo
from retrain.doctor.copies import inflation_of, inflation_text
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding, FindingPhoto, name_in
from retrain.doctor.pixel_statistics import statistics_cache, times
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


Series = list[tuple[float, int]]
"""Photos of a class, by number, each after its place in time or in a count; in that order."""


class Neighbours(NamedTuple):
    """A photo outside training and one in training, by number, and how far apart they are."""

    photo: int
    twin: int
    distance: float


def find_moments(examination: Examination) -> Sequence[Finding]:
    """Return the photos of validation and testing of whose moment a photo trains."""
    data = examination.data
    photos, splits = data.dataset.photos, data.splits
    likeness = _Likeness(data)
    twin_of: dict[int, tuple[int, str]] = {}
    for pair in _neighbours(_by_time(examination), splits, _MAX_SECONDS):
        if likeness.of(pair.photo, pair.twin) >= _MIN_LIKENESS_BY_TIME:
            twin_of.setdefault(pair.photo, (pair.twin, f"{pair.distance:.0f} s from"))
    numbered = _by_number(photos)
    successive = [
        likeness.of(i, j) >= _MIN_LIKENESS_BY_NUMBER
        for members in numbered
        for (number, i), (other, j) in pairwise(members)
        if other - number <= _MAX_NUMBER_STEP
    ]
    if sum(successive) >= _MIN_SERIES_SHARE * len(successive):
        for pair in _neighbours(numbered, splits, _MAX_NUMBER_STEP):
            if likeness.of(pair.photo, pair.twin) >= _MIN_LIKENESS_BY_NUMBER:
                twin_of.setdefault(pair.photo, (pair.twin, "next to"))
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


def _neighbours(
    series: Iterable[Series], splits: Sequence[str], max_distance: float
) -> list[Neighbours]:
    """Return each photo outside training with the next training photo on both sides, nearest first.

    Other photos may be in between.
    """
    pairs = []
    for members in series:
        for ordered in (members, members[::-1]):
            twin: tuple[float, int] | None = None
            for place, number in ordered:
                if splits[number] == TRAINING:
                    twin = place, number
                elif twin and abs(place - twin[0]) <= max_distance:
                    pairs.append(Neighbours(number, twin[1], abs(place - twin[0])))
    return sorted(pairs, key=lambda pair: pair.distance)


def _by_time(examination: Examination) -> list[Series]:
    """Return the photos of each class by the second in which a camera took them."""
    photos = examination.data.dataset.photos
    cache = statistics_cache(examination.source.pictures)
    store, rows, readable = cache.load(photos, examination.progress)
    if not readable:
        return []
    number_of = {photo.digest: number for number, photo in enumerate(photos)}
    series: dict[str, Series] = defaultdict(list)
    for photo, time in zip(readable, times(store.take(rows)), strict=True):
        if time:
            seconds = (time - datetime.min).total_seconds()
            series[photo.label].append((seconds, number_of[photo.digest]))
    return [sorted(members) for members in series.values()]


def _by_number(photos: Sequence[Photo]) -> list[Series]:
    """Return the photos of a class whose names differ in a number, by that number."""
    series: dict[tuple[str, str, str], Series] = defaultdict(list)
    for number, photo in enumerate(photos):
        if match := _NUMBERED.fullmatch(photo.path.stem):
            prefix, digits, suffix = match.groups()
            series[photo.label, prefix, suffix].append((int(digits), number))
    return [sorted(members) for members in series.values()]


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

    def of(self, first: int, second: int) -> float:
        """Return the share of random pairs of the class that are not more alike, 0..1."""
        if min(self._rows[first], self._rows[second]) < 0:
            return 0.0
        cosine = self._cosines(np.array([first]), np.array([second]))
        return float(np.mean(self._samples[str(self._labels[first])] < cosine + _ROUNDING))

    def _take(self, numbers: npt.NDArray[np.int64]) -> Floats:
        return self._store.take(self._rows[numbers])

    def _cosines(self, firsts: npt.NDArray[np.int64], seconds: npt.NDArray[np.int64]) -> Floats:
        """Return the cosine of the angle between two bottlenecks, from the mean, of each pair."""
        first, second = self._take(firsts) - self._mean, self._take(seconds) - self._mean
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(np.sum(first * second, axis=1) / np.maximum(lengths, 1e-6), np.float32)
