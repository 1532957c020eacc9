"""Cameras that vanish and return, behind OpenCV's and Picamera2's own calls; a real video."""

import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.errors import BadData, MissingPackage, WrongUse
from deploy.image_files import formats
from deploy.watching import cameras
from deploy.watching.cameras import Frame, Frames, Gone, choose, reconnecting
from tests.helpers.deploy_fixtures import SPEC
from tests.helpers.watch_fixtures import RGB, FakePicamera2, FakeV4l2, Plug, without, write_film


@pytest.fixture
def v4l2(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeV4l2]:
    def plug(*openings: int) -> FakeV4l2:
        fake = FakeV4l2(*openings)
        monkeypatch.setitem(sys.modules, "cv2", fake)
        without(monkeypatch, "picamera2")
        return fake

    return plug


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakePicamera2]:
    def plug(*openings: int) -> FakePicamera2:
        fake = FakePicamera2(*openings)
        monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=fake))
        without(monkeypatch, "cv2")
        return fake

    return plug


@pytest.mark.parametrize("kind", ["v4l2", "picamera2"])
def test_a_camera_that_vanishes_is_waited_for(kind: str, request: pytest.FixtureRequest) -> None:
    """Said once, with growing pauses; each opening is closed again; after it is back, anew."""
    fake: Plug = request.getfixturevalue(kind)(3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4)
    reports: list[str | None] = []
    pauses: list[float] = []
    opener, held = choose(None, SPEC, None), []

    def opened() -> Frames:
        held.append(opener())  # what frees a camera is not that nobody holds it any more
        return held[-1]

    frames: Iterator[Any] = reconnecting(opened, reports.append, pauses.append)
    nine_frames = [next(frames) for _ in range(9)]
    assert all(tuple(frame.image[0, 0]) == RGB for frame in nine_frames)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]
    assert [reason is None for reason in reports] == [False, True, False, True]
    assert "name another source" in str(reports[0])
    openings = len(fake.devices)
    assert openings == 11
    frames.close()  # type: ignore[attr-defined]
    assert fake.released == (openings if kind == "v4l2" else 3)


@pytest.mark.parametrize("kind", ["v4l2", "picamera2"])
def test_a_camera_that_fails_as_it_vanishes_is_waited_for_too(
    kind: str, request: pytest.FixtureRequest
) -> None:
    """OpenCV may raise an error of its own, and what is gone may not close."""
    fake: Plug = request.getfixturevalue(kind)(2, 0, 2)
    fake.failing = True
    reports: list[str | None] = []
    frames = reconnecting(choose(None, SPEC, None), reports.append, lambda _: None)
    assert all(next(frames) for _ in range(4))
    assert (len(reports), reports[1]) == (2, None)
    assert "name another source" in str(reports[0])
    assert "\n" not in str(reports[0])
    frames.close()


def test_a_video_that_opencv_fails_on_is_bad_data(
    v4l2: Callable[..., FakeV4l2], tmp_path: Path
) -> None:
    v4l2(0).failing = True
    (tmp_path / "film.avi").touch()
    with pytest.raises(BadData, match=r"film.avi: OpenCV\(5.0.0\) cap_v4l.cpp: error: .* buffer$"):
        list(choose(str(tmp_path / "film.avi"), SPEC, None)())


@pytest.mark.parametrize("kind", ["v4l2", "picamera2"])
def test_a_camera_that_was_never_there_is_an_error(
    kind: str, request: pytest.FixtureRequest
) -> None:
    fake = request.getfixturevalue(kind)(1)
    opener = choose(None, SPEC, None)
    fake.openings = []

    def fail(_: object) -> None:
        pytest.fail("called")

    with pytest.raises(Gone, match=r"camera.*connect it, or name another source"):
        next(reconnecting(opener, fail, fail))


def test_a_device_is_the_one_that_is_opened(v4l2: Callable[..., FakeV4l2]) -> None:
    fake = v4l2(1, 1)
    next(choose("/dev/video7", SPEC, None)())
    next(choose(None, SPEC, None)())
    assert fake.devices == ["/dev/video7", 0]
    assert fake.settings == {"buffers": 1}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs /dev/shm")  # noqa: S108
def test_a_folder_in_memory_is_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "cv2", "picamera2")
    with TemporaryDirectory(dir="/dev/shm") as inbox:
        photo = Path(inbox) / "a.png"
        Image.new("RGB", (8, 8)).save(photo)
        for source in (inbox, str(photo)):
            frames = choose(source, SPEC, None)()
            assert next(frame.path for frame in frames if isinstance(frame, Frame)) == photo


