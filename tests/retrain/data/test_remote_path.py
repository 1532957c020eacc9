"""Places of photos: a text and back, the parts of a name, one read of a member of a tar file."""

import copy
import os
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from deploy.errors import BadData
from retrain.data.photo import Photo, shown
from retrain.data.remote_path import RemotePath, photo_path

URL = "s3://bucket/a folder/b.JPG"
MEMBER = "s3://bucket/x.tar#a/1.tar.jpg?bytes=512-900"


@pytest.mark.parametrize("text", [URL, MEMBER, "https://host/1.jpg?token=a/b", "hf://datasets/a/b"])
def test_a_url_is_its_text_everywhere(text: str) -> None:
    place = photo_path(text)
    assert isinstance(place, RemotePath)
    assert str(place) == os.fspath(place) == shown(place) == place.as_uri() == text
    assert place.absolute() == photo_path(place) == copy.deepcopy(place)
    assert len({place, photo_path(text)}) == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("/a/b.jpg#c?bytes=1-2", "/a/b.jpg#c?bytes=1-2"),
        ("file:///a/b.jpg", "/a/b.jpg"),
        ("a:/b.jpg", "a:/b.jpg"),
    ],
)
def test_all_else_is_a_path(text: str, path: str) -> None:
    assert photo_path(text) == Path(path)


def test_a_name_is_that_of_the_file_or_of_the_member() -> None:
    names = {text: photo_path(text) for text in (URL, MEMBER, "https://host/a/1.jpg?token=a/b.png")}
    assert [(place.name, place.stem, place.suffix) for place in names.values()] == [
        ("b.JPG", "b", ".JPG"),
        ("1.tar.jpg", "1.tar", ".jpg"),
        ("1.jpg", "1", ".jpg"),
    ]


def test_what_is_above_ends_with_the_bucket() -> None:
    assert list(map(str, photo_path(URL).parents)) == ["s3://bucket/a folder", "s3://bucket"]
    assert list(map(str, photo_path(MEMBER).parents)) == ["s3://bucket/x.tar", "s3://bucket"]


def test_a_name_below_a_folder_or_a_tar_file_has_no_bytes() -> None:
    place = RemotePath(MEMBER)
    assert place.relative_to(RemotePath("s3://bucket")) == Path("x.tar#a/1.tar.jpg")
    assert place.relative_to(RemotePath("s3://bucket/x.tar")) == Path("a/1.tar.jpg")
    assert not place.is_relative_to(RemotePath("s3://buck"))
    with pytest.raises(ValueError, match="not below"):
        place.relative_to(RemotePath("s3://other"))
    local = RemotePath.of_member(Path("/f/x.tar"), "1.jpg", 0, 1)
    assert local.relative_to(Path("/f/x.tar")) == Path("1.jpg")
    assert local.relative_to(Path("/f")) == Path("x.tar#1.jpg")


def test_places_are_sorted_by_their_text_among_paths_too() -> None:
    places: list[Any] = [RemotePath("s3://b"), Path("/z"), RemotePath("s3://a"), Path("/a")]
    assert [str(place) for place in sorted(places)] == ["/a", "/z", "s3://a", "s3://b"]


@pytest.mark.parametrize("name", ["1.jpg", "a#b?c.jpg", "100%.jpg", "%23.jpg", "żółw ☀.jpg"])
def test_a_member_of_any_name_is_read_alone(tmp_path: Path, name: str) -> None:
    tar_path = tmp_path / "my tars#1" / "x.tar"
    tar_path.parent.mkdir()
    (tmp_path / "photo").write_bytes(b"photo")
    with tarfile.open(tar_path, "w") as tar:
        tar.add(tmp_path / "photo", "other")
        tar.add(tmp_path / "photo", name)
    with tarfile.open(tar_path) as tar:
        start = tar.getmember(name).offset_data
    place = RemotePath.of_member(tar_path, name, start, start + 5)
    assert place.name == name
    assert place.read_bytes() == b"photo"
    assert place.exists()
    assert (place.look().size, photo_path(str(place))) == (5, place)
    fsspec.filesystem("memory").pipe("/member/x.tar", tar_path.read_bytes())
    remote = RemotePath.of_member(RemotePath("memory://member/x.tar"), name, start, start + 5)
    assert remote.read_bytes() == b"photo"


def test_a_photo_at_a_url_notices_that_it_changed() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/changed/1.jpg", b"new")
    photo = Photo(photo_path("memory://changed/1.jpg"), "a", bytes(32))
    with pytest.raises(BadData, match=r"memory://changed/1\.jpg: changed since training"):
        photo.read()
    memory.rm("/changed/1.jpg")
    assert not photo.path.exists()
    with pytest.raises(BadData, match=r"cannot be read \(No such file"):
        photo.read()
