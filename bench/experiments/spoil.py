"""Spoil a copy of a folder of photos in known ways, to see what the doctor finds of it."""

import io
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from bench.experiments.shared import photos_by_label

SWAPPED_SHARE = 0.03
_COPIES = 20
_TRUNCATED = 5
_BORDER = (30, 60, 200)
_BORDER_SHARE = 0.1
"""Width of the planted border, of the photo's shorter side."""
_CROPPED_SHARE = 0.05
NEAR_COPIES = ("resized", "cropped", "recompressed")

Pair = frozenset[Path]


@dataclass(frozen=True)
class Spoiled:
    """What is wrong in a spoiled folder.

    `near` names the way in which each near copy was made. `swapped` are the photos in a wrong class
    folder. `bordered` is the label all of whose photos have a blue border.
    """

    swapped: frozenset[Path]
    exact: frozenset[Pair]
    near: dict[Pair, str]
    truncated: frozenset[Path]
    bordered: str

    def to_json(self) -> dict[str, Any]:
        """Return how many there are of each."""
        return {name: len(value) for name, value in asdict(self).items() if name != "bordered"}


def spoil(source: Path, folder: Path, seed: int) -> Spoiled:
    """Write a spoiled copy of the photos of `source` into the new `folder`.

    One photo has one fault at most, beside the border of its class.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    by_label = photos_by_label(source)
    labels = list(by_label)
    bordered = draw.choice(labels)
    photos = []
    for label, paths in by_label.items():
        (folder / label).mkdir(parents=True)
        for path in paths:
            copy = folder / label / path.name
            if label == bordered:
                copy.write_bytes(_with_border(path))
            else:
                shutil.copyfile(path, copy)
            photos.append(copy)
    draw.shuffle(photos)
    exact: set[Pair] = set()
    near: dict[Pair, str] = {}
    for number in range(_COPIES):
        photo = photos.pop()
        copy = photo.with_name(f"exact-{number}{photo.suffix}")
        shutil.copyfile(photo, copy)
        exact.add(frozenset((photo, copy)))
    for number in range(_COPIES):
        photo = photos.pop()
        copy = photo.with_name(f"near-{number}.jpg")
        way = NEAR_COPIES[number % len(NEAR_COPIES)]
        copy.write_bytes(_near_copy(photo, way))
        near[frozenset((photo, copy))] = way
    truncated = [photos.pop() for _ in range(_TRUNCATED)]
    for photo in truncated:
        content = photo.read_bytes()
        photo.write_bytes(content[: len(content) // 2])
    swapped = swap(folder, photos, round(SWAPPED_SHARE * sum(map(len, by_label.values()))), draw)
    return Spoiled(frozenset(swapped), frozenset(exact), near, frozenset(truncated), bordered)


def swap(folder: Path, photos: list[Path], count: int, draw: random.Random) -> list[Path]:
    """Move `count` of `photos` below `folder` into the folder of another class; return them."""
    labels = sorted(path.name for path in folder.iterdir())
    swapped = []
    for photo in draw.sample(photos, count):
        label = draw.choice([label for label in labels if label != photo.parent.name])
        swapped.append(photo.rename(folder / label / f"{photo.parent.name}-{photo.name}"))
    return swapped


def _with_border(path: Path) -> bytes:
    with Image.open(path) as image:
        width = round(_BORDER_SHARE * min(image.size))
        inner = ImageOps.crop(image.convert("RGB"), width)
    return _jpeg(ImageOps.expand(inner, width, _BORDER), 92)


def _near_copy(photo: Path, way: str) -> bytes:
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    if way == "resized":
        image = image.resize((round(0.6 * width), round(0.6 * height)), Image.Resampling.LANCZOS)
    elif way == "cropped":
        left, top = (round(side * _CROPPED_SHARE / 2) for side in image.size)
        image = image.crop((left, top, width - left, height - top))
    return _jpeg(image, 60 if way == "recompressed" else 90)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()