def test_frames_that_come_too_fast_are_dropped_not_kept(
    v4l2: Callable[..., FakeV4l2], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera of 30 frames a second, of which 10 are wanted."""
    fake = v4l2(301)
    clock = SimpleNamespace(monotonic=lambda: 100 + (301 - fake.frames) / 30)
    monkeypatch.setattr(cameras, "time", clock)
    frames = choose(None, SPEC, 10)()
    frame_numbers = [301 - fake.frames for _ in range(100) if next(frames)]
    assert 297 <= frame_numbers[-1] <= 300  # 10 seconds
    assert {later - earlier for earlier, later in pairwise(frame_numbers)} <= {2, 3, 4}


def test_the_pis_camera_rests_between_frames(
    picamera2: Callable[..., FakePicamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    picamera2(3)
    rests: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 7.0, sleep=rests.append)
    monkeypatch.setattr(cameras, "time", clock)
    with pytest.raises(Gone, match="no frame came"):
        list(choose(None, SPEC, 4)())
    assert rests == pytest.approx([0.25] * 3)


def test_the_pis_camera_comes_first_and_another_where_it_has_none(
    picamera2: Callable[..., FakePicamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    pi, usb = picamera2(1), FakeV4l2(1)
    monkeypatch.setitem(sys.modules, "cv2", usb)
    next(choose(None, SPEC, None)())
    assert (pi.devices, usb.devices) == (["pi"], [])
    next(choose(None, SPEC, None)())  # no camera is left at the Pi's connector
    assert (pi.devices, usb.devices) == (["pi"], [0])


@pytest.mark.parametrize("source", [None, "/dev/video0", "film"])
def test_without_opencv_the_remedy_is_named(
    source: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, "cv2", "picamera2")
    monkeypatch.chdir(tmp_path)
    Path("film").touch()
    with pytest.raises(MissingPackage, match=r"python3-opencv.*opencv-python-headless.*the source"):
        choose(source, SPEC, None)


def test_a_picamera2_that_does_not_load_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As with another numpy than the one it was made for: no other camera instead, unasked."""
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackage, match=r"does not load: numpy.dtype size.*as the source"):
        choose(None, SPEC, None)


def test_a_source_that_is_nothing_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"nowhere: no such folder, photo, video file or camera"):
        choose(str(tmp_path / "nowhere"), SPEC, None)


# A real video file


def colours_of(frames: Frames) -> list[tuple[int, ...]]:
    images = [frame.image for frame in frames if isinstance(frame, Frame)]
    return [tuple(int(level) for level in np.asarray(image)[24, 32]) for image in images]


def test_each_frame_of_a_video_is_taken(tmp_path: Path) -> None:
    colours = [(200, 10 * i, 30) for i in range(20)]
    film = write_film(tmp_path / "film.avi", colours)
    pixels = colours_of(choose(str(film), SPEC, None)())
    assert np.abs(np.subtract(pixels, colours)).max() < 8


@pytest.mark.parametrize(("fps", "expected"), [(5, 10), (100, 20), (3, 6)])
def test_of_a_video_fps_is_by_its_own_seconds(fps: float, expected: int, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", [(90, 90, 90)] * 20)
    assert len(colours_of(choose(str(film), SPEC, fps)())) == expected


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.heic", b"\0\0\0\x1cftypheic" + bytes(8), r"HEIC file: pip install"),
        ("x.CR2", b"II*\0" + bytes(20), "camera raw file: develop it"),
        ("x.psd", b"8BPS\0\x01" + bytes(20), "Photoshop file: convert it"),
        ("x.jpg", b"", "the file is empty"),
        ("x.png", b"hello", "not a photo"),
    ],
)
def test_a_photo_that_cannot_be_read_is_no_video(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    without(monkeypatch, "cv2", "picamera2")
    monkeypatch.setattr(formats, "can_load", lambda module: not module)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=f"{name}: {reason}"):
        list(choose(str(tmp_path / name), SPEC, None)())


@pytest.mark.parametrize("name", ["latest", "scan.tif", "x.jpg.new"])
def test_a_photo_is_known_by_its_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    without(monkeypatch, "cv2", "picamera2")
    pages = [Image.new("RGB", (64, 48), colour) for colour in (RGB, 0)]
    form = "TIFF" if name.endswith("tif") else "PNG"
    more: dict[str, Any] = {"save_all": True, "append_images": pages[1:]} if form == "TIFF" else {}
    pages[0].save(tmp_path / name, form, **more)
    assert colours_of(choose(str(tmp_path / name), SPEC, None)()) == [RGB]


def test_pictures_of_a_video_in_jpeg_are_no_photo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, "cv2", "picamera2")
    Image.new("RGB", (8, 8)).save(tmp_path / "film.mjpeg", "JPEG")
    with pytest.raises(MissingPackage, match="video files"):
        choose(str(tmp_path / "film.mjpeg"), SPEC, None)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "notes.avi").write_text("no film")
    with pytest.raises(BadData, match=r"notes.avi: no frame can be read"):
        list(choose(str(tmp_path / "notes.avi"), SPEC, None)())
