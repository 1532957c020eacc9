"""Where frames come from: the Pi's camera, V4L2, a video file, a folder; each is a generator."""

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
from deploy.image import open_image, why_not_photo
from deploy.system.error_messages import doing
from deploy.watching import photo_inbox

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a camera that vanished is tried again: at first, and at most; each the double."""
_SIZE = (640, 480)
_SECONDS = 10.0
_OPENCV = "sudo apt install python3-opencv, or pip install opencv-python-headless"
_NO_CAMERA = "connect it, or name another with --source"


class Gone(BadData):
    """A camera or folder is not there, or no longer."""


class Frame(NamedTuple):
    """An image, an array of uint8 (height, width, 3), RGB, or a PIL image; and its file if any."""

    image: npt.NDArray[np.uint8] | Image.Image
    path: Path | None = None


Frames = Generator[Frame | BadData | None, None, None]
"""Frames as they come, None when none came for a while, BadData for a photo that is none. It
raises Gone when the camera vanishes, and ends where a video does; closing it frees the camera."""


def choose(source: str | None, spec: InputSpec, fps: float | None) -> Callable[[], Frames]:
    """Return what opens `source`: a folder, a photo, a video file, a camera's device, or None.

    None is for the camera. `fps` is how many frames of a second are taken at most; of a video, of
    its own seconds. Of a folder each photo is taken. Raises WrongUse, MissingPackage.
    """
    if source is None:
        camera = _picamera2()
        return partial(pi_camera, camera, fps) if camera else partial(v4l2, _cv2(), 0, fps)
    path = Path(source)
    if source.startswith("/dev/"):
        return partial(v4l2, _cv2(), source, fps)
    if path.is_dir():
        return partial(folder, path, spec, fps, {})
    if path.is_file():
        return partial(photo, path, spec) if _is_photo(path) else partial(video, _cv2(), path, fps)
    raise WrongUse(f"{source}: no such folder, photo, video file or camera")


def unbroken(
    opener: Callable[[], Frames],
    told: Callable[[str | None], None],
    wait: Callable[[float], None] = time.sleep,
) -> Frames:
    """Yield the frames of `opener()`, which is called again, after `wait`, when it was Gone.

    `told` gets why, once, and None when it is back. What was never there raises Gone.
    """
    pause, known, missing = FIRST_PAUSE, False, False
    while True:
        frames = opener()
        try:
            for frame in frames:
                if missing:
                    told(None)
                pause, known, missing = FIRST_PAUSE, True, False
                yield frame
            return
        except Gone as error:
            if not known:
                raise
            if not missing:
                told(str(error))
            missing = True
        finally:
            frames.close()
        wait(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def pi_camera(camera_type: Any, fps: float | None) -> Frames:
    """Yield what `camera_type`, which is Picamera2, captures."""
    camera = None
    try:
        camera = camera_type()
        # Picamera2 names formats by the order of bytes in a word: "BGR888" are arrays in RGB.
        main = {"format": "BGR888", "size": _SIZE}
        camera.configure(camera.create_video_configuration(main=main))
        camera.start()
        while True:
            began = time.monotonic()
            image = camera.capture_array("main", wait=False).get_result(timeout=_SECONDS)
            yield Frame(image)
            _rest(began, fps)
    except (RuntimeError, IndexError, OSError) as error:  # a TimeoutError is an OSError
        raise Gone(f"the Pi's camera: {str(error) or 'no frame came'}: {_NO_CAMERA}") from error
    finally:
        if camera:
            _free(camera.close)


def v4l2(cv2: Any, device: int | str, fps: float | None) -> Frames:
    """Yield what a camera of the system captures; between two frames older ones are dropped."""
    name = device if isinstance(device, str) else f"/dev/video{device}"
    camera = None
    try:
        camera = cv2.VideoCapture(device, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if not camera.isOpened():
            raise Gone(f"{name}: no camera, or one that another program uses: {_NO_CAMERA}")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        due = 0.0
        while True:
            good = camera.grab()
            now = time.monotonic()
            if good and now < due:
                continue
            good, image = camera.retrieve() if good else (False, None)
            if not good:
                raise Gone(f"{name}: the camera gives no frame: {_NO_CAMERA}")
            if fps:  # on the beat, and without a burst after a slow time
                due = max(due or now, now - 1 / fps) + 1 / fps
            yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    except cv2.error as error:
        raise Gone(f"{name}: {_one_line(error)}: {_NO_CAMERA}") from error
    finally:
        if camera:
            _free(camera.release)


def video(cv2: Any, path: Path, fps: float | None) -> Frames:
    """Yield the frames of a video file as fast as they are taken; raise BadData without any."""
    film = None
    try:
        film = cv2.VideoCapture(str(path))
        rate = film.get(cv2.CAP_PROP_FPS)
        step = max(1.0, rate / fps) if fps and rate > 0 else 1.0
        count, due = 0, 0.0
        while film.grab():
            if count >= due:
                good, image = film.retrieve()
                if good:
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
    """Yield the one frame that a photo is."""
    try:
        yield Frame(open_image(path.read_bytes(), spec), path)
    except BadData as error:
        raise BadData(f"{path}: {error}") from error


def _is_photo(path: Path) -> bool:
    """Return whether the file is a photo: no video of JPEG pictures, and no animation."""
    with doing("read", path), path.open("rb") as stream:
        if why_not_photo(stream.read(16)):
            return False
    if path.suffix.lower() not in Image.registered_extensions():
        return False
    with suppress(Exception), Image.open(path) as image:  # reading it in full says what is wrong
        return image.format == "MPO" or not getattr(image, "is_animated", False)
    return True


def folder(
    path: Path, spec: InputSpec, fps: float | None, done: dict[Path, photo_inbox.Mark]
) -> Frames:
    """Yield each photo below `path`, those that are there and those that come; see `growing`."""
    try:
        for file, image in photo_inbox.photos(path, spec, done):
            began = time.monotonic()
            if isinstance(image, Image.Image):
                yield Frame(image, file)
                _rest(began, fps)
            else:
                yield image
    except OSError as error:
        raise Gone(f"{error.filename or path}: {error.strerror}") from error


def _free(close: Callable[[], object]) -> None:
    with suppress(Exception):  # of a camera that vanished this may fail too, and tells nothing new
        close()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _rest(began: float, fps: float | None) -> None:
    if fps:
        time.sleep(max(0.0, began + 1 / fps - time.monotonic()))


def _picamera2() -> Any:
    """Return what opens the Pi's camera where Picamera2 is installed and has one, else None."""
    try:
        camera = importlib.import_module("picamera2").Picamera2
    except (ImportError, ValueError) as error:  # ValueError: made for another numpy
        if isinstance(error, ModuleNotFoundError) and error.name == "picamera2":
            return None
        raise MissingPackage(
            f"picamera2 is installed but does not load: {error}. Another camera, such as "
            "/dev/video0, can be named with --source"
        ) from error
    # It also lists cameras on USB, which do not give RGB: OpenCV takes those.
    own = [i for i, each in enumerate(camera.global_camera_info()) if "/usb" not in each["Id"]]
    return partial(camera, own[0]) if own else None


def _cv2() -> Any:
    # Their warnings say what our messages say, on the user's screen.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingPackage(
            f"cameras other than the Pi's, and video files, need OpenCV ({error}): {_OPENCV}. "
            "For the Pi's camera: sudo apt install python3-picamera2. A folder needs neither: "
            "--source FOLDER"
        ) from error
