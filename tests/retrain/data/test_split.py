"""The split: decided by content, stable, and with something of each class in each part."""

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from deploy.errors import BadData, WrongUse
from retrain.data.photo import Photo
from retrain.data.split import SPLITS, assign, require_training_photos, warnings
from retrain.settings.training import SplitSettings

DEFAULT = SplitSettings()


def photo(name: str, label: str = "cat", content: str | None = None) -> Photo:
    return Photo(
        Path("photos", label, name), label, hashlib.sha256((content or name).encode()).digest()
    )


MANY = [photo(f"{i}.jpg", ("cat", "dog", "owl")[i % 3]) for i in range(5000)]


def by_digest(photos: list[Photo], config: SplitSettings = DEFAULT) -> dict[bytes, str]:
    return {
        member.digest: name for member, name in zip(photos, assign(photos, config), strict=True)
    }


@pytest.mark.parametrize(("testing", "validation"), [(10, 10), (25, 5), (1, 40)])
def test_shares_are_as_asked(testing: float, validation: float) -> None:
    counts = Counter(assign(MANY, SplitSettings(testing, validation)))
    assert counts["testing"] / 5000 == pytest.approx(testing / 100, abs=0.015)
    assert counts["validation"] / 5000 == pytest.approx(validation / 100, abs=0.015)
    assert counts["training"] == 5000 - counts["testing"] - counts["validation"]


def test_new_names_folders_and_order_change_nothing() -> None:
    moved = [
        replace(member, path=Path("elsewhere", f"renamed {i}.png")) for i, member in enumerate(MANY)
    ]
    assert by_digest(moved[::-1]) == by_digest(MANY)


def test_more_photos_move_none_of_the_old() -> None:
    few = by_digest(MANY[:3000])
    assert few.items() <= by_digest(MANY).items()


def test_another_salt_gives_an_independent_split() -> None:
    first, second = by_digest(MANY), by_digest(MANY, SplitSettings(salt="1"))
    tested = [digest for digest, name in first.items() if name == "testing"]
    again = sum(second[digest] == "testing" for digest in tested)
    assert again / len(tested) == pytest.approx(0.1, abs=0.05)


def test_shots_of_one_thing_stay_together_even_across_classes() -> None:
    shots = [
        photo(f"plant{i}_nohash_{shot}.jpg", label)
        for i in range(300)
        for label in ("leaf", "root")
        for shot in range(3)
    ]
    splits: dict[str, set[str]] = {}
    for member, name in zip(shots, assign(shots, DEFAULT), strict=True):
        splits.setdefault(member.path.name.partition("_nohash_")[0], set()).add(name)
    assert all(len(names) == 1 for names in splits.values())
    counts = Counter(next(iter(names)) for names in splits.values())
    assert all(counts[name] >= 15 for name in SPLITS)


def test_the_split_of_shots_hangs_on_their_common_name() -> None:
    first = [photo(f"a{i}_nohash_1.jpg") for i in range(500)]
    second = [photo(f"a{i}_nohash_2.jpg", content=f"other {i}") for i in range(500)]
    assert assign(first, DEFAULT) == assign(second, DEFAULT)


@pytest.mark.parametrize("percentages", [(10, 10), (1, 1), (40, 40), (1, 98), (98, 1)])
def test_each_class_of_three_or_more_is_in_each_split(percentages: tuple[float, float]) -> None:
    random = np.random.default_rng(0)
    for trial in range(60):
        photos = [
            photo(f"{trial} {label} {i}", f"class{label}")
            for label in range(int(random.integers(2, 6)))
            for i in range(int(random.integers(3, 9)))
        ]
        splits = assign(photos, SplitSettings(*percentages, salt=str(trial)))
        present = {(member.label, name) for member, name in zip(photos, splits, strict=True)}
        assert present == {(member.label, name) for member in photos for name in SPLITS}


def test_filling_one_class_does_not_empty_another() -> None:
    for trial in range(300):
        ape, cat = (
            [photo(f"{trial} {label}{i}", label) for i in range(2)] for label in ("ape", "cat")
        )
        shared = [photo(f"{trial} both_nohash_{label}", label) for label in ("ape", "cat")]
        photos = [*ape, *cat, *shared]
        present = {
            (member.label, name)
            for member, name in zip(photos, assign(photos, DEFAULT), strict=True)
        }
        assert present == {(label, name) for label in ("ape", "cat") for name in SPLITS}


