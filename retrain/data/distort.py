"""Random views of a photo: flipped, cropped, scaled, brighter or darker, as the classic made them.

The options are those of TensorFlow's image_retraining/retrain.py. One difference is deliberate:
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
"""Names everything here that can change a pixel; part of a cached view's fingerprint."""


def distort(
    image: Image.Image, spec: InputSpec, distortion: Distortion, digest: bytes, view: int
) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3): a random view of `image`, the same in every run.

    What `spec` keeps of the photo is enlarged by (1 + random_crop%) * U(1, 1 + random_scale%),
    and a random box of the input's size is cropped out of it. Half of the views are mirrored,
    where that is asked for. Brightness multiplies by U(1 - random_brightness%,
    1 + random_brightness%). With nothing on, these are the pixels of `to_pixels`.

    SHA-256 of the view's number and the photo's `digest` decides the draws, and nothing
    else does: an option that is turned on leaves the draws of the others as they were.
    """
    key = f"{view} ".encode() + digest
    draws = np.frombuffer(hashlib.sha256(key).digest(), "<u4") / 2**32
    zoom, across, down, mirror, light = draws[:5].tolist()  # each is uniform over 0..1

    enlarged = (1 + distortion.random_crop / 100) * (1 + distortion.random_scale / 100 * zoom)
    # To crop a box out of an enlarged photo is to resize a smaller box of the photo itself.
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
