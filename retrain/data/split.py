"""Which photos train, which validate, which test: decided by content, and stable."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import product

from deploy.errors import BadData, WrongUse
from retrain.data.folder_layout import SPLITS as SPLITS
from retrain.data.folder_layout import TESTING as TESTING
from retrain.data.folder_layout import TRAINING as TRAINING
from retrain.data.folder_layout import VALIDATION as VALIDATION
from retrain.data.photo_folder import Photo
from retrain.settings.training import SplitSettings


def assign(photos: Sequence[Photo], config: SplitSettings) -> list[str]:
    """Return the split of each photo: the one that the user made, if the photos have one.

    Otherwise it hangs on the SHA-256 of the photo's bytes, so neither a new name nor other photos
    change it. Photos that share the part of their name before `_nohash_` (shots of one thing) stay
    together, their split hanging on that part. A class of three such groups or more has a photo in
    each split, and any class has one to train on: where chance gave none, the group nearest to
    that split is moved there. Raises BadData when a split has no photo at all.
    """
    require_one_split(photos, config)
    if own_split(photos):
        return [photo.split for photo in photos]
    groups = _groups(photos)
    place = {key: _place(key, config) for key in groups}
    split = {key: _by_place(place[key], config) for key in groups}
    labels = {key: Counter(photos[i].label for i in members) for key, members in groups.items()}
    _fill_empty(place, split, labels)
    result = [""] * len(photos)
    for key, members in groups.items():
        for i in members:
            result[i] = split[key]
    for name in SPLITS:
        if name not in result:
            raise BadData(f"no photo is left for {name}: each class needs three photos or more")
    return result


def own_split(photos: Sequence[Photo]) -> bool:
    """Return whether the user made the split of these photos, by the folders that they are in."""
    return any(photo.split for photo in photos)


def require_one_split(photos: Sequence[Photo], config: SplitSettings) -> None:
    """Raise WrongUse if the user made the split, and `config` asks for another one."""
    if own_split(photos) and config != SplitSettings():
        raise WrongUse(
            "--testing-percentage, --validation-percentage and --split-salt are for a split by "
            "retrain, but the photos are in folders of a split: leave these options out, or use "
            "--labels-from 2, or the level of the class folders, to put all photos together and "
            "split them anew"
        )


def warnings(photos: Sequence[Photo], splits: Sequence[str]) -> list[str]:
    """Return a line for each class and split that has none of its photos."""
    held = set(zip((photo.label for photo in photos), splits, strict=True))
    why = (
        "all in that folder are bad, or copies of photos in another split"
        if own_split(photos)
        else "it needs three or more; those with the same name before _nohash_ count as one"
    )
    return [
        f"no photo of {label} is left for {name}: {why}"
        for label in sorted({photo.label for photo in photos})
        for name in SPLITS
        if (label, name) not in held
    ]


def _groups(photos: Sequence[Photo]) -> dict[bytes, list[int]]:
    """Return the photos, by index, that must stay together, under the key that places them."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, photo in enumerate(photos):
        subject, mark, _ = photo.path.name.partition("_nohash_")
        groups[subject.encode(errors="surrogateescape") if mark else photo.digest].append(i)
    return groups


def _place(key: bytes, config: SplitSettings) -> float:
    """Return a number of 0..100 that is uniform over keys."""
    digest = hashlib.sha256(config.salt.encode() + b"\0" + key).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


def _by_place(place: float, config: SplitSettings) -> str:
    if place < config.validation_percentage:
        return VALIDATION
    if place < config.validation_percentage + config.testing_percentage:
        return TESTING
    return TRAINING


def _fill_empty(
    place: dict[bytes, float],
    split: dict[bytes, str],
    labels: dict[bytes, Counter[str]],
) -> None:
    """Move groups until each class trains, and has a photo in each split if it can be."""
    groups_of: dict[str, list[bytes]] = defaultdict(list)
    held: Counter[tuple[str, str]] = Counter()
    for key in sorted(place, key=lambda key: (place[key], key)):
        for label in labels[key]:
            groups_of[label].append(key)
            held[label, split[key]] += 1
    # Training first: what one class gets for it, another may have to give.
    for need, label in product(SPLITS, sorted(groups_of)):
        if held[label, need]:
            continue
        # The split with most to give gives the group that chance put closest to a border.
        for donor in sorted(SPLITS, key=lambda name: -held[label, name]):
            free = [
                key
                for key in groups_of[label]
                if split[key] == donor
                and (need == TRAINING or all(held[other, donor] > 1 for other in labels[key]))
            ]
            if free:
                key = free[-1] if need == TRAINING else free[0]
                for other in labels[key]:
                    held[other, donor] -= 1
                    held[other, need] += 1
                split[key] = need
                break
