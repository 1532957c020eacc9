"""Copies and photos of one moment in other splits are found, with what they do to the accuracy."""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrain.bottlenecks.near_duplicates import Pair
from retrain.data.folder_layout import TRAINING
from retrain.doctor import moments
from retrain.doctor.copies import Inflation, _groups, inflation_text
from retrain.doctor.finding import Finding
from retrain.metrics import Accuracy
from tests.helpers.doctor_fixtures import labelled_photos
from tests.helpers.photos import draw as draw_photo
from tests.helpers.photos import scene
from tests.retrain.doctor.conftest import Examine

FOLDERS = {"train": range(8), "valid": range(8, 10), "test": range(10, 12)}


def draw(root: Path, name: str = "{i}.jpg", first: int = 0) -> None:
    """Write scenes of two classes into folders of splits; all are different."""
    for split, numbers in FOLDERS.items():
        for offset, label in enumerate(("cat", "dog")):
            (root / split / label).mkdir(parents=True)
            for i in numbers:
                path = root / split / label / name.format(i=i)
                scene(first + i + 100 * offset).save(path, quality=90)


def test_copies_across_splits_and_their_effect(tmp_path: Path, examine_folder: Examine) -> None:
    draw(tmp_path)
    for offset, label in enumerate(("cat", "dog")):
        copy = scene(100 * offset).resize((192, 144))
        copy.save(tmp_path / "test" / label / "copy.jpg", quality=60)
    finding = examine_folder(tmp_path)["copy-across-splits"]
    assert {str(photo.path.relative_to(tmp_path)) for photo in finding.photos} == {
        "test/cat/copy.jpg",
        "test/dog/copy.jpg",
    }
    assert finding.photos[0].other == tmp_path / "train" / "cat" / "0.jpg"
    assert finding.suggested == 2
    assert "on all 6 test photos" in finding.reason
    assert "without the 2 photos like a training photo" in finding.reason
    assert finding.inflation is None, "two photos of six prove nothing"


def test_a_difference_that_may_be_chance_has_no_points() -> None:
    few = Inflation(Accuracy(18, 20), Accuracy(15, 17))
    assert few.points is None
    assert "may be chance" in inflation_text(few)
    many = Inflation(Accuracy(1800, 2000), Accuracy(1400, 1600))
    assert many.points == pytest.approx(2.5)
    assert "2.5 points too good" in inflation_text(many)
    assert "chance" not in inflation_text(Inflation(Accuracy(18, 20), Accuracy(17, 18)))


def test_near_copies_are_grouped_whatever_the_order_of_the_pairs() -> None:
    photos = labelled_photos(["cat"] * 6)
    links = [(0, 1), (2, 3), (4, 5), (3, 1), (0, 2)]
    pairs = [Pair(photos[i], TRAINING, photos[j], TRAINING) for i, j in links]
    groups = [{photo.digest for photo in group} for group in _groups(pairs)]
    assert groups == [
        {photo.digest for photo in photos[:4]},
        {photo.digest for photo in photos[4:]},
    ]


def test_many_near_copies_of_one_picture_are_grouped_in_a_moment() -> None:
    """Each photo of the chain joins the group of all before it."""
    photos = labelled_photos(["cat"] * 16_000)
    pairs = [Pair(a, TRAINING, b, TRAINING) for a, b in itertools.pairwise(photos)]
    start = time.process_time()
    (group,) = _groups(pairs)
    assert time.process_time() - start < 2
    assert len(group) == len(photos)


def shifted(seed: int) -> Image.Image:
    """Return a scene as a camera sees it a moment later: moved by a tenth of the frame."""
    return scene(seed, 400, 300).crop((32, 24, 352, 264))


@pytest.fixture
def at_times(tmp_path: Path, examine_folder: Examine) -> Mapping[str, Finding]:
    """Return the findings on photos with a time: two are like a training photo of that moment."""
    for split, numbers in FOLDERS.items():
        for offset, label in enumerate(("cat", "dog")):
            (tmp_path / split / label).mkdir(parents=True)
            for i in numbers:
                exif = Image.Exif()
                exif[0x0132] = f"2026:03:{i + 1:02} 10:00:00"
                seed = i + 100 * offset
                scene(seed, 400, 300).crop((0, 0, 320, 240)).save(
                    tmp_path / split / label / f"{label}{chr(97 + i)}.jpg", quality=90, exif=exif
                )
    exif = Image.Exif()
    exif[0x0132] = "2026:03:01 10:00:04"
    shifted(0).save(tmp_path / "test" / "cat" / "later.jpg", quality=90, exif=exif)
    exif[0x0132] = "2026:03:01 10:00:07"
    still = scene(0, 400, 300).crop((16, 12, 336, 252))
    still.save(tmp_path / "valid" / "cat" / "last.jpg", quality=90, exif=exif)
    exif[0x0132] = "2026:03:02 10:00:04"
    unlike = draw_photo("stripes", np.random.default_rng(0))
    unlike.save(tmp_path / "test" / "cat" / "unlike.jpg", quality=90, exif=exif)
    return examine_folder(tmp_path)


def test_photos_taken_within_seconds_that_are_alike(
    at_times: Mapping[str, Finding], tmp_path: Path
) -> None:
    photo, last = at_times["one-moment"].photos
    assert photo.path == tmp_path / "test" / "cat" / "later.jpg"
    assert photo.other == tmp_path / "train" / "cat" / "cata.jpg"
    assert "4 s from" in photo.reason
    assert last.path == tmp_path / "valid" / "cat" / "last.jpg"
    assert "7 s from" in last.reason, "the test photo between them does not hide it"


def test_a_photo_between_others_of_the_moment_hides_no_training_photo() -> None:
    splits = ["training", "testing", "validation", "testing", "training", "validation"]
    seconds = [0.0, 3.0, 5.0, 20.0, 24.0, 40.0]
    pairs = moments._neighbours([list(zip(seconds, range(6), strict=True))], splits, 10)
    assert [(pair.photo, pair.twin, pair.distance) for pair in pairs] == [
        (1, 0, 3),
        (3, 4, 4),
        (2, 0, 5),
    ]


def test_running_numbers_count_if_successive_photos_are_alike(
    tmp_path: Path, examine_folder: Examine
) -> None:
    draw(tmp_path, "IMG_{i:04}0.jpg")
    assert "one-moment" not in examine_folder(tmp_path)
    for i in range(5):
        shifted_from = tmp_path / "train" / "cat" / f"IMG_{i:04}0.jpg"
        scene(i, 400, 300).crop((0, 0, 320, 240)).save(shifted_from, quality=90)
        shifted(i).save(tmp_path / "test" / "cat" / f"IMG_{i:04}1.jpg", quality=90)
    (finding,) = (examine_folder(tmp_path)["one-moment"],)
    assert {photo.path.name for photo in finding.photos} >= {"IMG_00001.jpg", "IMG_00011.jpg"}
    assert all(photo.path.parent.parent.name == "test" for photo in finding.photos)
