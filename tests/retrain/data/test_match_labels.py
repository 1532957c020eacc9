"""Folders of photos get the labels that TensorFlow's retrain.py gave them."""

import shutil
from pathlib import Path

import pytest

from deploy.errors import BadData
from retrain.data.match_labels import match_labels
from retrain.data.photo_folder import scan
from tests.helpers.photos import LABELS


def test_folders_have_the_labels_that_the_script_gave_them(photos: Path, tmp_path: Path) -> None:
    for name, folder in zip(("Red", "BLUE_", "none"), LABELS, strict=True):
        shutil.copytree(photos / folder, tmp_path / name)
    copy = next((tmp_path / "Red").iterdir())
    shutil.copy(copy, copy.with_stem("copy"))
    labels = ("blue", "dark green", "red")
    dataset, warnings = match_labels(scan(tmp_path), labels, "labels.txt")
    assert dataset.labels == ("blue", "red")
    assert {photo.path.parent.name: photo.label for photo in dataset.photos} == {
        "Red": "red",
        "BLUE_": "blue",
    }
    assert [copy.photo.label for copy in dataset.copies] == ["red"]
    assert f"{tmp_path}: no label of labels.txt is like the class none: 24 photos" in warnings[0]
    assert "dark green" in warnings[1]
    with pytest.raises(BadData, match=r"no class has a label of labels\.txt"):
        match_labels(scan(tmp_path), ("x", "y"), "labels.txt")
