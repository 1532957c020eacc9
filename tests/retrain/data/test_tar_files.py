"""Photos in tar files of WebDataset's layout, and what tar files may also hold."""

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from deploy.errors import BadData
from retrain.data import store
from retrain.data.dataset import Dataset
from retrain.data.photo import BadPhoto
from retrain.data.source import read_photos
from tests.helpers.photo_folders import put
from tests.helpers.photo_sources import rows_of, tar_of, web_dataset

Members = list[tuple[str, bytes]]


@pytest.fixture
def members(root: Path) -> Members:
    """Return a cat and a dog, each with its label."""
    cat, dog = (path.read_bytes() for path, _ in rows_of(root))
    return [("1.png", cat), ("1.cls", b"cat\n"), ("2.json", b'{"label": "dog"}'), ("2.png", dog)]


def read(place: Path, members: Members) -> Dataset:
    (place / "x.tar").write_bytes(tar_of(members))
    return read_photos(place / "x.tar")


def bad_reasons(dataset: Dataset) -> list[tuple[str, str]]:
    return [(item.path.name, item.reason) for item in dataset.bad]


def test_a_number_is_the_label_of_its_digits(root: Path, tmp_path: Path) -> None:
    cat, dog = (path.read_bytes() for path, _ in rows_of(root))
    members = [("1.png", cat), ("1.cls", b"7"), ("2.png", dog), ("2.json", b'{"label": 12}')]
    assert read(tmp_path, members).labels == ("12", "7")


def test_other_members_are_passed_over(tmp_path: Path, members: Members) -> None:
    more = [("1.txt", b"a cat"), ("._1.png", b"\x89PNG\r\n\x1a\n"), ("__MACOSX/1.png", b"x")]
    dataset = read(tmp_path, [*members[:2], *more, *members[2:]])
    assert (len(dataset.photos), dataset.bad) == (2, ())


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (("3.cls", b" \n"), "its label is empty"),
        (("3.cls", b"caf\xe9"), "its label is not UTF-8"),
        (("3.cls", b"a\0b"), "label 'a\\x00b' holds a control character or an invisible one"),
        (("3.json", b"{"), "it has no label: no 3.cls, and no 3.json with `label`, is beside it"),
        (("3.json", b"[]"), "it has no label: no 3.cls, and no 3.json with `label`, is beside it"),
        (("3.json", b'{"class": 1}'), "it has no label: no 3.cls, and no 3.json with `label`, is"),
        (("3.json", b'{"label": true}'), "its label is neither text nor a whole number"),
        (("3.json", b'{"label": 1.5}'), "its label is neither text nor a whole number"),
        (("4.cls", b"dog"), "it has no label: no 3.cls, and no 3.json with `label`, is beside it"),
    ],
)
def test_a_photo_without_a_label_has_its_reason(
    tmp_path: Path, root: Path, members: Members, label: tuple[str, bytes], reason: str
) -> None:
    photo = put(root / "3.png", 3).read_bytes()
    dataset = read(tmp_path, [*members, ("3.png", photo), label])
    ((name, actual),) = bad_reasons(dataset)
    assert name == "3.png"
    assert actual.startswith(reason)
    assert len(dataset.photos) == 2


def test_many_labels_of_one_photo_are_not_held_in_memory(root: Path, tmp_path: Path) -> None:
    cat, dog = (path.read_bytes() for path, _ in rows_of(root))
    labels = [("1.cls", b" " * 1_000_000 + b"dog")] * 60 + [("1.cls", b"cat")]
    members = [*labels, ("1.png", cat), ("2.png", dog), ("2.cls", b"dog")]
    (tmp_path / "x.tar").write_bytes(tar_of(members))
    tracemalloc.start()
    dataset = read_photos(tmp_path / "x.tar")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert [photo.label for photo in dataset.photos] == ["cat", "dog"]


