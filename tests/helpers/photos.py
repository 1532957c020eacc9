"""Draw photos of three classes that a network learns in a few steps."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

LABELS = ("circles", "stripes", "żółw ☀")
PER_LABEL = 24
"""Photos of each label in the fixture `photos`."""
PER_LABEL_IN_TINY = 4
"""Photos of each of two labels in the fixture `tiny`."""


def draw(label: str, random: np.random.Generator) -> Image.Image:
    """Return a 96x96 photo of the class `label`; no pixel is black or white."""
    back, front = (tuple(int(level) for level in random.integers(40, 200, 3)) for _ in range(2))
    image = Image.new("RGB", (96, 96), back)
    pen = ImageDraw.Draw(image)
    size = int(random.integers(6, 16))
    if label == LABELS[0]:
        pen.ellipse((size, size, 95 - size, 95 - size), fill=front)
    elif label == LABELS[1]:
        for x in range(0, 96, 2 * size):
            pen.rectangle((x, 0, x + size, 95), fill=front)
    else:
        image = Image.fromarray(random.integers(40, 200, (96, 96, 3), dtype=np.uint8))
    return image


def draw_folder(root: Path) -> None:
    """Write a folder of 24 photos, JPEG and PNG, for each label into `root`."""
    random = np.random.default_rng(0)
    for label in LABELS:
        (root / label).mkdir()
        for i in range(PER_LABEL):
            draw(label, random).save(root / label / f"{i:02}.{('jpg', 'png')[i % 2]}")


def copy_some(photos: Path, root: Path, *counts: int) -> None:
    """Copy the first photos of each label of `photos` to `root`, as many as `counts` says."""
    for label, count in zip(LABELS, counts, strict=False):
        (root / label).mkdir()
        for path in sorted((photos / label).iterdir())[:count]:
            shutil.copy(path, root / label)


def scene(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Return a picture of smooth coloured patches with fine grain, another one for each seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    grain = random.normal(0, 12, (height, width, 1))
    noisy = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(noisy).filter(ImageFilter.GaussianBlur(0.7))
