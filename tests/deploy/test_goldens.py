"""Goldens: carried in the file, and noticed when a device gives others."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy import goldens, model_file
from deploy.check_goldens import check_goldens
from deploy.classifier import Classifier
from deploy.errors import BadData
from deploy.goldens import Golden
from deploy.image import to_pixels
from deploy.model_file import ModelFile
from deploy.untrusted_files import MAX_GOLDENS
from tests.helpers.deploy_fixtures import (
    CONTRACT,
    LABELS,
    golden_of,
    networks,
)

COLOURS = [(200, 60, 50), (60, 180, 70), (40, 60, 200), (128, 128, 128)]


@pytest.fixture(scope="module")
def file() -> ModelFile:
    """Return the tiny network with a golden of each label."""
    bare = ModelFile(networks().uint8, CONTRACT)
    file_goldens = tuple(golden_of(Classifier(bare), colour) for colour in COLOURS)
    assert {golden.label for golden in file_goldens} == set(LABELS)
    return replace(bare, goldens=file_goldens, tolerance=0.1)


def packed(file: ModelFile) -> bytes:
    return model_file.pack(file.flatbuffer, file.contract, file.goldens, file.tolerance)


def read(tmp_path: Path, content: bytes) -> ModelFile:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    return model_file.read(path)


def spoil(file: ModelFile, index: int, **values: Any) -> ModelFile:
    """Return `file` with another golden at `index`."""
    changed = list(file.goldens)
    changed[index] = replace(changed[index], **values)
    return replace(file, goldens=tuple(changed))


# In the file


@pytest.mark.parametrize(("label", "count"), [("x", 100_000), ('"é' * 500, 2_000)])
def test_as_many_goldens_as_fit_can_be_read(label: str, count: int) -> None:
    labels = [label, *map(str, range(count - 1))]
    scores = (0.5, *[0.00012345678901234567] * (count - 1))
    golden = Golden(b"", "0" * 64, label, scores)
    number = goldens.most(labels)
    assert number == {100_000: 3, 2_000: 166}[count]
    text = goldens.to_json([golden] * number, 0.1).encode()
    assert goldens.from_json(text, lambda _: b"", labels) == ((golden,) * number, 0.1)


def test_what_is_packed_is_read(file: ModelFile, tmp_path: Path) -> None:
    assert read(tmp_path, packed(file)) == file


def test_a_file_without_goldens_has_none(file: ModelFile, tmp_path: Path) -> None:
    content = packed(replace(file, goldens=()))
    assert b"golden" not in content
    assert read(tmp_path, content).goldens == ()


@pytest.mark.parametrize("name", [b"goldens.json", b"golden-3.png"])
def test_goldens_are_digested_like_every_part(file: ModelFile, tmp_path: Path, name: bytes) -> None:
    content = bytearray(packed(file))
    start = content.index(name) + len(name)  # its bytes follow its name in the local header
    content[start + 9] ^= 1
    with pytest.raises(BadData, match=r"model\.tflite: damaged"):
        read(tmp_path, bytes(content))


def swapped(file: ModelFile) -> ModelFile:
    labels = (LABELS[1], LABELS[0], *LABELS[2:])
    return replace(file, contract=replace(CONTRACT, labels=labels))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (swapped, "golden-0.png is of 'red', the labels make it 'grün, hell'"),
        (lambda file: spoil(file, 1, label="blue"), "golden-1.png is of 'blue', the labels make"),
        (
            lambda file: spoil(file, 2, scores=(0.5, 0.5)),
            "golden-2.png has 2 scores, the labels are 4",
        ),
        (
            lambda file: spoil(file, 3, scores=(0.0, 0.0, 0.0, float("nan"))),
            r"scores\[3\] is nan, not a number",
        ),
        (lambda file: spoil(file, 3, scores=("a",)), r"scores\[0\] is 'a', not a number"),
        (lambda file: replace(file, tolerance=float("inf")), "tolerance is inf, not from 0 to"),
    ],
)
def test_goldens_that_disagree_with_the_rest_are_refused_though_their_digests_are_right(
    file: ModelFile, tmp_path: Path, change: Callable[[ModelFile], ModelFile], reason: str
) -> None:
    with pytest.raises(BadData, match=rf"model\.tflite: .*{reason}"):
        read(tmp_path, packed(change(file)))


def test_a_golden_whose_photo_is_not_there_is_refused() -> None:
    text = json.dumps({"tolerance": 0.1, "goldens": [{"photo": "golden-0.png"}]})
    no_photos: dict[str, bytes] = {}
    with pytest.raises(BadData, match=r"cannot be read \('golden-0\.png' is not there\)"):
        goldens.from_json(text.encode(), no_photos.__getitem__, LABELS)


def test_more_goldens_than_a_file_may_have_are_refused() -> None:
    text = json.dumps({"tolerance": 0.1, "goldens": [{}] * (MAX_GOLDENS + 1)})
    with pytest.raises(BadData, match=f"{MAX_GOLDENS + 1} of them, more than {MAX_GOLDENS}"):
        goldens.from_json(text.encode(), dict[str, bytes]().__getitem__, LABELS)


# On a device


def test_the_right_model_passes(file: ModelFile) -> None:
    assert check_goldens(Classifier(file)) == []


def test_another_recipe_of_the_same_network_is_within_tolerance_or_not(file: ModelFile) -> None:
    """The quantized network's goldens, run in float32: close, and not equal."""
    exact = replace(file, flatbuffer=networks().float32)
    assert check_goldens(Classifier(exact)) == []
    assert len(check_goldens(Classifier(replace(exact, tolerance=1e-6)))) == len(COLOURS)


def test_scores_that_are_not_the_goldens_are_told(file: ModelFile) -> None:
    wrong = spoil(file, 1, label=LABELS[0], scores=(1.0, 0.0, 0.0, 0.0))
    (failure,) = check_goldens(Classifier(wrong))
    assert failure.startswith("golden-1.png: grün, hell ")
    assert "% here, red 100.0% when it was converted; a score differs by " in failure
    assert failure.endswith("more than 0.1")


@pytest.mark.parametrize("value", [float("nan"), 0.5])
def test_a_runtime_that_gives_nonsense_fails_each(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    classifier = Classifier(file)
    nonsense = np.full(4, value, np.float32)
    monkeypatch.setattr(classifier, "scores", lambda _: nonsense)
    assert len(check_goldens(classifier)) == len(COLOURS)


def test_pixels_that_are_not_the_goldens_are_told(
    file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One level of one pixel: no score would show it."""

    def off_by_one(image: Image.Image, spec: Any) -> Any:
        pixels = to_pixels(image, spec).copy()
        pixels[0, 5, 6, 1] += 1
        return pixels

    monkeypatch.setattr("deploy.check_goldens.to_pixels", off_by_one)
    failures = check_goldens(Classifier(file))
    assert len(failures) == len(COLOURS)
    assert failures[0] == "golden-0.png: its pixels are not what they were at conversion"


def test_a_photo_that_is_not_decoded_here_is_told(file: ModelFile) -> None:
    (failure,) = check_goldens(Classifier(spoil(file, 2, png=b"\x89PNG\r\n\x1a\n" + bytes(40))))
    assert failure.startswith("golden-2.png: the file is damaged")
