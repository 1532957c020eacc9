"""A folder of photos, as users really have them."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from deploy.errors import BadData
from deploy.image import FORMATS
from retrain.data.photo_folder import scan
from tests.helpers.photo_folders import names, put, reasons

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's file names or /proc")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("name", ["x.dat", "x", "x.txt", "x.JPG"])
def test_a_photo_is_known_by_its_content(root: Path, form: str, name: str) -> None:
    put(root / "cat" / name, 3, form)
    dataset = scan(root)
    assert f"cat/{name}" in names(dataset)
    assert dataset.bad == ()


def test_files_that_claim_to_be_photos_are_listed_with_a_reason(root: Path) -> None:
    (root / "cat" / "text.jpg").write_text("hello")
    (root / "cat" / "empty.jpg").touch()
    (root / "cat" / "phone.CR3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\0")
    (root / "cat" / "game.tga").write_bytes(bytes(100))
    (root / "cat" / "gone.png").symlink_to(root / "nowhere")
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "dog/2.png"]
    assert reasons(dataset) == {
        "text.jpg": f"not a photo: its content is none of {', '.join(FORMATS)}",
        "empty.jpg": "the file is empty",
        "phone.CR3": "camera raw file: develop it to JPEG, PNG or TIFF",
        "game.tga": "TGA file: convert it to JPEG or PNG",
        "gone.png": "a link to nothing",
    }


def test_other_files_are_passed_over_in_silence(root: Path) -> None:
    for name in ("notes.txt", "boxes.xml", "BMW.txt"):
        (root / "cat" / name).write_text("BMW and other notes")
    os.mkfifo(root / "cat" / "pipe.jpg")
    assert scan(root).bad == ()


@linux
def test_a_file_that_cannot_be_read_is_listed(root: Path) -> None:
    # Reading it fails for root as well.
    (root / "cat" / "memory.jpg").symlink_to("/proc/self/mem")
    assert reasons(scan(root)) == {"memory.jpg": "cannot be read (Input/output error)"}


def test_a_file_without_permission_is_listed(root: Path) -> None:
    path = put(root / "cat" / "mine.png", 3)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("permissions do not hold back root")
    assert reasons(scan(root)) == {"mine.png": "cannot be read (Permission denied)"}


def test_a_huge_file_is_not_read(root: Path) -> None:
    with (root / "cat" / "disk.jpg").open("wb") as stream:
        stream.truncate(300 * 1024**2)
    assert reasons(scan(root)) == {"disk.jpg": "larger than 256 MB"}


def test_nested_folders_belong_to_their_class(root: Path) -> None:
    put(root / "cat" / "more" / "of them" / "3.png", 3)
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "cat/more/of them/3.png", "dog/2.png"]
    assert [photo.label for photo in dataset.photos] == ["cat", "cat", "dog"]


def test_hidden_files_and_folders_are_skipped(root: Path) -> None:
    put(root / ".ipynb_checkpoints" / "1.png", 10)
    put(root / "__MACOSX" / "1.png", 11)
    put(root / "cat" / ".ipynb_checkpoints" / "1.png", 12)
    put(root / "cat" / "._1.jpg", 13)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "cat" / name).touch()
    put(root / "loose.png", 14)
    dataset = scan(root)
    assert dataset.labels == ("cat", "dog")
    assert names(dataset) == ["cat/1.png", "dog/2.png"]
    assert dataset.bad == ()


def test_labels_are_folder_names_in_order(root: Path) -> None:
    put(root / "żółw ☀, 2" / "3.png", 3)
    put(root / "Ape" / "4.png", 4)
    assert scan(root).labels == ("Ape", "cat", "dog", "żółw ☀, 2")


def test_link_loops_end_and_links_are_followed(root: Path) -> None:
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "dog" / "self.png").symlink_to(root / "dog" / "self.png")
    (root / "dog" / "linked").symlink_to(put(root / ".elsewhere" / "3.png", 3).parent)
    (root / "owl").symlink_to(put(root / ".owls" / "4.png", 4).parent)
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "dog/2.png", "dog/linked/3.png", "owl/4.png"]
    assert not dataset.copies
    assert reasons(dataset) == {"self.png": "a link to nothing"}


def test_exact_copies_count_once(root: Path) -> None:
    put(root / "cat" / "copy.png", 1)
    put(root / "cat" / "other" / "copy.png", 1)
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "dog/2.png"]
    assert len(dataset.copies) == 2
    assert "2 exact copies of other photos are passed over" in dataset.warnings()


def test_a_photo_in_two_classes_is_left_out_of_both(root: Path) -> None:
    put(root / "cat" / "same.png", 3)
    put(root / "dog" / "again.png", 3)
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "dog/2.png"]
    reason = "the same photo is in 2 classes: cat, dog"
    assert reasons(dataset) == {"same.png": reason, "again.png": reason}


def test_few_photos_are_a_warning(root: Path) -> None:
    for i in range(19):
        put(root / "cat" / f"more{i}.png", 100 + i)
    for i in range(18):
        put(root / "dog" / f"more{i}.png", 200 + i)
    warnings = scan(root).warnings()
    assert len(warnings) == 1
    assert warnings[0].startswith("only 19 photos of dog: with fewer than 20")


def empty(root: Path) -> str:
    (root / "owl").mkdir()
    return f"no usable photos under {root / 'owl'}: expected one folder per label"


def only_bad(root: Path) -> str:
    (root / "owl").mkdir()
    (root / "owl" / "x.jpg").write_text("text")
    return f"no usable photos under {root / 'owl'} (x.jpg: not a photo"


def only_ambiguous(root: Path) -> str:
    put(root / "owl" / "x.png", 3)
    put(root / "dog" / "x.png", 3)
    return f"no usable photos under {root / 'owl'} (x.png: the same photo is in 2 classes: dog, owl"


def one_class(root: Path) -> str:
    (root / "dog").rename(root / ".dog")
    return f"{root}: one class (cat): expected one folder per label"


def no_class(root: Path) -> str:
    for name in ("cat", "dog"):
        (root / name).rename(root / f".{name}")
    return f"{root}: no sub-folder: expected one folder per label"


def missing(root: Path) -> str:
    root.rename(root.with_name("moved"))
    return f"{root}: no such folder: expected one holding a sub-folder for each class"


def line_break(root: Path) -> str:
    (root / "cat").rename(root / "c\nat")
    return (
        f"{root}: label 'c\\nat' holds a control character or an invisible one: rename the folder"
    )


@pytest.mark.parametrize(
    "spoil", [empty, only_bad, only_ambiguous, one_class, no_class, missing, line_break]
)
def test_what_cannot_be_trained_on_is_named_with_a_remedy(root: Path, spoil: object) -> None:
    assert callable(spoil)
    words = spoil(root)
    with pytest.raises(BadData) as error:
        scan(root)
    assert words in str(error.value)


@linux
def test_a_label_that_is_not_utf8_is_refused(root: Path) -> None:
    (root / "cat").rename(os.fsdecode(os.fsencode(root) + b"/caf\xe9"))
    with pytest.raises(BadData, match="not UTF-8: rename it"):
        scan(root)


def test_the_digest_hangs_on_contents_and_labels_alone(root: Path) -> None:
    before = scan(root).sha256
    (root / "cat" / "1.png").rename(root / "cat" / "z.dat")
    moved = root.rename(root.with_name("moved"))
    assert scan(moved).sha256 == before
    (moved / "cat").rename(moved / "lion")
    relabelled = scan(moved).sha256
    put(moved / "lion" / "3.png", 3)
    assert len({before, relabelled, scan(moved).sha256}) == 3


def test_a_photo_notices_that_it_changed(root: Path) -> None:
    photo = scan(root).photos[0]
    assert hashlib.sha256(photo.read()).digest() == photo.digest
    put(Path(photo.path), 9)
    with pytest.raises(BadData, match=r"1\.png: changed since training: train again"):
        photo.read()
    Path(photo.path).unlink()
    with pytest.raises(BadData, match=r"1\.png: cannot be read \(No such file"):
        photo.read()
