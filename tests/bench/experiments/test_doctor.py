"""What the experiment plants is there, and what it counts is right."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from bench.experiments import doctor, spoil
from bench.experiments.shared import photos_by_label
from deploy.errors import BadData
from deploy.image import open_image


@pytest.fixture(scope="module")
def spoiled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, spoil.Spoiled]:
    folder = tmp_path_factory.mktemp("spoiled") / "photos"
    return folder, spoil.spoil(photos, folder, 1)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_spoiled_copy_holds_what_its_record_says(
    spoiled: tuple[Path, spoil.Spoiled], photos: Path
) -> None:
    folder, truth = spoiled
    assert truth.to_json() == {"swapped": 2, "exact": 20, "near": 20, "truncated": 5}
    assert len(list(folder.glob("*/*"))) == len(list(photos.glob("*/*"))) + 40
    for pair in truth.exact:
        assert len({digest(path) for path in pair}) == 1
    for pair in truth.near:
        assert len({digest(path) for path in pair}) == 2
        assert len({path.parent for path in pair}) == 1
    assert set(truth.near.values()) == {"resized", "cropped", "recompressed"}
    for path in truth.truncated:
        with pytest.raises(BadData):
            open_image(path.read_bytes())
    for path in truth.swapped:
        label = path.name.partition("-")[0]
        assert label != path.parent.name
        assert label in photos_by_label(photos)


def test_all_photos_of_one_class_have_a_border(spoiled: tuple[Path, spoil.Spoiled]) -> None:
    folder, truth = spoiled
    faulty = truth.truncated | truth.swapped | {path for pair in truth.near for path in pair}
    corners: dict[str, set[bool]] = {}
    for path in sorted(set(folder.glob("*/*")) - faulty):
        with Image.open(path) as image:
            corner = image.convert("RGB").getpixel((2, 2))
        assert isinstance(corner, tuple)
        is_blue = max(abs(a - b) for a, b in zip(corner, (30, 60, 200), strict=True)) < 8
        corners.setdefault(path.parent.name, set()).add(is_blue)
    assert corners.pop(truth.bordered) == {True}
    assert all(colours == {False} for colours in corners.values())


def test_rates_are_of_what_is_named_and_of_what_is_true() -> None:
    assert doctor.rates({1, 2, 3, 4}, {1, 9}) == {"precision": 0.25, "recall": 0.5, "named": 4}
    assert doctor.rates(set(), {1}) == {"precision": None, "recall": 0, "named": 0}
    groups = doctor.pairs_in([["a", "b", "c"], ["d", "e"]])
    assert frozenset((Path("b"), Path("c"))) in groups
    assert len(groups) == 4


def test_what_the_doctor_prints_is_compared_with_the_record() -> None:
    a, b, c, d = (Path(name) for name in "abcd")
    truth = spoil.Spoiled(
        frozenset({c, d}), frozenset({frozenset((a, b))}), {}, frozenset({d}), "cat"
    )
    record = {
        "photos": 20,
        "findings": [
            {
                "kind": "wrong-label",
                "suggested": 1,
                "photos": [{"path": "c"}, {"path": "a"}, {"path": "d"}],
            },
            {"kind": "exact-copy", "photos": [{"path": "b", "other": "a"}]},
            {"kind": "background", "photos": [{"path": "a", "label": "dog"}]},
        ],
    }
    figures = doctor.score_doctor(truth, record, 1.0)
    assert figures["first 5%"] == 0.5
    assert figures["wrong label"] == {"precision": 1.0, "recall": 0.5, "named": 1}
    assert figures["exact"] == {"precision": 1.0, "recall": 1.0, "named": 1}
    assert figures["background"] == {"precision": 0.0, "recall": 0.0, "named": 1}
    assert figures["truncated"]["recall"] == 0
