"""Quantize a backbone to int8, so that photos are analysed by the network that ships.

The int8 trunk takes uint8 pixels and gives float32 bottlenecks, as the recipe int8 converts a whole
network: the first layer is of float32. It is a flatbuffer followed by a zip, as a model file is,
with the one member `trunk.json`: which backbone it was made of, and the SHA-256 of the flatbuffer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deploy import files, untrusted_files, versioned_json, zip_members
from deploy.errors import BadData
from deploy.system.temporary_files import sweep
from deploy.versioned_json import Fields
from deploy.zip_members import Members
from retrain.backbones.backbone import Backbone
from retrain.data import split
from retrain.data.digest_index import DigestIndex
from retrain.data.photo import Photo
from retrain.data.photo_pixels import pixels
from retrain.data.photo_table import PhotoTable
from retrain.data.take_in_turn import take_in_turn
from retrain.fingerprint import fingerprint
from retrain.quantization.quantize import Pixels, quantize, span_byte_range
from retrain.settings.conversion import TRUNK_RECIPE, ConvertSettings, Quantization

_VERSION = 1
"""Raised when the quantization below changes what it writes."""
_FORMAT_VERSION = 1
_MEMBER = "trunk.json"
_QUANTIZATION = Quantization(TRUNK_RECIPE)
_REMEDY = "name a trunk.tflite that a run with this backbone wrote"


def calibration_photos(photos: Sequence[Photo], splits: Sequence[str]) -> list[Photo]:
    """Return the training photos to calibrate on: 100, those with the smallest digests.

    The classes give one each in turn. A new photo changes the choice only if its digest is among
    the smallest of its class: of 5 classes with 700 photos each, one new photo in 35 does. A new
    choice is a new trunk, and all photos are analysed again. With few photos a new one nearly
    always is among the 100, and analysing all again takes seconds.
    """
    training = PhotoTable.of(photos).take(split.Splits.of(splits).members(split.TRAINING))
    by_digest = training.take(DigestIndex(training.digests).order)
    return take_in_turn(by_digest, ConvertSettings.calibration_images)


def quantize_backbone(
    backbone: Backbone, calibration: Sequence[Photo], cache_dir: Path
) -> Backbone:
    """Return `backbone` as an int8 trunk, made under `cache_dir` unless it is there already.

    The photos of `calibration` that cannot be read are left out. Raises BadData if none can be, or
    if TFLite cannot quantize the network.
    """
    cause = {
        "backbone": backbone.fingerprint,
        "version": _VERSION,
        "calibration": [photo.digest.hex() for photo in calibration],
    }
    folder = cache_dir / "backbones" / f"int8-{fingerprint(cause)[:16]}"
    path = folder / "trunk.tflite"
    try:
        return read_trunk(path, backbone)
    except (OSError, BadData):  # there is none, or the file is damaged
        sweep(folder)
    try:
        flatbuffer = quantize(
            backbone.read_graph(), _QUANTIZATION, _calibration_pixels(calibration, backbone)
        )
    except BadData as error:
        raise BadData(f"{error}. Remedy: `extract_precision` float32") from error
    files.write(path, _pack(flatbuffer, backbone))
    return read_trunk(path, backbone)


def read_trunk(path: Path, backbone: Backbone) -> Backbone:
    """Return `backbone` as the int8 trunk in the file `path`.

    Raises OSError; BadData for a file that is damaged, that is no int8 trunk, or that was made of
    another backbone, of other weights or for another input.
    """
    with untrusted_files.naming(path):
        content = untrusted_files.read(path, untrusted_files.MAX_MODEL_BYTES)
        about = _unpack(content)
        identity = about.object("identity").values
        differing = [
            name for name, value in backbone.identity.items() if identity.get(name) != value
        ]
        if differing:
            raise BadData(
                f"a trunk of {about.text('backbone')}, not of {backbone.name} as it is here: other "
                f"{', '.join(differing)}: {_REMEDY}"
            )
    return replace(backbone, flatbuffer=content, precision="int8")


def _calibration_pixels(photos: Sequence[Photo], backbone: Backbone) -> Pixels:
    """Return uint8 (N, height, width, 3) of the photos that can be read."""
    readable = []
    for photo in photos:
        try:
            readable.append(pixels(photo, backbone.spec))
        except BadData:  # extraction lists it with the reason
            continue
    if not readable:
        raise BadData("no training photo to calibrate on can be read")
    return span_byte_range(np.concatenate(readable))


def _pack(flatbuffer: bytes, backbone: Backbone) -> bytes:
    about = {
        "schema": _FORMAT_VERSION,
        "backbone": backbone.name,
        "identity": backbone.identity,
        "flatbuffer_sha256": hashlib.sha256(flatbuffer).hexdigest(),
    }
    return zip_members.append(flatbuffer, {_MEMBER: json.dumps(about).encode()})


def _unpack(content: bytes) -> Fields:
    """Return what `trunk.json` says; raise BadData for bytes that `_pack` did not write."""
    with untrusted_files.damaged("damaged, or no int8 trunk", _REMEDY):
        members = Members(content)
        record = json.loads(members.read(_MEMBER))
    about = versioned_json.read(record, _MEMBER, _FORMAT_VERSION, _REMEDY)
    digest = hashlib.sha256(content[: members.end]).hexdigest()
    if about.text("flatbuffer_sha256") != digest:
        raise BadData(f"damaged: {_REMEDY}")
    return about
