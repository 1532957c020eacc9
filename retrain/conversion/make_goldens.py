"""Make goldens of test photos: what a converted model must give on every device, it gave here."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

import numpy as np
from PIL import Image

from deploy.classifier import Classifier, PhotoClassifier
from deploy.contract import InputSpec
from deploy.goldens import Golden, digest
from deploy.image import open_image, to_pixels
from deploy.model_file import ModelFile
from retrain.data.photo_folder import Photo
from retrain.data.photo_pixels import pixels

SIDE = 64
"""Pixels of a golden's height and width."""
_LOOKED_AT = 4
"""Candidates for each golden: most thumbnails are classified right, blurred as they are."""
_LEAD = 0.5
"""How far the best score should be above the second: sure answers differ least between runtimes."""


def make(
    graph: PhotoClassifier,
    file: ModelFile,
    photos: Sequence[Photo],
    count: int,
) -> tuple[Golden, ...]:
    """Return `count` goldens, as many of each class as there are, fewer if there are no photos.

    Of each class those come first that the graph and the model call right, and the model is sure
    of. `photos` are in an order of which the first few are of all classes.
    """
    model = Classifier(file)
    spec = file.contract.input
    right: dict[str, list[Golden]] = {}
    other: dict[str, list[Golden]] = {}
    for photo in photos[: _LOOKED_AT * count]:
        png = _thumbnail(photo, spec)
        image = open_image(png, spec)
        scores = model.scores(image)
        best = int(scores.argmax())
        label = file.contract.labels[best]
        sure = scores[best] - np.delete(scores, best).max(initial=0) > _LEAD
        good = sure and label == photo.label and best == graph.scores(image).argmax()
        found = right if good else other
        golden = Golden(png, digest(to_pixels(image, spec)), label, tuple(map(float, scores)))
        found.setdefault(photo.label, []).append(golden)
    columns = [right.get(label, []) + other.get(label, []) for label in {**right, **other}]
    turns = chain.from_iterable(zip_longest(*columns))
    return tuple([golden for golden in turns if golden][:count])


def _thumbnail(photo: Photo, spec: InputSpec) -> bytes:
    """Return a PNG of the photo's middle, or of all of it, squashed, where `spec` squashes."""
    small = replace(spec, height=SIDE, width=SIDE, crop=1.0 if spec.crop else None)
    stream = io.BytesIO()
    Image.fromarray(pixels(photo, small)[0]).save(stream, "PNG", optimize=True)
    return stream.getvalue()
