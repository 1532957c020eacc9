"""The int8 trunk: near its network, made once, and read only for the backbone it was made of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.errors import BadData
from deploy.image import normalise
from deploy.runtime import Model
from retrain import tf_graph
from retrain.backbones import Backbone, int8_trunk
from retrain.backbones.int8_trunk import calibration_photos, quantize_backbone, read_trunk
from retrain.data import split
from retrain.data.photo import Photo
from retrain.data.photo_folder import scan
from retrain.data.photo_pixels import pixels
from tests.helpers.small_networks import small_backbone


@pytest.fixture(scope="module")
def dataset(photos: Path) -> Sequence[Photo]:
    return scan(photos).photos


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small_backbone(tmp_path_factory.mktemp("small"))[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trunk(small: Backbone, dataset: tuple[Photo, ...], cache: Path) -> Backbone:
    return quantize_backbone(small, dataset, cache)


@pytest.fixture
def file(trunk: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "trunk.tflite"
    path.write_bytes(trunk.flatbuffer)
    return path


def answers(trunk: Backbone, photos: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    model = Model(trunk.flatbuffer)
    assert model.input_dtype == np.uint8
    return np.stack([model(photo[np.newaxis]) for photo in photos])


def numbered(label: str, number: int) -> Photo:
    return Photo(Path(label, str(number)), label, number.to_bytes(32))


def test_it_takes_pixels_and_gives_nearly_the_bottlenecks_of_the_graph(
    small: Backbone, trunk: Backbone, dataset: tuple[Photo, ...]
) -> None:
    shown = np.concatenate([pixels(photo, small.spec) for photo in dataset[::6]])
    expected = tf_graph.open_session(small.read_graph())(normalise(shown, small.spec))
    bottlenecks = answers(trunk, shown)
    assert bottlenecks.shape == (12, small.width)
    assert 0 < np.abs(bottlenecks - expected).max() < 0.05 * np.abs(expected).max()


def test_its_bytes_name_its_bottlenecks(small: Backbone, trunk: Backbone) -> None:
    other = replace(trunk, flatbuffer=trunk.flatbuffer + b"\0")
    assert len({small.fingerprint, trunk.fingerprint, other.fingerprint}) == 3
    assert replace(small, flatbuffer=b"another").fingerprint == small.fingerprint


def test_the_smallest_digests_of_each_class_of_the_training_photos_calibrate() -> None:
    photos = [numbered(label, 1000 * i + n) for i, label in enumerate("ba") for n in range(200)]
    splits = [split.TESTING if photo.digest[-1] % 2 else split.TRAINING for photo in photos]
    chosen = calibration_photos(photos[::-1], splits[::-1])
    assert {label: sum(photo.label == label for photo in chosen) for label in "ab"} == {
        "a": 50,
        "b": 50,
    }
    assert {int.from_bytes(photo.digest) for photo in chosen} == {
        start + n for start in (0, 1000) for n in range(0, 100, 2)
    }
    more = [*photos, numbered("a", 5000)]
    assert calibration_photos(more, [*splits, split.TRAINING]) == chosen
    renamed = [replace(photo, label={"a": "b", "b": "z"}[photo.label]) for photo in photos]
    digests = [photo.digest for photo in calibration_photos(renamed, splits)]
    assert digests == [photo.digest for photo in chosen]


def test_it_is_made_once_for_a_choice_of_photos(
    small: Backbone,
    trunk: Backbone,
    dataset: tuple[Photo, ...],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8_trunk, "quantize", None)
    assert quantize_backbone(small, dataset, cache) == trunk
    with pytest.raises(TypeError):
        quantize_backbone(small, dataset[1:], cache)


def test_a_damaged_one_is_made_again(
    small: Backbone, dataset: tuple[Photo, ...], tmp_path: Path
) -> None:
    first = quantize_backbone(small, dataset[:6], tmp_path)
    (path,) = tmp_path.glob("backbones/int8-*/trunk.tflite")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert quantize_backbone(small, dataset[:6], tmp_path) == first
    assert path.read_bytes() == first.flatbuffer


def test_photos_that_cannot_be_read_do_not_calibrate(
    small: Backbone, dataset: tuple[Photo, ...], tmp_path: Path
) -> None:
    lost = replace(dataset[0], path=tmp_path / "none.jpg")
    first, *rest = dataset[1:9]
    mixed = quantize_backbone(small, [lost, first, *rest], tmp_path)
    assert Model(mixed.flatbuffer).output_width == small.width
    with pytest.raises(BadData, match=r"no training photo .* Remedy: `extract_precision` float32"):
        quantize_backbone(small, [lost], tmp_path)


@pytest.mark.parametrize(
    ("differing", "change"),
    [
        ("weights", {"weights_sha256": "1" * 64}),
        ("cut", {"cut": "below"}),
        ("input", {"crop": 0.5}),
        ("input", {"mean": 127.0}),
        ("weights, input", {"weights_sha256": "1" * 64, "height": 16}),
    ],
)
def test_a_file_for_another_backbone_is_refused(
    differing: str, change: dict[str, Any], small: Backbone, file: Path, trunk: Backbone
) -> None:
    assert read_trunk(file, small) == trunk
    of_backbone = {key: value for key, value in change.items() if hasattr(small, key)}
    of_input = {key: value for key, value in change.items() if key not in of_backbone}
    other = replace(small, name="large", **of_backbone, spec=replace(small.spec, **of_input))
    expected = f"{file}: a trunk of small, not of large as it is here: other {differing}: name"
    with pytest.raises(BadData, match=expected):
        read_trunk(file, other)


@pytest.mark.parametrize("damage", ["cut off", "a model", "empty", "a bit"])
def test_a_file_that_is_no_trunk_or_is_damaged_is_refused(
    damage: str, small: Backbone, file: Path
) -> None:
    content = file.read_bytes()
    middle = len(content) // 3
    changed = {
        "cut off": content[:-100],
        "a model": content[: content.index(b"PK\x03\x04")],
        "empty": b"",
        "a bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    }
    file.write_bytes(changed[damage])
    with pytest.raises(BadData, match=f"{file}: damaged.*name a trunk.tflite"):
        read_trunk(file, small)
