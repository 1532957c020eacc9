"""Distort a photo at random: box, flip, crop, scale, brightness, contrast and saturation.

Flip, crop, scale and brightness are those of TensorFlow's image_retraining/retrain.py. One
difference is deliberate: brightness is clipped to 0..255, since a device's pixels are bytes.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageStat

from deploy.contract import InputSpec
from deploy.image import kept_box, resize
from retrain.settings.training import Distortion

RULES = "distort-2"
"""The version of these rules, part of a cached view's fingerprint: change it with any pixel."""
_MAX_STRETCH = 4 / 3
"""The largest factor by which a random box is stretched, in both directions."""
_GREY = np.array([0.299, 0.587, 0.114])
"""The shares of red, green and blue in a pixel's grey (ITU-R 601), as Pillow's mode L has them."""


def distort(
    image: Image.Image, spec: InputSpec, distortion: Distortion, digest: bytes, view: int
) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3): a random view of `image`, the same in every run.

    The part of the photo that `spec` keeps, or a random box of `random_area`, is enlarged by
    (1 + random_crop%) * U(1, 1 + random_scale%), and a random box of the input's size is cropped
    out of it. `flip_left_right` mirrors half of the views. Then brightness, contrast and saturation
    are multiplied, each by a factor of its own of U(1 - N%, 1 + N%), where N is its setting:
    contrast is the distance of a level from the view's mean grey, saturation that of a colour from
    its pixel's grey. `blank_centre` leaves the border of the view. Without any distortion, the
    pixels are those of `to_pixels`.

    The draws depend only on the SHA-256 of the view's number and the photo's `digest`, so that
    each setting leaves the draws of the others as they are.
    """
    key = f"{view} ".encode() + digest
    draws = np.frombuffer(hashlib.sha256(key).digest(), "<u4") / 2**32  # uniform over 0..1
    zoom, across, down, mirror, light, spread, colour = draws[:7].tolist()

    enlarged = (1 + distortion.random_crop / 100) * (1 + distortion.random_scale / 100 * zoom)
    # Cropping a box out of an enlarged photo equals resizing a smaller box of the photo itself.
    left, top, right, bottom = (
        _random_box(image, spec, distortion.random_area, key)
        if distortion.random_area
        else kept_box(image, spec)
    )
    spare_width = (right - left) * (1 - 1 / enlarged)
    spare_height = (bottom - top) * (1 - 1 / enlarged)
    box = (
        left + across * spare_width,
        top + down * spare_height,
        right - (1 - across) * spare_width,
        bottom - (1 - down) * spare_height,
    )
    resized = resize(image, spec, box)
    if distortion.flip_left_right and mirror < 0.5:
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if distortion.random_brightness or distortion.random_contrast:
        brightness = _factor(distortion.random_brightness, light)
        levels = np.arange(256) * brightness
        if distortion.random_contrast:
            mean = brightness * ImageStat.Stat(resized.convert("L")).mean[0]
            levels = mean + _factor(distortion.random_contrast, spread) * (levels - mean)
        table = np.rint(levels).clip(0, 255).astype(np.uint8).tolist()
        resized = resized.point(3 * table)
    if distortion.random_saturation:
        saturation = _factor(distortion.random_saturation, colour)
        matrix = np.zeros((3, 4))  # of red, green, blue and 1
        matrix[:, :3] = saturation * np.eye(3) + (1 - saturation) * _GREY
        resized = resized.convert("RGB", tuple(matrix.ravel().tolist()))
    if distortion.blank_centre:
        _blank_centre(resized, distortion.blank_centre / 100)
    return np.asarray(resized)[np.newaxis]


def _blank_centre(image: Image.Image, share: float) -> None:
    """Fill `share` of each side of `image`, around its centre, with a middle grey."""
    left, top = (round(side * (1 - share) / 2) for side in image.size)
    image.paste((128, 128, 128), (left, top, image.width - left, image.height - top))


def _random_box(
    image: Image.Image, spec: InputSpec, percentage: int, key: bytes
) -> tuple[float, float, float, float]:
    """Return a box of `image` with up to `percentage` less than its area.

    Its sides have the ratio of the input's, changed by up to a third, as far as the photo allows.
    """
    draws = np.frombuffer(hashlib.sha256(b"box " + key).digest(), "<u4") / 2**32
    size, stretch, across, down = draws[:4].tolist()
    area = (1 - percentage / 100 * size) * image.width * image.height
    ratio = spec.width / spec.height * _MAX_STRETCH ** (2 * stretch - 1)
    width = min(math.sqrt(area * ratio), image.width)
    height = min(math.sqrt(area / ratio), image.height)
    left, top = across * (image.width - width), down * (image.height - height)
    return left, top, left + width, top + height


def _factor(percentage: int, draw: float) -> float:
    """Return the number that `draw`, of 0..1, gives between 1 - percentage% and 1 + percentage%."""
    return 1 + percentage / 100 * (2 * draw - 1)
