"""Make goldens of test photos, with the scores that a model must give for them on every device."""

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
from retrain.data.photo import Photo
from retrain.data.photo_pixels import pixels

SIDE = 64
"""Height and width of a golden's photo, in pixels."""
_CANDIDATES_PER_GOLDEN = 4
"""Enough candidates: the model is right about most thumbnails, though they are blurred."""
_MIN_LEAD = 0.5
"""How far the best score should be above the second: sure answers differ least between runtimes."""


def make(
    graph: PhotoClassifier,
    file: ModelFile,
    photos: Sequence[Photo],
    count: int,
) -> tuple[Golden, ...]:
    """Return `count` goldens, one of each class in turn; fewer if there are too few photos.

    Goldens for which graph and model give the photo's label, and the model is sure, come first in
    each class. The first of `photos` must be of all classes.
    """
    model = Classifier(file)
    spec = file.contract.input
    reliable: dict[str, list[Golden]] = {}
    unreliable: dict[str, list[Golden]] = {}
    for photo in photos[: _CANDIDATES_PER_GOLDEN * count]:
        png = _thumbnail(photo, spec)
        image = open_image(png, spec)
        scores = model.scores(image)
        best = int(scores.argmax())
        label = file.contract.labels[best]
        is_sure = scores[best] - np.delete(scores, best).max(initial=0) > _MIN_LEAD
        is_right = label == photo.label and best == graph.scores(image).argmax()
        golden = Golden(png, digest(to_pixels(image, spec)), label, tuple(map(float, scores)))
        by_label = reliable if is_sure and is_right else unreliable
        by_label.setdefault(photo.label, []).append(golden)
    columns = [
        reliable.get(label, []) + unreliable.get(label, []) for label in {**reliable, **unreliable}
    ]
    in_turn = chain.from_iterable(zip_longest(*columns))
    return tuple([golden for golden in in_turn if golden][:count])


def _thumbnail(photo: Photo, spec: InputSpec) -> bytes:
    """Return a PNG of the photo's largest centred square, or of all of it if `spec` squashes."""
    small = replace(spec, height=SIDE, width=SIDE, crop=1.0 if spec.crop else None)
    stream = io.BytesIO()
    Image.fromarray(pixels(photo, small)[0]).save(stream, "PNG", optimize=True)
    return stream.getvalue()
