"""Drive a headless Chromium through the pipe of its DevTools protocol: no package is needed."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TIMEOUT_S = 60
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FROM_US, _TO_US = 3, 4
"""The file descriptors at which Chromium reads and writes."""


def find_chromium() -> str | None:
    """Return the path of the system's Chromium, None without one."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


class Browser:
    """A page of a running Chromium."""

    def __init__(self, commands: int, events: int) -> None:
        """Open a page; `commands` and `events` are the ends of the pipes."""
        self._commands, self._events = commands, events
        self._ids, self._unread, self._session = itertools.count(1), b"", ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a method of the protocol; note what the page reports meanwhile."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, width: int, height: int = 800) -> None:
        """Open `url` in a window of that size, in pixels, and wait until it is loaded."""
        self.problems, self.requests, self._loaded = [], [], False
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(self._read())

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the window as a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        """Keep errors of the page, and the addresses that it loads."""
        values = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(values["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning"):
                self.problems.append(str(values["args"]))
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                self.problems.append(str(values["entry"]))

    def _read(self) -> dict[str, Any]:
        """Return the next message."""
        end = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._unread:
            readable, _, _ = select.select([self._events], [], [], max(0, end - time.monotonic()))
            assert readable, f"no answer of Chromium in {TIMEOUT_S} s"
            block = os.read(self._events, 1 << 16)
            assert block, "Chromium ended"
            self._unread += block
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


def _move_away(descriptor: int) -> int:
    """Return a copy of a file descriptor above those that Chromium uses; close the original."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _TO_US + 1)
    os.close(descriptor)
    return copy


@contextmanager
def start_chromium(program: str, profile: Path) -> Iterator[Browser]:
    """Start `program` with an empty `profile` folder, give its page, and end it."""
    their_input, commands = map(_move_away, os.pipe())
    events, their_output = map(_move_away, os.pipe())
    arguments = [
        program,
        "--headless",
        "--no-sandbox",  # none is possible for root, and only pages of ours are opened
        "--remote-debugging-pipe",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
    ]
    actions = [
        (os.POSIX_SPAWN_DUP2, their_input, _FROM_US),
        (os.POSIX_SPAWN_DUP2, their_output, _TO_US),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    process = os.posix_spawn(program, arguments, os.environ, file_actions=actions)
    os.close(their_input)
    os.close(their_output)
    try:
        browser = Browser(commands, events)
        yield browser
        browser._session = ""
        browser.call("Browser.close")
    finally:
        os.close(commands)
        os.close(events)
        os.waitpid(process, 0)
