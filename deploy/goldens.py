"""Goldens: small photos inside a .tflite file with the scores that they must get anywhere."""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.foreign_files import damaged, parse_json
from deploy.image import open_image, to_pixels

if TYPE_CHECKING:
    from deploy.classifier import Classifier

MAX_GOLDENS = 256
_MOST_PIXELS = 4
"""Pixels that a golden may have for each of the network's input, or of a thumbnail."""


@dataclass(frozen=True)
class Golden:
    """A photo, as the bytes of a PNG, and what it gave when the model was converted.

    `pixels_sha256` is of the uint8 tensor that deploy/image.py makes of it, in hexadecimal;
    `scores` are (classes,), `label` is the best one's.
    """

    png: bytes
    pixels_sha256: str
    label: str
    scores: tuple[float, ...]


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a tensor's bytes, in hexadecimal."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def name(index: int) -> str:
    """Return the name that the photo of a golden has inside a .tflite file."""
    return f"golden-{index}.png"


def to_json(goldens: Sequence[Golden], tolerance: float) -> str:
    """Return the text of goldens.json, which names the photos and does not hold them."""
    listed = [
        {
            "photo": name(i),
            "pixels_sha256": golden.pixels_sha256,
            "label": golden.label,
            "scores": golden.scores,
        }
        for i, golden in enumerate(goldens)
    ]
    return json.dumps({"tolerance": tolerance, "goldens": listed}, ensure_ascii=False) + "\n"


def from_json(
    text: bytes, photo: Callable[[str], bytes], labels: Sequence[str]
) -> tuple[tuple[Golden, ...], float]:
    """Return goldens and tolerance of a goldens.json; `photo` gives the bytes of a file it names.

    Raises BadData when it is not what `to_json` writes, or is not about `labels` in their order.
    """
    with damaged("the goldens cannot be read"):
        values = parse_json(text)
        tolerance = _number(values["tolerance"])
        listed = values["goldens"]
        if not isinstance(listed, list) or len(listed) > MAX_GOLDENS:
            raise ValueError(f"goldens are no list of at most {MAX_GOLDENS}")
        goldens = tuple(
            Golden(
                photo(each["photo"]),
                _text(each["pixels_sha256"]),
                _text(each["label"]),
                tuple(map(_number, each["scores"])),
            )
            for each in listed
        )
    for i, golden in enumerate(goldens):
        if len(golden.scores) != len(labels):
            raise BadData(f"{name(i)} has {len(golden.scores)} scores, there are {len(labels)}")
        best = labels[int(np.argmax(golden.scores))]
        if best != golden.label:
            raise BadData(f"{name(i)} is of {golden.label!r}, the labels make it {best!r}")
    return goldens, tolerance


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e9:
        raise ValueError(f"{value!r:.40} is no number that is a score")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")
    return value


def check(classifier: "Classifier") -> list[str]:
    """Return how the goldens of its file do not give here what they gave; [] where all is well.

    They go the whole road: decoded, cropped and resized, normalised, classified. A file without
    goldens has none that fail.
    """
    failures = []
    spec, labels = classifier.contract.input, classifier.contract.labels
    for i, golden in enumerate(classifier.file.goldens):
        try:
            _require_small(golden.png, spec)
            image = open_image(golden.png, spec)
        except BadData as error:  # its digest is right: it is this Pillow that cannot
            failures.append(f"{name(i)}: {error}")
            continue
        if digest(to_pixels(image, spec)) != golden.pixels_sha256:
            failures.append(f"{name(i)}: its pixels are not what they were at conversion")
            continue
        scores = classifier.scores(image)
        difference = float(np.abs(scores - golden.scores).max())
        if not difference <= classifier.file.tolerance:  # NaN is a difference too
            best = int(scores.argmax())
            failures.append(
                f"{name(i)}: {labels[best]} {scores[best]:.1%} here, {golden.label} "
                f"{max(golden.scores):.1%} when it was converted; a score differs by "
                f"{difference:.3g}, more than {classifier.file.tolerance:g}"
            )
    return failures


def _require_small(png: bytes, spec: InputSpec) -> None:
    """Raise BadData for a photo of far more pixels than a golden's, before they are decoded."""
    with damaged("the file is damaged"), suppress(OSError):  # which open_image explains
        photo = Image.open(io.BytesIO(png), formats=("PNG",))
        if photo.width * photo.height > _MOST_PIXELS * max(spec.height * spec.width, 64 * 64):
            raise BadData(f"{photo.width}x{photo.height} pixels, far more than a golden has")
