"""Test the picture of a confusion matrix by its pixels."""

import numpy as np
import pytest
from PIL import Image

from retrain.training.confusion_picture import draw_confusion_matrix


def where(picture: Image.Image, share: float) -> tuple[float, float, int]:
    """Return the mean row and column of the pixels as dark as `share`, and how many they are."""
    dark = np.rint(255 - share * (255 - np.array((8, 48, 107))))
    rows, columns = np.nonzero((np.asarray(picture) == dark).all(axis=2))
    return float(rows.mean()), float(columns.mean()), len(rows)


def test_cells_are_shaded_by_their_share_of_the_row() -> None:
    matrix = np.array([[8, 0, 2], [0, 0, 0], [30, 10, 60]])
    picture = draw_confusion_matrix(matrix, ["ape", "bee", "cow"])
    y, x, _ = where(picture, 0.8)
    for share, row, column in ((0.2, 0, 2), (0.3, 2, 0), (0.1, 2, 1), (0.6, 2, 2)):
        down, right, pixels = where(picture, share)
        assert (down - y, right - x) == pytest.approx((96 * row, 96 * column), abs=4)
        assert 0.9 * 96**2 < pixels <= 96**2


@pytest.mark.parametrize(("classes", "counted"), [(20, True), (21, False)])
def test_counts_are_written_where_cells_have_room(classes: int, counted: bool) -> None:
    identity = np.eye(classes, dtype=np.int64)
    labels = [str(i) for i in range(classes)]
    pictures = [draw_confusion_matrix(n * identity, labels) for n in (1, 8)]
    assert (pictures[0] != pictures[1]) == counted


def test_names_are_at_the_side_and_below() -> None:
    matrix = np.eye(2, dtype=np.int64)
    dog, cow = (
        np.asarray(draw_confusion_matrix(matrix, ["same", name])) for name in ("dog", "cow")
    )
    rows, columns = np.nonzero((dog != cow).any(axis=2))
    y, x, _ = where(Image.fromarray(dog), 1)
    beside = columns < x - 96
    below = rows > y + 96
    assert beside.any()
    assert (rows[beside] > y).all()
    assert below.any()
    assert (columns[below] > x).all()
    assert (beside ^ below).all()


def test_a_long_name_is_shown_by_its_beginning() -> None:
    matrix = np.eye(2, dtype=np.int64)
    names = ("rose", "i" * 32 + "dog", "i" * 32 + "cow")
    short, *long = (draw_confusion_matrix(matrix, ["same", name]) for name in names)
    assert long[0] == long[1] != short


@pytest.mark.parametrize("classes", [2, 60, 1000, 2500])
def test_a_picture_of_any_names_is_small_enough(classes: int) -> None:
    odd = ["żółw ☀", "猫", "مرحبا", "x" * 500, "a\x00b", "😀" * 40]
    names = [f"{odd[i % len(odd)]}{i}" for i in range(classes)]
    picture = draw_confusion_matrix(np.eye(classes, dtype=np.int64), names)
    assert max(picture.size) <= 2048
