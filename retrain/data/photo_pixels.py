"""Decode a photo of the data set; its bytes must still be those of its digest."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.image import open_image, to_pixels
from deploy.untrusted_files import naming
from retrain.data.photo import Photo


def pixels(photo: Photo, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Return uint8 (1, height, width, 3): what `spec` keeps of the photo, resized.

    Raises BadData, with the photo's path, as `decode` does.
    """
    return to_pixels(decode(photo, spec), spec)


def decode(photo: Photo, spec: InputSpec) -> Image.Image:
    """Return the whole photo, upright and in RGB, at a scale that is sharp enough for `spec`.

    Raises BadData, with the photo's path, if the file changed, is gone or cannot be decoded.
    """
    content = photo.read()
    with naming(photo.path):
        return open_image(content, spec)
