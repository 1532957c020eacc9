"""Files that a scan leaves out are named: those beside class folders, and those of systems."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy.errors import BadData
from deploy.user_files import is_user_file, walk
from retrain.data.photo_folder import scan
from tests.helpers.deploy_fixtures import forbid
from tests.helpers.photo_folders import names, put, reasons

SYSTEM_FOLDERS = {
    "@eaDir": "Synology",
    "#recycle": "Synology",
    "@SynoResource": "Synology",
    "IMG_1.jpg@SynoEAStream": "Synology",
    "@Recycle": "QNAP",
    ".@__thumb": "QNAP",
    "lost+found": "Linux",
    ".Trash-1000": "Linux",
    "$RECYCLE.BIN": "Windows",
    "System Volume Information": "Windows",
    "FOUND.000": "Windows",
    "__MACOSX": "macOS",
    "Photo Booth Library": "macOS",
    ".thumbnails": "Android",
    "THMBNL": "a camera",
    "Flowers Previews.lrdata": "Lightroom",
    ".picasaoriginals": "Picasa",
    ".dtrash": "digiKam",
    "darktable_exported": "darktable",
    "CaptureOne": "Capture One",
    ".ipynb_checkpoints": "hidden",
}


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_systems_are_left_out_at_every_level_and_counted(root: Path, name: str) -> None:
    put(root / name / "a" / "3.png", 3)
    put(root / "cat" / "more" / name / "4.png", 4)
    put(root / "cat" / "more" / name.upper() / "5.png", 4)
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "dog/2.png"]
    (line,) = [line for line in dataset.warnings() if "left out" in line]
    assert line.startswith("3 photos are left out")
    assert SYSTEM_FOLDERS[name] in line
    assert name in line


def test_files_of_systems_are_left_out(root: Path) -> None:
    for name in ("._1.jpg", "MVI_1.THM", "SYNOPHOTO_THUMB_M.jpg"):
        put(root / "cat" / name, 3)
    for name in ("Thumbs.db", "ehthumbs.db", "desktop.ini", ".DS_Store"):
        (root / "cat" / name).touch()
    dataset = scan(root)
    assert names(dataset) == ["cat/1.png", "dog/2.png"]
    lines = [line for line in dataset.warnings() if "left out" in line]
    assert [line.split(":")[0] for line in lines] == [
        "1 photo is left out, put there by a Synology NAS (SYNOPHOTO_THUMB_M.jpg)",
        "1 photo is left out, put there by a camera (MVI_1.THM)",
        "1 photo is left out, put there by macOS (._1.jpg)",
    ]


def test_photos_that_are_only_in_icloud_are_counted(root: Path) -> None:
    for name in ("cat/.IMG_1.HEIC.icloud", "cat/.IMG_2.jpg.icloud", ".owl.icloud"):
        (root / name).write_bytes(b"bplist00")
    (line,) = [line for line in scan(root).warnings() if "iCloud" in line]
    assert line.startswith("3 files are in iCloud and not on this machine (.IMG_1.HEIC.icloud, ")


@pytest.mark.parametrize("name", ["Originals", "Trash", "recycled", "thumbnails", "misc", "backup"])
def test_names_that_a_class_may_have_are_classes(root: Path, name: str) -> None:
    put(root / name / "3.png", 3)
    assert scan(root).labels == tuple(sorted(("cat", "dog", name)))


def test_the_device_leaves_the_same_out(root: Path) -> None:
    for name in SYSTEM_FOLDERS:
        put(root / name / "3.png", 3)
    assert [path.name for path in walk(root)] == ["1.png", "2.png"]
    assert not any(map(is_user_file, SYSTEM_FOLDERS))


def test_loose_photos_are_counted_with_examples(root: Path) -> None:
    for i in range(5):
        put(root / f"{i}.png", 3 + i)
    (root / "README.md").write_text("about")
    (line,) = scan(root).remarks
    assert f"5 photos are directly in {root}" in line
    assert "(0.png, 1.png, 2.png and 2 more)" in line


def test_a_link_to_nothing_is_named(root: Path) -> None:
    (root / "owl").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    loop, owl = scan(root).remarks
    assert f"{root / 'owl'} is left out: a link to nothing ({root / 'nowhere'})" in owl
    assert f"{root / 'loop'} is left out" in loop


@pytest.mark.parametrize(
    "name", ["owl.zip", "owl.tar.gz", "owl.RAR", "owl.tar.zst", "owl.zip.001", "owl.z01", "owl"]
)
def test_an_archive_is_named(root: Path, name: str) -> None:
    with zipfile.ZipFile(root / name, "w") as archive:
        archive.write(root / "cat" / "1.png", "1.png")
    (line,) = scan(root).remarks
    assert f"{root / name} is left out: an archive: unpack it" in line


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_archive_without_a_suffix_is_named_also_if_it_is_cut_off(
    root: Path, mode: str, share: float
) -> None:
    with tarfile.open(root / "owl", mode) as archive:  # type: ignore[call-overload]
        archive.add(root / "cat" / "1.png", "1.png")
    content = (root / "owl").read_bytes()
    (root / "owl").write_bytes(content[: int(share * len(content))])
    (line,) = scan(root).remarks
    assert f"{root / 'owl'} is left out: an archive: unpack it" in line


def test_a_folder_that_cannot_be_opened_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "owl" / "3.png", 3)
    put(root / "cat" / "closed" / "4.png", 4)
    forbid(monkeypatch, "owl", "closed")
    dataset = scan(root)
    assert dataset.labels == ("cat", "dog")
    assert f"{root / 'owl'} is left out: the folder cannot be opened" in dataset.remarks[0]
    assert reasons(dataset) == {"closed": "the folder cannot be opened (Permission denied)"}


def test_the_error_of_a_root_without_classes_names_what_is_there(root: Path) -> None:
    for label in ("cat", "dog"):
        shutil.make_archive(str(root / label), "tar", root / label)
        shutil.rmtree(root / label)
    with pytest.raises(BadData, match=r"no sub-folder(.|\n)*cat\.tar is left out: an archive"):
        scan(root)
