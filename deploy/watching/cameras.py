"""Generate frames from a source: the Pi's camera, V4L2, a video file, a photo, a folder."""

import importlib
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from deploy.contract import InputSpec
from deploy.errors import BadData, MissingPackage, WrongUse
from deploy.image import HEAD, claims_photo, open_image
from deploy.system.error_messages import doing
from deploy.watching import photo_inbox

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
"""Pause before a camera that is gone is tried again: the first, and the longest; each doubles."""
_JPEG_VIDEOS = (".mjpeg", ".mjpg")
_PAGED = ("MPO", "TIFF")
"""Formats whose further pictures are no animation."""
_FRAME_SIZE = (640, 480)
_FRAME_TIMEOUT_S = 10.0
_OPENCV = "sudo apt install python3-opencv, or pip install opencv-python-headless"
_NO_CAMERA = "connect it, or name another source"


class Gone(BadData):
    """A camera or folder is not there, or not any more."""


class Frame(NamedTuple):
    """An image, as an array of uint8 (height, width, 3), RGB, or a PIL image, and its file."""

    image: npt.NDArray[np.uint8] | Image.Image
    path: Path | None = None


Frames = Generator[Frame | BadData | None, None, None]
"""Yields frames as they come, None if none came for a while, BadData for a bad photo.

Raises Gone when the camera is unplugged, and ends with a video. Closing it frees the camera."""


def choose(source: str | None, spec: InputSpec, fps: float | None) -> Callable[[], Frames]:
    """Return the function that opens `source`: a folder, photo, video file or camera's device.

    None is the default camera. `fps` is the largest number of frames a second; a video's own
    seconds count. Every photo of a folder is a frame. Raises WrongUse, MissingPackage.
    """
    if source is None:
        camera = _picamera2()
        return partial(pi_camera, camera, fps) if camera else partial(v4l2, _cv2(), 0, fps)
    path = Path(source)
    if path.is_dir():
        return partial(folder, path, spec, fps, {})
    if path.is_file():
        return partial(photo, path, spec) if _is_photo(path) else partial(video, _cv2(), path, fps)
    if source.startswith("/dev/"):
        return partial(v4l2, _cv2(), source, fps)
    raise WrongUse(f"{source}: no such folder, photo, video file or camera")


def reconnecting(
    opener: Callable[[], Frames],
    report: Callable[[str | None], None],
    wait: Callable[[float], None] = time.sleep,
) -> Frames:
    """Yield the frames of `opener()`; call it again, after `wait`, whenever it raises Gone.

    `report` gets the reason, once, and None when the source is back. Raises Gone for a source that
    never gave a frame.
    """
    pause, has_started, missing = FIRST_PAUSE_S, False, False
    while True:
        frames = opener()
        try:
            for frame in frames:
                if missing:
                    report(None)
                pause, has_started, missing = FIRST_PAUSE_S, True, False
                yield frame
            return
        except Gone as error:
            if not has_started:
                raise
            if not missing:
                report(str(error))
            missing = True
        finally:
            frames.close()
        wait(pause)
        pause = min(2 * pause, MAX_PAUSE_S)


def pi_camera(camera_type: Any, fps: float | None) -> Frames:
    """Yield the frames that `camera_type`, which is Picamera2, captures."""
    camera = None
    try:
        camera = camera_type()
        # Picamera2 names formats by the order of bytes in a word: "BGR888" are arrays in RGB.
        main = {"format": "BGR888", "size": _FRAME_SIZE}
        camera.configure(camera.create_video_configuration(main=main))
        camera.start()
        while True:
            start = time.monotonic()
            image = camera.capture_array("main", wait=False).get_result(timeout=_FRAME_TIMEOUT_S)
            yield Frame(image)
            _wait_for_next(start, fps)
    except (RuntimeError, IndexError, OSError) as error:  # a TimeoutError is an OSError
        raise Gone(f"the Pi's camera: {str(error) or 'no frame came'}: {_NO_CAMERA}") from error
    finally:
        if camera:
            _free(camera.close)


