"""Pictures and input specs that tests of images share."""

import numpy as np
from PIL import Image

from deploy.contract import InputSpec


def spec(height: int, width: int, crop: float | None) -> InputSpec:
    return InputSpec(height, width, crop, mean=128.0, std=128.0)


def smooth(width: int, height: int) -> Image.Image:
    """Return a picture of large waves, which no honest resampling changes much."""
    y, x = np.mgrid[:height, :width]
    phases = (3 * x / width, 5 * y / height, 4 * (x / width + y / height))
    waves = [127.5 + 120 * np.sin(2 * np.pi * phase) for phase in phases]
    return Image.fromarray(np.stack(waves, axis=2).astype(np.uint8))
