"""Photos that show the same picture are found, and named where they are in other splits."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retrain.bottlenecks import near_duplicates
from retrain.bottlenecks.compare_pictures import decode_small, is_same_picture
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.bottlenecks.near_duplicates import Pair
from retrain.bottlenecks.thumbnails import SIDE, ThumbnailCache
from retrain.data.photo import Photo
from retrain.progress import Progress
from tests.helpers.photos import scene
from tests.helpers.runs import Train

QUIET = Progress(verbosity="ERROR")


def photo(path: Path, image: Image.Image, quality: int = 90) -> Photo:
    """Write a JPEG, and return it as a photo whose digest is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=quality)
    return Photo(path, path.parent.name, sha256(path.read_bytes()).digest())


def find(folder: Path, photos: list[Photo], splits: list[str]) -> list[Pair]:
    return near_duplicates.find(photos, splits, ThumbnailCache(folder / "thumbnails"), QUIET)


@pytest.fixture
def originals(tmp_path: Path) -> list[Photo]:
    """Return twelve photos that show nothing in common."""
    return [photo(tmp_path / "cat" / f"{i}.jpg", scene(i)) for i in range(12)]


def test_photos_that_are_all_gone_are_no_copies(originals: list[Photo], tmp_path: Path) -> None:
    for path in (tmp_path / "cat").iterdir():
        path.unlink()
    assert find(tmp_path, originals, ["training"] * 12) == []


