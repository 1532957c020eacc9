"""Distort a photo at random: flip, crop, scale, and change the brightness.

The settings are those of TensorFlow's image_retraining/retrain.py. One difference is deliberate:
brightness is clipped to 0..255, since a device's pixels are bytes.
"""

import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.image import kept_box, to_pixels
from retrain.settings.training import Distortion

RULES = "distort-2"
"""The version of these rules, part of a cached view's fingerprint: change it with any pixel."""


def distort(
    image: Image.Image, spec: InputSpec, distortion: Distortion, digest: bytes, view: int
) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3): a random view of `image`, the same in every run.

    The part of the photo that `spec` keeps is enlarged by
    (1 + random_crop%) * U(1, 1 + random_scale%), and a random box of the input's size is cropped
    out of it. `flip_left_right` mirrors half of the views. Brightness is multiplied by
    U(1 - random_brightness%, 1 + random_brightness%). Without any distortion, the pixels are those
    of `to_pixels`.

    The draws depend only on the SHA-256 of the view's number and the photo's `digest`, so that
    each setting leaves the draws of the others as they are.
    """
    key = f"{view} ".encode() + digest
    draws = np.frombuffer(hashlib.sha256(key).digest(), "<u4") / 2**32  # uniform over 0..1
    zoom, across, down, mirror, light = draws[:5].tolist()

    enlarged = (1 + distortion.random_crop / 100) * (1 + distortion.random_scale / 100 * zoom)
    # Cropping a box out of an enlarged photo equals resizing a smaller box of the photo itself.
    left, top, right, bottom = kept_box(image, spec)
    spare_width = (right - left) * (1 - 1 / enlarged)
    spare_height = (bottom - top) * (1 - 1 / enlarged)
    box = (
        left + across * spare_width,
        top + down * spare_height,
        right - (1 - across) * spare_width,
        bottom - (1 - down) * spare_height,
    )
    pixels = to_pixels(image, spec, box)
    if distortion.flip_left_right and mirror < 0.5:
        pixels = pixels[:, :, ::-1]
    brightness = 1 + distortion.random_brightness / 100 * (2 * light - 1)
    return np.ascontiguousarray(np.rint(pixels * brightness).clip(0, 255), np.uint8)
