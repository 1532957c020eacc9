"""A photo to decode where none is named: drawn, of a size that cameras of small devices give."""

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, QUALITY = 1280, 960, 90


def drawn(path: Path) -> Path:
    """Write a JPEG to `path`, always the same, and return it.

    Colours in soft patches under fine noise: what decoding costs hangs on how much is encoded,
    here about a third of a megabyte.
    """
    random = np.random.default_rng(0)
    patches = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(patches.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    noisy = smooth + random.normal(0, 6, (HEIGHT, WIDTH, 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    return path
