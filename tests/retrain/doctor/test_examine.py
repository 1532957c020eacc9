"""Each fault is found, named with its photo and a reason, and sound photos are not."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import WrongUse
from retrain.bottlenecks import near_duplicates
from retrain.bottlenecks.near_duplicates import Pair
from retrain.data.photo import Photo
from retrain.doctor.examine import CHECKS, examine, load, split_sha256, to_json
from retrain.doctor.finding import Finding, FindingPhoto, name_in
from retrain.progress import Progress
from retrain.settings.doctor import KINDS
from retrain.settings.source import Source
from retrain.settings.training import SplitSettings
from tests.helpers.photos import copy_some
from tests.retrain.doctor.conftest import Examine

QUIET = Progress(verbosity="ERROR")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("unreadable", {"cat/cut.jpg", "cat/text.jpg"}),
        ("unsupported", {"cat/new.jxl"}),
        ("exact-copy", {"cat/z exact.jpg"}),
        ("copy-across-classes", {"cat/both.jpg", "dog/both.jpg", "cat/sound 2.jpg"}),
        ("tiny", {"cat/tiny.png"}),
        ("odd-shape", {"cat/long.jpg"}),
        ("dark", {"cat/dark.jpg"}),
        ("bright", {"cat/bright.jpg"}),
        ("blurred", {"cat/blurred.jpg"}),
        ("low-information", {"cat/empty.jpg"}),
        ("greyscale", {"cat/grey.jpg"}),
        ("turned", {"cat/turned.jpg"}),
    ],
)
def test_a_fault_is_found_in_its_photos_alone(
    findings: Mapping[str, Finding], sick: Path, kind: str, names: set[str]
) -> None:
    named = {str(photo.path.relative_to(sick)) for photo in findings[kind].photos}
    assert named - {"dog/cropped.jpg"} == names
    assert all(photo.label == photo.path.parent.name for photo in findings[kind].photos)
    assert all(photo.reason for photo in findings[kind].photos)


def test_grey_photos_are_counted_by_class(findings: Mapping[str, Finding]) -> None:
    assert findings["greyscale"].reason.startswith("1 of them is of cat")


def test_a_near_copy_is_named_with_its_original(
    findings: Mapping[str, Finding], sick: Path
) -> None:
    """It is in the same split as the original, or in another."""
    copies = [
        photo
        for kind in ("near-copy", "copy-across-splits")
        if kind in findings
        for photo in findings[kind].photos
    ]
    (photo,) = copies
    assert {photo.path, photo.other} == {sick / "cat" / "near.jpg", sick / "cat" / "sound 1.jpg"}


def test_a_file_is_named_from_the_source_on(tmp_path: Path) -> None:
    assert name_in(tmp_path, tmp_path / "cat" / "1.jpg") == "cat/1.jpg"
    assert name_in(tmp_path / "l.csv", tmp_path / "1.jpg") == str(tmp_path / "1.jpg")
    assert name_in(tmp_path / "l.csv", tmp_path / "l.csv") == "l.csv"


def test_the_paths_of_a_record_are_absolute(monkeypatch: pytest.MonkeyPatch, sick: Path) -> None:
    monkeypatch.chdir(sick)
    photo = FindingPhoto(Path("cat/near.jpg"), "cat", "a copy", Path("cat/sound 1.jpg"))
    record = photo.to_json()
    assert record["path"] == str(sick / "cat" / "near.jpg")
    assert record["other"] == str(sick / "cat" / "sound 1.jpg")


def test_too_many_photos_are_refused(sick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrain.doctor.examine.MAX_EXAMINED", 3)
    with pytest.raises(WrongUse, match="at most 3 are examined: name a folder"):
        load(Source(sick), SplitSettings(), QUIET)


def test_what_should_be_set_aside_has_a_command(
    findings: Mapping[str, Finding], sick: Path, cache_dir: Path
) -> None:
    finding = findings["exact-copy"]
    assert finding.suggested == 1
    assert finding.command == (
        f"retrain doctor {sick} --cache-dir {cache_dir} --kind exact-copy "
        f"--quarantine {sick}-quarantine"
    )
    assert findings["dark"].command is None


def test_a_photo_is_no_copy_of_a_link_to_it(
    photos: Path, tmp_path: Path, examine_folder: Examine
) -> None:
    copy_some(photos, tmp_path, 5, 5)
    circles = tmp_path / "circles"
    (circles / "00.jpg").rename(circles / "real.jpg")
    (circles / "00.jpg").symlink_to("real.jpg")
    shutil.copy(circles / "real.jpg", circles / "copy.jpg")
    (photo,) = examine_folder(tmp_path)["exact-copy"].photos
    assert photo.path == circles / "copy.jpg"


def test_findings_are_in_the_order_of_their_kinds(findings: Mapping[str, Finding]) -> None:
    assert [kind for kind in KINDS if kind in findings] == list(findings)


def test_a_near_copy_in_two_classes_is_a_wrong_label_and_gains_as_one(
    findings: Mapping[str, Finding], sick: Path, cache_dir: Path
) -> None:
    data = load(Source(sick, cache_dir=cache_dir), SplitSettings(), QUIET)
    expected = 100 / len(data.dataset.photos)
    assert findings["copy-across-classes"].gain == pytest.approx(expected)
    assert findings["exact-copy"].gain is None


def test_every_kind_of_a_check_is_listed_once() -> None:
    kinds = [kind for check in CHECKS for kind in check.kinds]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) <= set(KINDS)


def test_near_copies_are_searched_for_once(
    sick: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    search = near_duplicates.find

    def count(photos: Sequence[Photo], *rest: Any) -> list[Pair]:
        calls.append(len(photos))
        return search(photos, *rest)

    monkeypatch.setattr(near_duplicates, "find", count)
    source = Source(sick, cache_dir=cache_dir)
    data = load(source, SplitSettings(), QUIET)
    examine(data, source, QUIET, ["near-copy", "background"])
    assert calls == [len(data.dataset.photos)]
    examine(data, source, QUIET, ["tiny"])
    assert len(calls) == 1


def test_one_kind_may_be_looked_for(sick: Path, cache_dir: Path) -> None:
    source = Source(sick, cache_dir=cache_dir)
    data = load(source, SplitSettings(), QUIET)
    (finding,) = examine(data, source, QUIET, ["tiny"], ["run"])
    assert finding.kind == "tiny"
    record = to_json(data, [finding])
    assert record["findings"][0]["photos"][0]["path"] == str(sick / "cat" / "tiny.png")
    assert record["photos"] == len(data.dataset.photos)
    digests = [photo.digest for photo in data.dataset.photos]
    assert record["split_sha256"] == split_sha256(digests, data.splits)
    assert record["split_sha256"] != split_sha256(digests, data.splits[::-1])