def v4l2(cv2: Any, device: int | str, fps: float | None) -> Frames:
    """Yield the frames of a camera of the system; frames older than the newest are dropped."""
    name = device if isinstance(device, str) else f"/dev/video{device}"
    camera = None
    try:
        camera = cv2.VideoCapture(device, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if not camera.isOpened():
            raise Gone(f"{name}: no camera, or one that another program uses: {_NO_CAMERA}")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        due = 0.0
        while True:
            success = camera.grab()
            time_grabbed = time.monotonic()
            if success and time_grabbed < due:
                continue
            success, image = camera.retrieve() if success else (False, None)
            if not success:
                raise Gone(f"{name}: the camera gives no frame: {_NO_CAMERA}")
            if fps:  # evenly spaced, without a burst after a slow time
                due = max(due or time_grabbed, time_grabbed - 1 / fps) + 1 / fps
            yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    except cv2.error as error:
        raise Gone(f"{name}: {_one_line(error)}: {_NO_CAMERA}") from error
    finally:
        if camera:
            _free(camera.release)


def video(cv2: Any, path: Path, fps: float | None) -> Frames:
    """Yield the frames of a video file as fast as they are used; raise BadData if it has none."""
    film = None
    try:
        film = cv2.VideoCapture(str(path))
        rate = film.get(cv2.CAP_PROP_FPS)
        step = max(1.0, rate / fps) if fps and rate > 0 else 1.0
        count, due = 0, 0.0
        while film.grab():
            if count >= due:
                success, image = film.retrieve()
                if success:
                    yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                due += step
            count += 1
        if not count:
            raise BadData(f"{path}: no frame can be read: it is no video, or of an unknown kind")
    except cv2.error as error:
        raise BadData(f"{path}: {_one_line(error)}") from error
    finally:
        if film:
            _free(film.release)


def photo(path: Path, spec: InputSpec) -> Frames:
    """Yield one frame, the photo."""
    try:
        with path.open("rb") as stream:
            image = open_image(stream, spec)
        yield Frame(image, path)
    except BadData as error:
        raise BadData(f"{path}: {error}") from error


def _is_photo(path: Path) -> bool:
    """Return whether the file is a photo, not a video of JPEG pictures and not an animation.

    One that cannot be read counts too: decoding it gives the reason.
    """
    with doing("read", path), path.open("rb") as stream:
        head = stream.read(HEAD)
    if path.suffix.lower() in _JPEG_VIDEOS or not claims_photo(path, head):
        return False
    with suppress(Exception), Image.open(path) as image:
        return image.format in _PAGED or not getattr(image, "is_animated", False)
    return True


def folder(
    path: Path, spec: InputSpec, fps: float | None, read_marks: dict[Path, photo_inbox.Mark]
) -> Frames:
    """Yield each photo below `path`, the present ones and those that come; see `photo_inbox`."""
    try:
        for file, image in photo_inbox.photos(path, spec, read_marks):
            start = time.monotonic()
            if isinstance(image, Image.Image):
                yield Frame(image, file)
                _wait_for_next(start, fps)
            else:
                yield image
    except OSError as error:
        raise Gone(f"{error.filename or path}: {error.strerror}") from error


def _free(close: Callable[[], object]) -> None:
    with suppress(Exception):  # fails for a camera that is gone, which is known by then
        close()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _wait_for_next(start: float, fps: float | None) -> None:
    """Sleep until the next frame after the one of the time `start` is due."""
    if fps:
        time.sleep(max(0.0, start + 1 / fps - time.monotonic()))


def _picamera2() -> Any:
    """Return the function that opens the Pi's camera, or None without Picamera2 or a camera."""
    try:
        camera = importlib.import_module("picamera2").Picamera2
    except (ImportError, ValueError) as error:  # ValueError: made for another numpy
        if isinstance(error, ModuleNotFoundError) and error.name == "picamera2":
            return None
        raise MissingPackage(
            f"picamera2 is installed but does not load: {error}. Another camera, such as "
            "/dev/video0, can be named as the source"
        ) from error
    # It also lists cameras on USB, which do not give RGB: OpenCV takes those.
    own = [i for i, info in enumerate(camera.global_camera_info()) if "/usb" not in info["Id"]]
    return partial(camera, own[0]) if own else None


def _cv2() -> Any:
    # OpenCV would print its own warnings beside our messages.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingPackage(
            f"cameras other than the Pi's, and video files, need OpenCV ({error}): {_OPENCV}. "
            "For the Pi's camera: sudo apt install python3-picamera2. A folder as the source needs "
            "neither"
        ) from error
