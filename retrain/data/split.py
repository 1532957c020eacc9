"""Assign photos to training, validation and testing by their content, the same in every run."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product

from deploy.errors import BadData, WrongUse
from retrain.data.folder_layout import SPLITS as SPLITS
from retrain.data.folder_layout import TESTING as TESTING
from retrain.data.folder_layout import TRAINING as TRAINING
from retrain.data.folder_layout import VALIDATION as VALIDATION
from retrain.data.photo import Photo
from retrain.settings.training import SplitSettings


def assign(photos: Sequence[Photo], settings: SplitSettings) -> list[str]:
    """Return the split of each photo: that of its folder, if the folders are of splits.

    Otherwise the SHA-256 of the photo's bytes decides, so that new names and other photos change
    nothing. Photos with the same name before `_nohash_` (shots of one thing) stay together, and
    that name decides. A class of three such groups or more has a photo in each split, and any class
    has one to train on: if chance gives none, the group nearest to that split is moved there.
    Raises BadData if a split has no photo at all, WrongUse as `require_one_split` does.
    """
    require_one_split(photos, settings)
    if own_split(photos):
        return [photo.split for photo in photos]
    groups = groups_of(photos)
    position = {key: _position(key, settings) for key in groups}
    split = {key: _split_at(position[key], settings) for key in groups}
    labels = {key: Counter(photos[i].label for i in members) for key, members in groups.items()}
    _fill_empty(position, split, labels)
    splits = [""] * len(photos)
    for key, members in groups.items():
        for i in members:
            splits[i] = split[key]
    for name in SPLITS:
        if name not in splits:
            raise BadData(f"no photo is left for {name}: each class needs three photos or more")
    return splits


def own_split(photos: Sequence[Photo]) -> bool:
    """Return whether the folders of these photos are of splits."""
    return any(photo.split for photo in photos)


def require_one_split(photos: Sequence[Photo], settings: SplitSettings) -> None:
    """Raise WrongUse if the folders are of splits, and `settings` asks for another split."""
    if own_split(photos) and settings != SplitSettings():
        raise WrongUse(
            "`testing_percentage`, `validation_percentage` and `split_salt` are for a split by "
            "retrain, but the photos are in folders of a split: leave these settings out, or use "
            "`labels_from` 2, or the level of the class folders, to put all photos together and "
            "split them anew"
        )


def warnings(photos: Sequence[Photo], splits: Sequence[str]) -> list[str]:
    """Return a line for each class and split without a photo."""
    present = set(zip((photo.label for photo in photos), splits, strict=True))
    reason = (
        "all in that folder are bad, or copies of photos in another split"
        if own_split(photos)
        else "it needs three or more; those with the same name before _nohash_ count as one"
    )
    return [
        f"no photo of {label} is left for {name}: {reason}"
        for label in sorted({photo.label for photo in photos})
        for name in SPLITS
        if (label, name) not in present
    ]


def groups_of(photos: Sequence[Photo]) -> dict[bytes, list[int]]:
    """Return the photos, by index, that must stay together, under the key that decides."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, photo in enumerate(photos):
        subject, separator, _ = photo.path.name.partition("_nohash_")
        groups[subject.encode(errors="surrogateescape") if separator else photo.digest].append(i)
    return groups


def _position(key: bytes, settings: SplitSettings) -> float:
    """Return a number of 0..100, uniform over keys."""
    digest = hashlib.sha256(settings.salt.encode() + b"\0" + key).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


def _split_at(position: float, settings: SplitSettings) -> str:
    if position < settings.validation_percentage:
        return VALIDATION
    if position < settings.validation_percentage + settings.testing_percentage:
        return TESTING
    return TRAINING


def _fill_empty(
    position: dict[bytes, float],
    split: dict[bytes, str],
    labels: dict[bytes, Counter[str]],
) -> None:
    """Move groups until each class has a photo to train on, and one in each split if possible."""
    groups_of: dict[str, list[bytes]] = defaultdict(list)
    counts: Counter[tuple[str, str]] = Counter()
    for key in sorted(position, key=lambda key: (position[key], key)):
        for label in labels[key]:
            groups_of[label].append(key)
            counts[label, split[key]] += 1
    # Training comes first: a group moved for one class may leave another class.
    for need, label in product(SPLITS, sorted(groups_of)):
        if counts[label, need]:
            continue
        # The largest split gives the group that is nearest to a border.
        for donor in sorted(SPLITS, key=lambda name: -counts[label, name]):
            movable = [
                key
                for key in groups_of[label]
                if split[key] == donor
                and (need == TRAINING or all(counts[shared, donor] > 1 for shared in labels[key]))
            ]
            if movable:
                key = movable[-1] if need == TRAINING else movable[0]
                for shared in labels[key]:
                    counts[shared, donor] -= 1
                    counts[shared, need] += 1
                split[key] = need
                break