@pytest.mark.parametrize(
    ("size", "quality"), [((160, 120), 90), ((100, 75), 85), ((640, 480), 90), ((320, 240), 50)]
)
def test_copies_of_other_sizes_and_qualities_are_found(
    originals: list[Photo], tmp_path: Path, size: tuple[int, int], quality: int
) -> None:
    copies = [
        photo(tmp_path / "cat" / f"copy{i}.jpg", scene(i).resize(size), quality) for i in range(4)
    ]
    pairs = find(tmp_path, originals + copies, ["training"] * 12 + ["testing"] * 4)
    assert [(pair.photo.path.name, pair.other.path.name) for pair in pairs] == [
        (f"copy{i}.jpg", f"{i}.jpg") for i in range(4)
    ]
    assert pairs[0].to_json() == {
        "paths": [str(copies[0].path), str(originals[0].path)],
        "labels": ["cat", "cat"],
        "splits": ["testing", "training"],
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.crop((16, 12, 304, 228)),
        lambda image: image.crop((0, 0, 304, 228)),
        lambda image: image.resize((192, 144)).crop((5, 4, 187, 140)),
        lambda image: image.resize((240, 240)),
        lambda image: image.point(lambda level: level // 2),
    ],
)
def test_copies_that_are_cropped_squashed_or_darkened_are_found(
    originals: list[Photo], tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    copies = [photo(tmp_path / "cat" / f"copy{i}.jpg", change(scene(i)), 60) for i in range(4)]
    pairs = find(tmp_path, originals + copies, ["training"] * 16)
    assert {frozenset((pair.photo.path.name, pair.other.path.name)) for pair in pairs} == {
        frozenset((f"{i}.jpg", f"copy{i}.jpg")) for i in range(4)
    }


def test_each_of_many_copies_is_found(tmp_path: Path) -> None:
    """Of a burst or a video; more than the photos that are looked at for one photo."""
    single_photos = [photo(tmp_path / "cat" / f"{i}.jpg", scene(i)) for i in range(1, 60)]
    copies = [photo(tmp_path / "cat" / f"copy{i}.jpg", scene(0), 50 + i) for i in range(12)]
    pairs = find(tmp_path, single_photos + copies, ["training"] * 70 + ["testing"])
    named_paths = {path.path for pair in pairs for path in (pair.photo, pair.other)}
    assert named_paths == {copy.path for copy in copies}
    assert any(pair.is_across_splits for pair in pairs)


def test_copies_are_found_where_each_photo_has_many(tmp_path: Path) -> None:
    """Such as a folder of photos that were distorted for training."""
    copies = [
        photo(tmp_path / "cat" / f"{i}-{j}.jpg", scene(i).resize((80 + j, 60)))
        for i in range(8)
        for j in range(12)
    ]
    pairs = find(tmp_path, copies, ["training"] * len(copies))
    names = [(pair.photo.path.name, pair.other.path.name) for pair in pairs]
    assert {name for pair in names for name in pair} == {copy.path.name for copy in copies}
    assert all(first.split("-")[0] == second.split("-")[0] for first, second in names)


def test_copies_in_one_split_are_not_across_splits(originals: list[Photo], tmp_path: Path) -> None:
    copy = photo(tmp_path / "cat" / "copy.jpg", scene(0).resize((160, 120)))
    (pair,) = find(tmp_path, [*originals, copy], ["training"] * 13)
    assert not pair.is_across_splits
    splits = ["testing"] + ["training"] * 11 + ["validation"]
    (pair,) = find(tmp_path, [*originals, copy], splits)
    assert pair.is_across_splits


def test_a_pair_that_does_not_train_is_named_once(originals: list[Photo], tmp_path: Path) -> None:
    copy = photo(tmp_path / "dog" / "copy.jpg", scene(0).resize((160, 120)))
    splits = ["validation"] + ["training"] * 11 + ["testing"]
    (pair,) = find(tmp_path, [*originals, copy], splits)
    assert {pair.split, pair.other_split} == {"validation", "testing"}
    assert {pair.photo.label, pair.other.label} == {"cat", "dog"}


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.crop((100, 90, 320, 240)),
        lambda image: image.transpose(Image.Transpose.ROTATE_180),
    ],
)
def test_other_pictures_of_the_same_are_no_copies(
    originals: list[Photo], tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    other = photo(tmp_path / "cat" / "other.jpg", change(scene(0)))
    assert find(tmp_path, [*originals, other], ["training"] * 12 + ["testing"]) == []


def test_parts_of_one_product_are_no_copies(tmp_path: Path) -> None:
    """Such as solar cells: each differs from all others by as little."""
    common = np.asarray(scene(0), np.float32)
    parts = []
    for i in range(14):
        spots = np.random.default_rng(i).normal(0, 14, (15, 20, 1)).repeat(16, 0).repeat(16, 1)
        image = Image.fromarray(np.clip(common + spots, 0, 255).astype(np.uint8))
        parts.append(photo(tmp_path / "cat" / f"{i}.jpg", image))
    assert find(tmp_path, parts, ["training", "testing"] * 7) == []


def test_two_parts_at_the_same_place_are_no_copies(tmp_path: Path) -> None:
    """Their outlines are alike, and so strong that the wood between them hardly counts."""
    random = np.random.default_rng(3)
    photos = []
    for sides in (10, 60):
        wood = 120 + np.cumsum(random.normal(0, 0.8, (240, 1, 1)), axis=0)
        wood = wood + random.normal(0, 3, (240, 240, 1)) + np.array([30, 0, -30])
        image = Image.fromarray(np.clip(wood, 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        draw.regular_polygon((110, 130, 38), sides, rotation=10, fill=(178, 182, 190))
        draw.regular_polygon((110, 130, 18), 60, fill=tuple(wood[130, 110].astype(int)))
        photos.append(photo(tmp_path / f"{sides}.png", image))
    first, second = (small for part in photos if (small := decode_small(part)))
    assert not is_same_picture(first, second)
    assert is_same_picture(first, first)


def test_a_large_folder_is_compared_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_GROUP_SIZE", 200)
    random = np.random.default_rng(0)
    levels = random.uniform(0, 255, (3000, SIDE * SIDE * 3))
    copies = levels[:200] + random.normal(0, 3, (200, levels.shape[1]))
    store = FeatureStore.of(np.vstack([levels, copies]))
    rows = np.arange(3200)
    groups = list(near_duplicates._groups(store, rows))
    assert np.mean([len(group) ** 2 for group in groups]) < 500**2
    pairs = near_duplicates._candidates(store, rows)
    assert len({(i, 3000 + i) for i in range(200)} & {*pairs}) >= 198


def test_train_names_copies_and_keeps_them_in_metrics(
    photos: Path, train: Train, tmp_path: Path
) -> None:
    for folder in photos.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    with Image.open(photos / "circles" / "00.jpg") as file:
        image = file.copy()
    for size in (90, 84, 78, 72, 66, 60, 54, 48):
        path = tmp_path / "small" / f"{size}.png"
        path.parent.mkdir(exist_ok=True)
        image.resize((size, size)).save(path)
    run = train(source=tmp_path)
    pairs = run.metrics["copies_across_splits"]
    assert any("small" in pair["labels"] for pair in pairs)
    assert all(len(set(pair["splits"])) == 2 for pair in pairs)
    assert (
        f"{len({pair['paths'][0] for pair in pairs})} photos of validation or testing look the same"
        in run.result.stderr
    )
    assert pairs[0]["paths"][0] in run.result.stderr
