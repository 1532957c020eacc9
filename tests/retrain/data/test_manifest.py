"""The manifest: what is read is what was written; manifests of earlier versions open for ever."""

import os
from pathlib import Path

import pytest

from deploy.errors import BadData
from retrain.data.manifest import read_manifest, write_manifest
from retrain.data.photo import Photo

BEFORE_ISSUE_16 = Path(__file__).parents[2] / "formats/manifest/before_issue_16/manifest.csv"
PHOTOS = [
    (
        Photo(Path("/photos", os.fsdecode(path)), label, bytes(range(i, i + 32))),
        split,
    )
    for i, (path, label, split) in enumerate(
        (
            (b"/photos/a/plain.jpg", "a", "training"),
            ('żółw ☀/"quoted", and\nbroken.png'.encode(), "żółw ☀", "validation"),
            (b"none/caf\xe9\r.jpg", "none", "testing"),
            (b"testing/4.webp", "testing", "training"),
        )
    )
]
"""Any name serves as path and label, also the name of a split, and bytes that are not UTF-8."""


def test_a_manifest_of_before_issue_16_opens() -> None:
    assert read_manifest(BEFORE_ISSUE_16) == PHOTOS


def test_the_same_bytes_are_written_as_before_issue_16(tmp_path: Path) -> None:
    photos, splits = zip(*PHOTOS, strict=True)
    write_manifest(tmp_path / "manifest.csv", photos, splits)
    assert (tmp_path / "manifest.csv").read_bytes() == BEFORE_ISSUE_16.read_bytes()


def test_a_relative_path_is_written_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_manifest(Path("manifest.csv"), [Photo(Path("a/1.jpg"), "a", bytes(32))], ["training"])
    monkeypatch.chdir("/")
    ((photo, _),) = read_manifest(tmp_path / "manifest.csv")
    assert photo.path == tmp_path / "a/1.jpg"


def test_unknown_columns_are_ignored_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    line = f"7,training,{'00' * 32},cat,/photos/1.jpg,1\n"
    path.write_text(f"weight,split,digest,label,path,min_reader\n{line}")
    assert read_manifest(path) == [(Photo(Path("/photos/1.jpg"), "cat", bytes(32)), "training")]


HEADER = "path,label,digest,split\n"
DIGEST = "00" * 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column path, label, digest, split"),
        ("path,label,split\n", "no column digest"),
        (f"{HEADER}/1.jpg,cat,{DIGEST}\n", "its line is damaged"),
        (f"{HEADER}/1.jpg,cat,{DIGEST},training,more\n", "its line is damaged"),
        (f"{HEADER}/1.jpg,cat,{DIGEST},trainin\n", "its line is damaged"),
        (f"{HEADER}/1.jpg,,{DIGEST},training\n", "its line is damaged"),
        (f"{HEADER},cat,{DIGEST},training\n", "its line is damaged"),
        (f"{HEADER}/1.jpg,cat,{DIGEST[2:]},training\n", "its line is damaged"),
        (f"{HEADER}/1.jpg,cat,warm,training\n", "non-hexadecimal"),
        (
            f"min_reader,{HEADER}2,/1.jpg,cat,{DIGEST},training\n",
            "needs a reader of version 2, and this program reads version 1",
        ),
        (f"min_reader,{HEADER}warm,/1.jpg,cat,{DIGEST},training\n", "'warm'"),
    ],
)
def test_a_damaged_or_newer_manifest_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    with pytest.raises(BadData) as error:
        read_manifest(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_manifest_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"none\.csv: .*No such file.*: train again"):
        read_manifest(tmp_path / "none.csv")
