"""A folder that fills: each photo is taken once, when it is whole, and none is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from deploy.errors import BadData
from deploy.watching import photo_inbox
from deploy.watching.photo_inbox import photos
from tests.helpers.deploy_fixtures import SPEC, encoded, forbid

RED = encoded(Image.new("RGB", (40, 30), (200, 0, 0)), "JPEG")
BLUE = encoded(Image.new("RGB", (30, 40), (0, 0, 200)), "PNG")


class Watcher:
    """Looks at a folder when it is told to, by a clock of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 0.0
        self.read_marks: dict[Path, photo_inbox.Mark] = {}
        self._folder = folder
        monkeypatch.setattr("deploy.watching.photo_inbox.time.monotonic", lambda: self.time)
        monkeypatch.setattr("deploy.watching.photo_inbox.time.sleep", self._sleep)
        self.restart()

    def _sleep(self, seconds: float) -> None:
        self.time += seconds

    def restart(self) -> None:
        """Begin anew, knowing what was read."""
        self._photos: Iterator[tuple[Path, Image.Image | BadData | None]] = photos(
            self._folder, SPEC, self.read_marks
        )

    def look(self) -> list[str]:
        """Return what one look gives: names, those of bad photos with their reason."""
        names: list[str] = []
        for path, image in self._photos:
            if image is None:
                return names
            names.append(str(image) if isinstance(image, BadData) else path.name)
        raise AssertionError("it ended")


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    return Watcher(tmp_path, monkeypatch)


def test_photos_are_taken_once_when_they_did_not_change_between_two_looks(
    watcher: Watcher, tmp_path: Path
) -> None:
    (tmp_path / "there.jpg").write_bytes(RED)
    assert (watcher.look(), watcher.look(), watcher.look()) == ([], ["there.jpg"], [])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "new.png").write_bytes(BLUE)
    assert (watcher.look(), watcher.look(), watcher.look()) == ([], ["new.png"], [])


def test_a_half_written_photo_is_neither_reported_nor_lost(
    watcher: Watcher, tmp_path: Path
) -> None:
    """Whether it grows between any two looks, or stays as it is for some of them."""
    with (tmp_path / "slow.png").open("wb") as stream:
        for start in range(0, len(BLUE), 20):
            assert watcher.look() == watcher.look() == watcher.look() == []
            stream.write(BLUE[start : start + 20])
            stream.flush()
    assert [name for _ in range(9) for name in watcher.look()] == ["slow.png"]


def test_a_photo_that_stays_bad_is_reported_once_and_read_again_when_it_changes(
    watcher: Watcher, tmp_path: Path
) -> None:
    (tmp_path / "cut.jpg").write_bytes(RED[:-99])
    looks = [watcher.look() for _ in range(20)]
    when = next(i for i, names in enumerate(looks) if names)
    assert when * photo_inbox.POLL_S >= photo_inbox.BAD_AFTER_S
    (reason,) = looks[when]
    assert str(tmp_path / "cut.jpg") in reason
    assert "damaged" in reason
    assert not any(looks[when + 1 :])
    (tmp_path / "cut.jpg").write_bytes(RED)
    assert [name for _ in range(9) for name in watcher.look()] == ["cut.jpg"]


def test_a_folder_that_cannot_be_read_is_reported_once(
    watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    forbid(monkeypatch, "locked")
    (tmp_path / "z.jpg").write_bytes(RED)
    names = [name for _ in range(30) for name in watcher.look()]
    assert names == ["z.jpg", f"{tmp_path / 'locked'}: Permission denied"]


def test_a_folder_that_fails_for_a_while_does_not_come_anew(
    watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a network's: each of its photos would be a frame again."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "a.jpg").write_bytes(RED)
    assert [name for _ in range(9) for name in watcher.look()] == ["a.jpg"]
    with monkeypatch.context() as patch:
        forbid(patch, "mounted")
        names = [name for _ in range(30) for name in watcher.look()]
    assert names == [f"{tmp_path / 'mounted'}: Permission denied"]
    assert not any(watcher.look() for _ in range(30))


def test_other_files_hidden_ones_and_pipes_are_left_alone(watcher: Watcher, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / ".part.jpg").write_bytes(RED)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "missing")
    assert not any(watcher.look() for _ in range(20))
    (tmp_path / ".part.jpg").rename(tmp_path / "whole.jpg")
    assert [name for _ in range(9) for name in watcher.look()] == ["whole.jpg"]


def test_the_oldest_comes_first(watcher: Watcher, tmp_path: Path) -> None:
    for age, name in enumerate("bca"):
        (tmp_path / name).write_bytes(RED)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert (watcher.look(), watcher.look()) == ([], ["a", "c", "b"])


def test_a_photo_that_takes_the_place_of_another_is_another(
    watcher: Watcher, tmp_path: Path
) -> None:
    for content in (RED, BLUE, RED):
        (tmp_path / "latest").write_bytes(content)
        assert [name for _ in range(9) for name in watcher.look()] == ["latest"]


def test_a_photo_that_never_rests_is_read_while_it_changes(
    watcher: Watcher, tmp_path: Path
) -> None:
    """As `latest.jpg` of a camera: replaced between any two looks."""
    names = []
    for count in range(20):
        (tmp_path / "next").write_bytes(RED + bytes(count))
        (tmp_path / "next").rename(tmp_path / "latest.jpg")
        names += watcher.look()
    assert names == ["latest.jpg"] * (20 - photo_inbox.CHANGES)
    assert not any(watcher.look() for _ in range(20))


def test_a_photo_that_grows_without_a_rest_is_read_when_it_is_whole(
    watcher: Watcher, tmp_path: Path
) -> None:
    with (tmp_path / "slow.png").open("wb") as stream:
        for start in range(0, len(BLUE) - 20, 10):
            stream.write(BLUE[start : start + 10])
            stream.flush()
            assert watcher.look() == []
        stream.write(BLUE[stream.tell() :])
    assert [name for _ in range(20) for name in watcher.look()] == ["slow.png"]


def test_a_photo_that_is_deleted_is_forgotten(watcher: Watcher, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(RED)
    watcher.look(), watcher.look()
    assert len(watcher.read_marks) == 1
    (tmp_path / "a.jpg").unlink()
    watcher.look()
    assert not watcher.read_marks


def test_a_folder_that_comes_back_does_not_come_anew(watcher: Watcher, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(RED)
    watcher.look(), watcher.look()
    tmp_path.rename(tmp_path.with_name("away"))
    with pytest.raises(FileNotFoundError):
        watcher.look()
    tmp_path.with_name("away").rename(tmp_path)
    (tmp_path / "b.jpg").write_bytes(RED)
    watcher.restart()
    assert [name for _ in range(9) for name in watcher.look()] == ["b.jpg"]
