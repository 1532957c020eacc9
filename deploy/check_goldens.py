"""Check that a model file computes the same on this device as where it was converted."""

import io
from contextlib import suppress

import numpy as np
from PIL import Image

from deploy import goldens
from deploy.classifier import Classifier
from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, to_pixels
from deploy.untrusted_files import damaged

_MAX_PIXEL_RATIO = 4
"""Pixels of a golden for each pixel of the network's input, or of a thumbnail if that is larger."""
_THUMBNAIL_PIXELS = 64 * 64


def check_goldens(classifier: Classifier) -> list[str]:
    """Return a message for each golden of the file whose result differs here; [] if none does.

    Each golden is decoded, cropped, resized, normalised and classified as any photo. A file
    without goldens gives [].
    """
    failures = []
    spec, labels = classifier.contract.input, classifier.contract.labels
    for i, golden in enumerate(classifier.file.goldens):
        try:
            _require_small(golden.png, spec)
            image = open_image(golden.png, spec)
        except BadData as error:  # the photo's digest is right, so this Pillow cannot decode it
            failures.append(f"{goldens.name(i)}: {error}")
            continue
        if goldens.digest(to_pixels(image, spec)) != golden.pixels_sha256:
            failures.append(f"{goldens.name(i)}: its pixels are not what they were at conversion")
            continue
        scores = classifier.scores(image)
        difference = float(np.abs(scores - golden.scores).max())
        if not difference <= classifier.file.tolerance:  # NaN is a difference too
            best = int(scores.argmax())
            failures.append(
                f"{goldens.name(i)}: {labels[best]} {scores[best]:.1%} here, {golden.label} "
                f"{max(golden.scores):.1%} when it was converted; a score differs by "
                f"{difference:.3g}, more than {classifier.file.tolerance:g}"
            )
    return failures


def _require_small(png: bytes, spec: InputSpec) -> None:
    """Raise BadData, before decoding, for a photo of far more pixels than a golden has."""
    with damaged("the file is damaged"), suppress(OSError):  # which open_image explains
        photo = Image.open(io.BytesIO(png), formats=("PNG",))
        if photo.width * photo.height > _MAX_PIXEL_RATIO * max(
            spec.height * spec.width, _THUMBNAIL_PIXELS
        ):
            raise BadData(f"{photo.width}x{photo.height} pixels, far more than a golden has")
