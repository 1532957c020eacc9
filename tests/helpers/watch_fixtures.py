"""Cameras that can be unplugged, a film, a server that keeps what is posted to it."""

# ruff: noqa: D102

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

BGR = np.full((48, 64, 3), (10, 20, 200), np.uint8)
RGB = (200, 20, 10)


class Plug:
    """A socket for cameras: what each opening of the device finds there, frames or nothing."""

    def __init__(self, *openings: int) -> None:
        self.openings = list(openings)
        self.devices: list[Any] = []
        self.settings: dict[str, float] = {}
        self.released = 0
        self.failing = False

    def fail(self, error: Exception) -> None:
        """Raise `error`, as what was unplugged may, once `failing`."""
        if self.failing:
            raise error

    def open(self, device: Any, *_: Any) -> "Plug":
        self.devices.append(device)
        self.frames = self.openings.pop(0) if self.openings else 0
        self.there = self.frames > 0
        return self


class Cv2Error(Exception):
    """Stands for `cv2.error`, which is an Exception and nothing else."""


class FakeV4l2(Plug):
    """What this project calls of `cv2`."""

    error = Cv2Error
    CAP_V4L2, CAP_ANY, CAP_PROP_BUFFERSIZE, CAP_PROP_FPS = 200, 0, "buffers", "fps"
    COLOR_BGR2RGB = "to RGB"
    VideoCapture = Plug.open

    def isOpened(self) -> bool:  # noqa: N802
        return self.there

    def set(self, name: str, value: float) -> None:
        self.settings[name] = value

    def get(self, name: str) -> float:
        return {self.CAP_PROP_FPS: 10.0}[name]

    def grab(self) -> bool:
        self.frames -= 1
        if self.frames < 0:
            self.fail(Cv2Error("OpenCV(5.0.0) cap_v4l.cpp:\nerror: (-215) no buffer\n"))
        return self.frames >= 0

    def retrieve(self) -> tuple[bool, Any]:
        return True, BGR

    def release(self) -> None:
        self.released += 1
        self.fail(Cv2Error("cannot release"))

    def cvtColor(self, image: Any, code: str) -> Any:  # noqa: N802
        assert code == self.COLOR_BGR2RGB
        return image[:, :, ::-1]


class FakePicamera2(Plug):
    """What this project calls of `picamera2`."""

    def __call__(self, number: int) -> "FakePicamera2":
        assert number == 0  # the place of the own one in the list below, not its Num
        self.open("pi")
        if not self.there:
            raise IndexError("list index out of range")
        return self

    def global_camera_info(self) -> list[dict[str, Any]]:
        """Return the Pi's own camera, where there is one, then one on USB; Num is libcamera's."""
        usb = {"Num": 0, "Id": "/base/axi/pcie@120000/rp1/usb@300000-1:1.0-046d:0825"}
        own = {"Num": 1, "Id": "/base/soc/i2c0mux/i2c@1/imx708@1a"}
        return [own, usb] if self.openings else [usb]

    def create_video_configuration(self, main: dict[str, Any]) -> dict[str, Any]:
        return main

    def configure(self, main: dict[str, Any]) -> None:
        self.settings = main

    def start(self) -> None:
        pass

    def capture_array(self, stream: str, wait: bool) -> Any:
        assert (stream, wait) == ("main", False)

        def get_result(timeout: float) -> Any:
            assert timeout < 60
            self.frames -= 1
            if self.frames < 0:
                raise TimeoutError
            return BGR[:, :, ::-1]  # what it calls BGR888

        return SimpleNamespace(get_result=get_result)

    def close(self) -> None:
        self.released += 1
        self.fail(RuntimeError("cannot close"))


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def write_film(path: Path, colours: list[tuple[int, int, int]], fps: float = 10) -> Path:
    """Write a Motion JPEG film of frames of these colours, in RGB."""
    cv2 = pytest.importorskip("cv2")
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    for colour in colours:
        film.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    film.release()
    return path


class Server(ThreadingHTTPServer):
    """Keeps what is posted; answers with `status`, once `ready`."""

    def __init__(self) -> None:
        self.got: list[tuple[str | None, object]] = []
        self.status = 200
        self.ready = threading.Event()
        self.ready.set()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/labels"


class Handler(BaseHTTPRequestHandler):
    """Keeps a body, and answers."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.ready.wait(30)
        self.server.got.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """Give a server that runs."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.ready.set()
    server.shutdown()
    thread.join()
    server.server_close()


def writes(path: Path) -> str:
    """Return a command that writes its arguments and working state to the file `path`."""
    code = f"import sys; open({str(path)!r}, 'a').write(repr(sys.argv[1:]) + chr(10))"
    return f'{sys.executable} -c "{code}"'
