"""Assign photos to training, validation and testing by their content, the same in every run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from deploy.errors import BadData, WrongUse
from retrain.data.folder_layout import SPLITS as SPLITS
from retrain.data.folder_layout import TESTING as TESTING
from retrain.data.folder_layout import TRAINING as TRAINING
from retrain.data.folder_layout import VALIDATION as VALIDATION
from retrain.data.photo import Photo
from retrain.data.photo_groups import Groups
from retrain.data.photo_table import SPLIT_OF_CODE, PhotoTable
from retrain.settings.training import SplitSettings

_BLOCK = 4096
"""Photos whose split is text at a time."""
_BAD_OR_COPIES = "all in that folder are bad, or copies of photos in another split"
_UNTESTED = ", so nothing shows how well it is recognised"


class Splits(Sequence[str]):
    """The split of each photo, one byte each: `codes` is int8 (N,), its place in SPLITS from 1.

    The code of a photo without a split is 0, and its name is empty.
    """

    def __init__(self, codes: npt.NDArray[np.int8]) -> None:
        self.codes = codes

    @classmethod
    def of(cls, names: Sequence[str]) -> "Splits":
        """Return the splits with these names, or `names` itself if it is of this type."""
        if isinstance(names, Splits):
            return names
        return cls(np.array([SPLIT_OF_CODE.index(name) for name in names], np.int8))

    def members(self, name: str) -> npt.NDArray[np.bool_]:
        """Return bool (N,): whether each photo is in the split `name`."""
        return np.asarray(self.codes == SPLIT_OF_CODE.index(name))

    def counts(self) -> dict[str, int]:
        """Return the number of photos of each split that has one, the first photo's split first."""
        present, first, counts = np.unique(self.codes, return_index=True, return_counts=True)
        return {SPLIT_OF_CODE[present[i]]: int(counts[i]) for i in np.argsort(first)}

    def count(self, value: Any) -> int:
        """Return the number of photos in a split."""
        return int(self.members(value).sum()) if value in SPLIT_OF_CODE else 0

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.codes)

    @overload
    def __getitem__(self, selection: int) -> str: ...
    @overload
    def __getitem__(self, selection: slice) -> "Splits": ...
    def __getitem__(self, selection: int | slice) -> "str | Splits":
        """Return the split of a photo, or those of some photos."""
        if isinstance(selection, slice):
            return Splits(self.codes[selection])
        return SPLIT_OF_CODE[self.codes[selection]]

    def __iter__(self) -> Iterator[str]:
        """Yield the split of each photo."""
        for start in range(0, len(self), _BLOCK):
            yield from (SPLIT_OF_CODE[code] for code in self.codes[start : start + _BLOCK].tolist())

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is a sequence of the same names."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def assign(photos: Sequence[Photo], settings: SplitSettings) -> Splits:
    """Return the split of each photo: that of its folder, if the folders are of splits.

    Otherwise the SHA-256 of the photo's bytes decides, so that new names and other photos change
    nothing. Photos with the same name before `_nohash_` (shots of one thing) stay together, and
    that name decides. A class of three such groups or more has a photo in each split, and any class
    has one to train on: if chance gives none, the group nearest to that split is moved there.
    Raises BadData if a split has no photo at all, WrongUse as `require_one_split` does.
    """
    photos = PhotoTable.of(photos)
    require_one_split(photos, settings)
    if own_split(photos):
        return Splits(photos.split_codes)
    groups = Groups(photos)
    positions = groups.positions(settings.salt)
    validation = settings.validation_percentage
    codes = np.full(len(photos), SPLIT_OF_CODE.index(TRAINING), np.int8)
    codes[positions < validation + settings.testing_percentage] = SPLIT_OF_CODE.index(TESTING)
    codes[positions < validation] = SPLIT_OF_CODE.index(VALIDATION)
    _fill_empty(groups, positions, codes)
    splits = Splits(codes[groups.leaders])
    for name in SPLITS:
        if not splits.count(name):
            raise BadData(f"no photo is left for {name}: each class needs three photos or more")
    return splits


