"""A folder, a tar file and a list agree on which odd files are photos, and why others are not."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.image import FORMATS
from retrain.data import listed, scan, tar_files
from retrain.data.source import read_photos
from tests.helpers.photo_folders import put
from tests.helpers.photo_sources import rows_of, write_csv

NO_PHOTO = f"not a photo: its content is none of {', '.join(FORMATS)}"
EMPTY, LARGE = "the file is empty", "larger than 256 MB"
PHOTO = None
SILENT = ""
LINK = "a link to nothing"
LINK_IN_TAR = "a link, and links in tar files are not followed"
LIMIT = 10_000
"""Bytes of the largest photo, here."""


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def link(path: Path) -> None:
    path.symlink_to("nowhere.jpg")


def large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(LIMIT + 1)


def photo(path: Path) -> None:
    put(path.parent / "a.png", 3).rename(path)


def large_photo(path: Path) -> None:
    photo(path)
    os.truncate(path, LIMIT + 1)


@pytest.mark.parametrize(
    ("name", "make", "in_folder_and_tar", "in_list"),
    [
        ("photo", photo, PHOTO, PHOTO),
        ("photo.txt", photo, PHOTO, PHOTO),
        ("empty.jpg", holding(b""), EMPTY, EMPTY),
        ("notes.txt", holding(b""), SILENT, EMPTY),
        ("README", holding(b""), SILENT, EMPTY),
        ("text.jpg", holding(b"hello"), NO_PHOTO, NO_PHOTO),
        ("words.txt", holding(b"hello"), SILENT, NO_PHOTO),
        ("LICENSE", holding(b"hello"), SILENT, NO_PHOTO),
        ("more.zip", holding(b"PK\3\4"), SILENT, NO_PHOTO),
        ("Thumbs.db", photo, SILENT, PHOTO),
        (".DS_Store", holding(b"\0\0\0\1Bud1"), SILENT, NO_PHOTO),
        ("._photo.jpg", photo, SILENT, PHOTO),
        ("__MACOSX/photo.jpg", photo, SILENT, PHOTO),
        ("x.jpg/", Path.mkdir, SILENT, "not a file"),
        ("link.jpg", link, LINK, LINK),
        ("link.txt", link, SILENT, LINK),
        ("large.jpg", large, LARGE, LARGE),
        ("large.txt", large, SILENT, LARGE),
        ("large", large_photo, LARGE, LARGE),
    ],
)
def test_the_same_files_are_photos_in_each_source(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    make: Callable[[Path], object],
    in_folder_and_tar: str | None,
    in_list: str | None,
) -> None:
    for module in (listed, scan, tar_files):
        monkeypatch.setattr(module, "MAX_PHOTO_BYTES", LIMIT)
    path = root / "cat" / name
    rows = [*rows_of(root), (path, "cat")]
    path.parent.mkdir(exist_ok=True)
    make(path)
    (tmp_path / "label").mkdir()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number, (each, label) in enumerate(rows):
            key = f"{number}/{each.relative_to(root / label)}"
            tar.add(each, key, recursive=False)
            sidecar = tmp_path / "label" / label
            sidecar.write_text(label)
            tar.add(sidecar, f"{key.partition('.')[0]}.cls")
    write_csv(tmp_path / "x.csv", [{"uri": each, "label": label} for each, label in rows])
    for address, expected in (
        (root, in_folder_and_tar),
        (tmp_path / "x.tar", LINK_IN_TAR if in_folder_and_tar == LINK else in_folder_and_tar),
        (tmp_path / "x.csv", in_list),
    ):
        dataset = read_photos(address)
        assert len(dataset.photos) == 2 + (expected is PHOTO), address
        assert [bad.reason for bad in dataset.bad] == [expected] * bool(expected), address