def test_what_claims_to_be_a_photo_and_is_none_has_its_reason(
    tmp_path: Path, members: Members
) -> None:
    more = [("3.jpg", b"hello"), ("3.cls", b"cat"), ("4.jpg", b""), ("4.cls", b"cat")]
    dataset = read(tmp_path, [*members, *more])
    (first, second) = bad_reasons(dataset)
    assert first[0] == "3.jpg"
    assert first[1].startswith("not a photo: its content is none of")
    assert second == ("4.jpg", "the file is empty")
    assert [item.label for item in dataset.bad] == ["cat", "cat"]


@pytest.mark.parametrize("cut", [0, 100, 700, 1100])
def test_a_tar_file_that_is_cut_off_gives_its_whole_members(
    tmp_path: Path, root: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LONGEST_TICK_NS", -(10**12))
    for number in range(3, 9):
        put(root / ("cat", "dog")[number % 2] / f"{number}.png", number)
    rows = [
        (path, label)
        for number in range(3, 9)
        for path, label in rows_of(root)
        if path.name == f"{number}.png"
    ]
    content = web_dataset(rows)
    whole = 2048 * 4
    (tmp_path / "x.tar").write_bytes(content[: whole + cut])
    dataset = [read_photos(tmp_path / "x.tar", None, tmp_path / "scans") for _ in range(2)][1]
    assert len(dataset.photos) == 4
    last = dataset.bad[-1]
    assert last.path == tmp_path / "x.tar"
    assert last.reason.startswith("not a whole tar file (")
    assert last.reason.endswith("what follows the damage is left out")


def test_a_cut_off_tar_file_of_one_label_is_named_as_such(tmp_path: Path, root: Path) -> None:
    content = web_dataset([(root / "cat/1.png", "cat"), (root / "dog/2.png", "dog")])
    (tmp_path / "x.tar").write_bytes(content[: 2048 + 600])
    with pytest.raises(BadData, match=r"one label \(cat\) \(x\.tar: not a whole tar file"):
        read_photos(tmp_path / "x.tar")


def test_a_pipe_is_no_tar_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(BadData, match="it is not a file"):
        read_photos(tmp_path / "x.tar")


def gzipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        info = tarfile.TarInfo("1.png")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a whole tar file (empty file)"),
        (b"hello" * 1000, "not a whole tar file ("),
        (gzipped(b"photo"), "not a whole tar file ("),
        (tar_of([]), "no row has a label"),
        (
            tar_of([("cat/1.png", b"\x89PNG\r\n\x1a\n"), ("dog/2.png", b"\x89PNG\r\n\x1a\n")]),
            "no row has a label (1.png: it has no label: no 1.cls, and no 1.json",
        ),
    ],
    ids=["empty", "text", "compressed", "no members", "folders of classes"],
)
def test_what_is_no_tar_file_of_photos_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(BadData) as error:
        read_photos(tmp_path / "x.tar")
    assert words in str(error.value)
    assert str(tmp_path / "x.tar") in str(error.value)


def test_a_tar_file_that_is_not_there_is_a_row(tmp_path: Path, members: Members) -> None:
    read(tmp_path, members)
    dataset = read_photos(tmp_path / "{x,y}.tar")
    assert len(dataset.photos) == 2
    assert dataset.bad == (
        BadPhoto(tmp_path / "y.tar", "cannot be read (No such file or directory)"),
    )


def test_long_names_and_links_of_tar_are_read(tmp_path: Path, members: Members) -> None:
    key = "ż" * 90 + "/" + "n" * 90
    cat, dog = members[0][1], members[3][1]
    dataset = read(
        tmp_path,
        [(f"{key}.png", cat), (f"{key}.cls", b"cat"), ("2.png", dog), ("2.cls", b"dog")],
    )
    assert [photo.path.name for photo in dataset.photos] == ["n" * 90 + ".png", "2.png"]
    assert [photo.read() for photo in dataset.photos] == [cat, dog]