def own_split(photos: Sequence[Photo]) -> bool:
    """Return whether the folders of these photos are of splits."""
    return bool(PhotoTable.of(photos).split_codes.any())


def require_one_split(photos: Sequence[Photo], settings: SplitSettings) -> None:
    """Raise WrongUse if the folders are of splits, and `settings` asks for another split."""
    if own_split(photos) and settings != SplitSettings():
        raise WrongUse(
            "`testing_percentage`, `validation_percentage` and `split_salt` are for a split by "
            "retrain, but the photos are in folders of a split, or a list with the column `split`: "
            "leave these settings out, or, of a list, that column; or, of folders, use "
            "`labels_from` 2, or the level of the class folders, to put all photos together and "
            "split them anew"
        )


def warnings(photos: Sequence[Photo], splits: Sequence[str]) -> list[str]:
    """Return a line for each class and split without a photo."""
    reason = (
        _BAD_OR_COPIES
        if own_split(photos)
        else "it needs three or more; those with the same name before _nohash_ count as one"
    )
    return [
        f"no photo of {label} is left for {name}{_UNTESTED if name == TESTING else ''}: {reason}"
        for label, name in without_photos(photos, splits)
    ]


def require_training_photos(photos: Sequence[Photo], splits: Sequence[str]) -> None:
    """Raise BadData for a class without a training photo, which only a split of its own can have.

    `assign` gives each class one.
    """
    for label, name in without_photos(photos, splits):
        if name == TRAINING:
            raise BadData(
                f"no photo of {label} is left for {TRAINING}: {_BAD_OR_COPIES}: add photos of it "
                "to that split, or remove the class from all splits"
            )


def without_photos(photos: Sequence[Photo], splits: Sequence[str]) -> list[tuple[str, str]]:
    """Return each class and split without a photo."""
    photos = PhotoTable.of(photos)
    pairs = photos.label_numbers * np.int64(len(SPLIT_OF_CODE)) + Splits.of(splits).codes
    present = set(np.unique(pairs).tolist())
    counts = photos.label_counts()
    return [
        (label, name)
        for number, label in enumerate(photos.label_names)
        if label in counts
        for name in SPLITS
        if number * len(SPLIT_OF_CODE) + SPLIT_OF_CODE.index(name) not in present
    ]


def _fill_empty(
    groups: Groups, positions: npt.NDArray[np.float64], codes: npt.NDArray[np.int8]
) -> None:
    """Move groups until each class has a photo to train on, and one in each split if possible.

    `codes` are those of the splits of the leaders. The Counter holds groups by label and split.
    """
    leaders, labels = groups.labels()
    size = len(SPLIT_OF_CODE)
    tally = np.bincount(labels * size + codes[leaders]).tolist()
    counts = Counter({divmod(pair, size): count for pair, count in enumerate(tally) if count})
    # Training comes first: a group moved for one class may leave another class.
    for need, label in product(range(1, size), np.unique(labels).tolist()):
        if counts[label, need]:
            continue
        members = sorted(
            leaders[labels == label].tolist(), key=lambda row: (positions[row], groups.key(row))
        )
        # The largest split gives the group that is nearest to a border.
        for donor in sorted(range(1, size), key=lambda code: -counts[label, code]):
            is_for_training = SPLIT_OF_CODE[need] == TRAINING
            nearest = reversed(members) if is_for_training else members
            for leader in nearest:
                if codes[leader] != donor:
                    continue
                first, last = np.searchsorted(leaders, [leader, leader + 1])
                shared = labels[first:last].tolist()
                if is_for_training or all(counts[other, donor] > 1 for other in shared):
                    break
            else:
                continue
            for other in shared:
                counts[other, donor] -= 1
                counts[other, need] += 1
            codes[leader] = need
            break
