"""Pixels of a photo of the data set, as the network gets them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import open_image, to_pixels
from retrain.data.photo import Photo
from retrain.data.photo_pixels import decode, pixels

SPEC = InputSpec(24, 32, 0.875, 127.0, 128.0)


def photo_at(path: Path) -> Photo:
    return Photo(path, "any", hashlib.sha256(path.read_bytes()).digest())


def test_pixels_are_those_of_the_device(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (400, 640, 3), np.uint8)
    Image.fromarray(noise).save(path)
    expected = to_pixels(open_image(path.read_bytes(), SPEC), SPEC)
    assert np.array_equal(pixels(photo_at(path), SPEC), expected)
    assert decode(photo_at(path), SPEC).size == (80, 50), "a large JPEG is decoded at 1/8"


def test_an_error_names_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    photo = photo_at(path)
    with pytest.raises(BadData, match=r"photo\.jpg: the file is damaged"):
        pixels(photo, SPEC)
    path.write_bytes(b"other bytes")
    with pytest.raises(BadData, match=r"photo\.jpg: changed since training"):
        pixels(photo, SPEC)
    path.unlink()
    with pytest.raises(BadData, match=r"photo\.jpg: cannot be read \(No such file"):
        pixels(photo, SPEC)
