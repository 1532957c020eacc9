"""The same photos give the same data set as folder, list and tar files, here and in stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.core import url_to_fs

from deploy.errors import BadData, WrongUse
from retrain.data.source import open_source, read_photos
from tests.helpers.photo_folders import put
from tests.helpers.photo_sources import tar_of, write_everywhere
from tests.helpers.stores import BUCKET, s3_server

STORES = ("memory", "s3")
ADDRESSES = (
    "folder",
    "csv",
    "parquet",
    "tars",
    "tars by braces",
    "tars by star",
    *(
        f"{store} {form}"
        for store in STORES
        for form in ("folder", "csv", "tars", "tars by braces", "tars by star")
    ),
)


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the addresses of sources of the same photos."""
    place = tmp_path_factory.mktemp("sources")
    for number in range(12):
        put(place / "photos" / ("cat", "dog", "żółw ☀, 2")[number % 3] / f"{number}.png", number)
    with s3_server():
        yield write_everywhere(
            place / "photos", place / "elsewhere", (f"s3://{BUCKET}/some", "memory://some")
        )


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_source_gives_the_same_data_set(everywhere: dict[str, str], name: str) -> None:
    folder = read_photos(Path(everywhere["folder"]))
    dataset = read_photos(everywhere[name])
    assert dataset.sha256 == folder.sha256
    assert dataset.labels == folder.labels
    assert not dataset.bad
    labels = {photo.digest: photo.label for photo in folder.photos}
    assert {photo.digest: photo.label for photo in dataset.photos} == labels
    assert all(photo.read().startswith(b"\x89PNG") for photo in dataset.photos)


@pytest.mark.parametrize("store", STORES)
def test_an_empty_file_in_a_store_is_judged_as_in_a_folder(
    everywhere: dict[str, str], store: str
) -> None:
    url = everywhere[f"{store} folder"]
    system, path = url_to_fs(url)
    system.pipe_file(f"{path}/cat/notes.txt", b"")
    system.pipe_file(f"{path}/cat/x.png", b"")
    dataset = read_photos(url)
    system.rm([f"{path}/cat/notes.txt", f"{path}/cat/x.png"])
    assert [(bad.path.name, bad.reason) for bad in dataset.bad] == [("x.png", "the file is empty")]


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_second_scan_gives_the_same_photos_in_the_same_order(
    everywhere: dict[str, str], name: str, tmp_path: Path
) -> None:
    first, second = (read_photos(everywhere[name], None, tmp_path) for _ in range(2))
    assert list(first.photos) == list(second.photos) == list(read_photos(everywhere[name]).photos)


def test_the_level_of_class_folders_counts_at_a_url_too(everywhere: dict[str, str]) -> None:
    above = everywhere["memory folder"].removesuffix("/photos")
    dataset = read_photos(above, 2)
    assert dataset.sha256 == read_photos(everywhere["folder"]).sha256
    with pytest.raises(BadData, match="no folders 3 levels below it: lower `labels_from`"):
        read_photos(above, 3)


@pytest.mark.parametrize("name", ["csv", "tars", "memory csv"])
def test_the_level_of_class_folders_is_of_folders_only(
    everywhere: dict[str, str], name: str
) -> None:
    with pytest.raises(WrongUse, match="`labels_from` is for folders"):
        open_source(everywhere[name], 1)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nothing.csv", "no such list of photos"),
        ("nothing.parquet", "no such list of photos"),
        ("nothing.tar", "there is no such tar file"),
        ("nothing-*.tar", "there is no such tar file"),
        ("{000..999999999}.tar", "more than 10,000,000 files"),
        ("nothing", "no such folder"),
        ("notes.txt", "expected a folder with a sub-folder for each class, a list"),
        ("memory://nothing", r"cannot be read \(No such file or directory\)"),
        ("memory://nothing.csv", r"cannot be read .*No such file or directory"),
        ("nowhere://a/photos", r"cannot be read \(Protocol not known: nowhere\)"),
        ("http://127.0.0.1:9/photos.csv", r"cannot be read .*Connect call failed"),
    ],
)
def test_an_address_without_photos_is_bad_data(tmp_path: Path, address: str, words: str) -> None:
    (tmp_path / "notes.txt").touch()
    place = address if "://" in address else tmp_path / address
    with pytest.raises(BadData, match=words) as error:
        read_photos(place)
    assert address in str(error.value)


def test_a_folder_of_classes_may_hold_tar_files_too(root: Path) -> None:
    (root / "backup.tar").write_bytes(tar_of([]))
    dataset = read_photos(root)
    assert dataset.labels == ("cat", "dog")
    assert any("backup.tar is left out: an archive" in line for line in dataset.remarks)