def test_no_group_is_torn_to_fill_a_split() -> None:
    random = np.random.default_rng(1)
    for trial in range(60):
        photos = [
            photo(f"{trial} thing{random.integers(6)}_nohash_{i}", f"class{i % 3}")
            for i in range(30)
        ]
        subjects: dict[str, set[str]] = {}
        for member, name in zip(photos, assign(photos, DEFAULT), strict=True):
            subjects.setdefault(member.path.name.partition("_nohash_")[0], set()).add(name)
        assert all(len(names) == 1 for names in subjects.values())


@pytest.mark.parametrize(
    ("testing", "validation"),
    [(50, 50), (100, 10), (0, 10), (10, 0), (-1, 10), (float("nan"), 10), (10, float("nan"))],
)
def test_shares_that_leave_nothing_are_refused(testing: float, validation: float) -> None:
    with pytest.raises(WrongUse, match=r"must be above 0|must be below 100"):
        SplitSettings(testing, validation)


def test_two_photos_are_too_few() -> None:
    with pytest.raises(BadData, match="each class needs three photos or more"):
        assign([photo("1", "cat"), photo("2", "dog")], DEFAULT)


def test_each_class_trains_however_few_its_photos() -> None:
    """A class that only tests or validates would have no weights."""
    many = [photo(f"{i}.jpg", ("cat", "dog")[i % 2]) for i in range(40)]
    for trial in range(300):
        single, shots = (
            photo(f"one {trial}", "ant"),
            [photo(f"mug {trial}_nohash_{i}", "mug") for i in range(50)],
        )
        splits = assign([*many, single, *shots], DEFAULT)
        assert splits[40:] == ["training"] * 51
    assert warnings([*many, single, *shots], splits) == [
        f"no photo of {label} is left for {name}: it needs three or more; those with the same name "
        "before _nohash_ count as one"
        for label in ("ant", "mug")
        for name in ("validation", "testing, so nothing shows how well it is recognised")
    ]


def test_what_one_class_needs_to_train_is_not_what_another_validates_on() -> None:
    """Things that are in several classes go first to the class that would not train."""
    things = {"a": (0, 1, 2), "b": (2,), "c": (1, 2, 3)}
    for trial in range(300):
        photos = [
            photo(f"{trial} s{i}_nohash_{label}", label)
            for label, members in things.items()
            for i in members
        ]
        splits = assign(photos, DEFAULT)
        present = {(member.label, name) for member, name in zip(photos, splits, strict=True)}
        assert {(label, "training") for label in things} <= present
        assert {("a", name) for name in SPLITS} <= present


def photo_at(percent: int) -> Photo:
    """Return a photo whose position, of 0..100, is from `percent` up to the next whole number."""
    for i in count():
        member = photo(f"{percent} {i}", "ant")
        place = hashlib.sha256(b"\0" + member.digest).digest()
        if int.from_bytes(place[:8]) * 100 >> 64 == percent:
            return member
    raise AssertionError


@pytest.mark.parametrize(
    ("percents", "splits"),
    [
        ((5, 15, 50), ("validation", "testing", "training")),
        ((90, 30, 60), ("training", "validation", "testing")),
        ((3, 7, 12), ("validation", "training", "testing")),
        ((5, 12, 15), ("validation", "testing", "training")),
        ((12, 15, 40, 70, 90), ("testing", "testing", "validation", "training", "training")),
        ((2, 6, 40, 70, 90), ("validation", "validation", "testing", "training", "training")),
    ],
)
def test_an_empty_split_gets_the_nearest_group_of_the_largest(
    percents: tuple[int, ...], splits: tuple[str, ...]
) -> None:
    photos = [photo_at(percent) for percent in percents]
    assert tuple(assign(photos, DEFAULT)) == splits


def test_a_class_without_a_training_photo_in_its_own_split_is_refused() -> None:
    splits = ("training", "testing", "validation", "testing", "validation")
    photos = [
        Photo(Path(f"{number}.jpg"), label, bytes([number]) * 32, name)
        for number, (label, name) in enumerate(zip("aabbb", splits, strict=True))
    ]
    assert "no photo of b is left for training: " in warnings(photos, splits)[1]
    with pytest.raises(BadData, match=r"no photo of b is left for training: .*: add photos"):
        require_training_photos(photos, splits)
    require_training_photos(photos[:2], splits[:2])
