"""Archives of a sample that are hostile or damaged: nothing but plain photos is unpacked."""

import os
import tarfile
from pathlib import Path

import pytest

from deploy.errors import BadData
from retrain.data import sample_datasets
from retrain.progress import Progress
from tests.helpers.archive_fixtures import named, tgz

PHOTO = (named("top/a/1.jpg"), b"photo")


@pytest.mark.parametrize(
    ("member", "data"),
    [
        (named("top/a/link", tarfile.SYMTYPE, "/"), b""),
        (named("top/a/link", tarfile.LNKTYPE, "top/a/1.jpg"), b""),
        (named("top/a/pipe", tarfile.FIFOTYPE), b""),
        (named("top/a/disk", tarfile.BLKTYPE), b""),
        (named("top/a/tty", tarfile.CHRTYPE), b""),
        (named("top/a/sparse", tarfile.GNUTYPE_SPARSE), b""),
        (named("/top/a/absolute"), b"x"),
        (named("top/../../out"), b"x"),
        (named("top/a/../../../out", tarfile.DIRTYPE), b""),
        (named("top/..\\..\\out"), b"x"),
        (named("top/C:out"), b"x"),
        (named("second/a/2.jpg"), b"x"),
        (named("top"), b"x"),
        (named("top/a/1.jpg"), b"twice"),
        (named("top/a/1.jpg/inside"), b"x"),
        (named("top/a/1.jpg/b/inside"), b"x"),
        (named("top/a/1.jpg", tarfile.DIRTYPE), b""),
        (named("top/a/large"), bytes(2_000)),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_member_that_is_no_plain_photo_is_refused(
    tmp_path: Path, member: tarfile.TarInfo, data: bytes
) -> None:
    archive, folder = tmp_path / "bad.tgz", tmp_path / "work" / "photos"
    tgz(archive, PHOTO, (member, data))

    def fill(unfinished: Path, _: Progress) -> None:
        sample_datasets.unpack(archive, unfinished, size=1_500)

    with pytest.raises(BadData) as raised:
        sample_datasets.put(sample_datasets.Sample("flowers", "", "", fill), folder, Progress())
    assert f"{archive}: member {member.name!r}: " in str(raised.value)
    assert list(folder.parent.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"bad.tgz", "work"}


def test_absolute_path_is_refused_even_alone(tmp_path: Path) -> None:
    archive = tmp_path / "absolute.tgz"
    tgz(archive, (named("/top/1.jpg"), b"x"))
    with pytest.raises(BadData, match="lead out"):
        sample_datasets.unpack(archive, tmp_path / "out")


def test_bounds_count_members_and_stop_at_the_limit(tmp_path: Path) -> None:
    archive = tmp_path / "many.tgz"
    tgz(archive, PHOTO, (named("top/a/2.jpg"), bytes(5_000_000)), (named("top/a/3.jpg"), b"x"))
    sample_datasets.unpack(archive, tmp_path / "fits", members=3, size=5_000_006)
    with pytest.raises(BadData, match=r"3\.jpg': more than 2 members"):
        sample_datasets.unpack(archive, tmp_path / "few", members=2)
    with pytest.raises(BadData, match=r"2\.jpg': more than 3,000,000 bytes"):
        sample_datasets.unpack(archive, tmp_path / "small", size=3_000_000)
    assert (tmp_path / "small" / "a" / "2.jpg").stat().st_size <= 3_000_000


@pytest.mark.parametrize("damage", ["empty", "short", "half", "overwritten"])
def test_damaged_archive_is_bad_data(tmp_path: Path, damage: str) -> None:
    archive = tmp_path / "bad.tgz"
    data = tgz(archive, (named("top/a/1.jpg"), os.urandom(200_000)))
    half = len(data) // 2
    # Noise is stored in blocks of at most 64 KiB, and 0xff begins none.
    cut = {"empty": b"", "short": data[:5], "half": data[:half]}
    archive.write_bytes(cut.get(damage, data[:half] + b"\xff" * half))
    with pytest.raises(BadData, match=r"bad\.tgz: .*run this again"):
        sample_datasets.unpack(archive, tmp_path / "out")
