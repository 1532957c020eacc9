"""Goldens: small photos inside a .tflite file, with the scores that they get on every device."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deploy import versioned_json
from deploy.errors import BadData
from deploy.system.counts import with_noun
from deploy.untrusted_files import MAX_GOLDENS, MAX_JSON_BYTES, damaged, parse_json

SCHEMA_VERSION = 1
"""Version 1 is not written: goldens.json without a version has it."""
_MAX_SCORE = 1e9
_SCORE_BYTES = len("0.00012345678901234567, ")
_OTHER_BYTES = 256
"""More than a golden takes in goldens.json without its scores and its label."""
_REMEDY = "copy the model again, or convert it again"


@dataclass(frozen=True)
class Golden:
    """A photo, as the bytes of a PNG file, and its result when the model was converted.

    `pixels_sha256` is the digest, in hexadecimal, of the uint8 tensor that deploy/image.py makes
    of the photo; `scores` are (classes,), `label` is the label of the best one.
    """

    png: bytes
    pixels_sha256: str
    label: str
    scores: tuple[float, ...]


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a tensor's bytes, in hexadecimal."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def name(index: int) -> str:
    """Return the name of a golden's photo inside a .tflite file."""
    return f"golden-{index}.png"


def most(labels: Sequence[str]) -> int:
    """Return how many goldens of a model with these labels can be read again."""
    label_bytes = max(len(json.dumps(label, ensure_ascii=False).encode()) for label in labels)
    return MAX_JSON_BYTES // (_SCORE_BYTES * len(labels) + label_bytes + _OTHER_BYTES)


def to_json(goldens: Sequence[Golden], tolerance: float) -> str:
    """Return the text of goldens.json, which names the photos and does not hold them."""
    values = [
        {
            "photo": name(i),
            "pixels_sha256": golden.pixels_sha256,
            "label": golden.label,
            "scores": golden.scores,
        }
        for i, golden in enumerate(goldens)
    ]
    return json.dumps({"tolerance": tolerance, "goldens": values}, ensure_ascii=False) + "\n"


def from_json(
    text: bytes, photo: Callable[[str], bytes], labels: Sequence[str]
) -> tuple[tuple[Golden, ...], float]:
    """Return goldens and tolerance of a goldens.json; `photo` gives the bytes of a file it names.

    Raises BadData for a text that `to_json` cannot have written, and for goldens that disagree
    with `labels`, which are in output order; see `deploy.versioned_json`.
    """
    with damaged("the goldens cannot be read", _REMEDY):
        values = parse_json(text)
    fields = versioned_json.read(values, "the goldens", SCHEMA_VERSION, _REMEDY)
    tolerance = fields.number("tolerance", least=0, most=_MAX_SCORE)
    records = fields.objects("goldens")
    if len(records) > MAX_GOLDENS:
        raise fields.error(f"{len(records)} of them, more than {MAX_GOLDENS}")
    goldens = []
    for i, record in enumerate(records):
        with damaged("the goldens cannot be read", _REMEDY):
            png = photo(record.text("photo"))
        scores = record.numbers("scores", least=-_MAX_SCORE, most=_MAX_SCORE)
        golden = Golden(png, record.text("pixels_sha256"), record.text("label"), scores)
        if len(scores) != len(labels):
            there = f"the labels are {len(labels)}"
            raise BadData(f"{name(i)} has {with_noun(len(scores), 'score')}, {there}")
        best = labels[int(np.argmax(scores))]
        if best != golden.label:
            raise BadData(f"{name(i)} is of {golden.label!r}, the labels make it {best!r}")
        goldens.append(golden)
    return tuple(goldens), tolerance
