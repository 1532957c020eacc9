"""Draw a confusion matrix as a picture."""

import math
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

# In pixels:
_MAX_MATRIX_SIDE = 1600
_MAX_CELL_SIDE = 96
_MAX_NAMES_WIDTH = 400

_MAX_CLASSES_WITH_COUNTS = 20
"""With more classes, the cells show no counts."""
_FULL_COLOUR = (8, 48, 107)
"""The colour of a cell that holds all of its row; an empty cell is white."""

Integers = npt.NDArray[np.integer[Any]]


def draw_confusion_matrix(matrix: Integers, names: list[str]) -> Image.Image:
    """Return a picture, at most 2048 pixels a side, of counts (C, C), a row for each true label.

    `names` are the labels, one line each, drawn to the left and below. A cell's colour is its share
    of its row.
    """
    classes = len(names)
    side = min(_MAX_MATRIX_SIDE, classes * max(1, min(_MAX_CELL_SIDE, _MAX_MATRIX_SIDE // classes)))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = np.rint(255 - shares[:, :, np.newaxis] * (255 - np.array(_FULL_COLOUR))).astype(
        np.uint8
    )
    cells = Image.fromarray(colours).resize(
        (side, side), Image.Resampling.NEAREST if classes <= side else Image.Resampling.BOX
    )
    pitch = side / classes
    drawing = ImageDraw.Draw(cells)
    if pitch >= 10:
        for edge in range(0, side, round(pitch)):
            drawing.line((edge, 0, edge, side), "#e6e6e6")
            drawing.line((0, edge, side, edge), "#e6e6e6")
    if classes <= _MAX_CLASSES_WITH_COUNTS:
        for row, column in np.argwhere(matrix):
            text_colour = "white" if shares[row, column] > 0.5 else "black"
            centre = (column + 0.5) * pitch, (row + 0.5) * pitch
            drawing.text(centre, str(matrix[row, column]), text_colour, _load_font(16), anchor="mm")
    strip_of_names = _draw_names(names, side)
    top, left = 24, strip_of_names.width
    picture = Image.new("RGB", (left + side + 8, top + side + left), "white")
    picture.paste(cells, (left, top))
    picture.paste(strip_of_names, (0, top))
    picture.paste(strip_of_names.transpose(Image.Transpose.ROTATE_90), (left, top + side))
    drawing = ImageDraw.Draw(picture)
    drawing.rectangle((left - 1, top - 1, left + side, top + side), outline="grey")
    drawing.text((4, 4), "row: true, column: predicted", "black", _load_font(13))
    return picture


def _draw_names(names: list[str], height: int) -> Image.Image:
    """Return a strip of evenly spaced names, flush right; names without room are left out."""
    pitch = height / len(names)
    size = min(14, max(10, int(pitch)))
    font = _load_font(size)
    short_names = [name[:32] for name in names]
    width = min(_MAX_NAMES_WIDTH, math.ceil(max(font.getlength(name) for name in short_names)) + 8)
    strip = Image.new("RGB", (width, height), "white")
    drawing = ImageDraw.Draw(strip)
    for i in range(0, len(names), math.ceil(size / pitch)):
        drawing.text((width - 4, (i + 0.5) * pitch), short_names[i], "black", font, anchor="rm")
    return strip


@cache
def _load_font(size: int) -> Any:
    # Pillow's default font shows letters beyond ASCII as boxes.
    for name in ("DejaVuSans.ttf", "arial.ttf", "Arial.ttf"):
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)
