"""What follows a change of label: a snapshot, a post, a command. None stops the watching."""

import io
import json
import queue
import re
import shlex
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from deploy import files
from deploy.errors import WrongUse
from deploy.watching.cameras import Frame

SECONDS = 5.0
"""That a server has to answer, and that what runs at the end has to end."""
NONE = "none"
"""What frames are called in which no label is probable enough; a class may be named so too."""
_WAITING = 100

Say = Callable[[str], None]


class Post:
    """Posts values as JSON to a URL, in order, by a thread of its own; never raises, never waits.

    `say` is told when posting begins to fail, and when it works again; what failed is not sent
    again, and of many that wait for a slow server the newest are dropped.
    """

    def __init__(self, url: str, say: Say) -> None:
        """Start the thread; raise WrongUse for what is not a URL of http or https."""
        try:
            parts = urlsplit(url)
        except ValueError:  # such as half an IPv6 address
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUse(f"--post {url}: not a URL that begins with http:// or https://")
        self._url, self._say = url, say
        self._failing = False
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __call__(self, value: dict[str, Any]) -> None:
        """Have `value` posted."""
        try:
            self._waiting.put_nowait(value)
        except queue.Full:
            self._failed("too slow: some changes are not posted")

    def close(self) -> None:
        """Post what waits, for some seconds at most."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(SECONDS)

    def _run(self) -> None:
        while (value := self._waiting.get()) is not None:
            body = json.dumps(value).encode()
            try:
                request = urllib.request.Request(  # noqa: S310 (the scheme is checked)
                    self._url, body, {"Content-Type": "application/json"}
                )
                urllib.request.urlopen(request, timeout=SECONDS).close()  # noqa: S310
            except Exception as error:  # a server may answer anything
                self._failed(f"not posted: {error}")
                continue
            if self._failing:
                self._failing = False
                self._say(f"--post {self._url}: works again")

    def _failed(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._say(f"--post {self._url}: {why}")


class Commands:
    """Runs a command for a label, without a shell, in the background; one of a label at a time."""

    def __init__(self, rules: Iterable[str], labels: Iterable[str], say: Say) -> None:
        """Take rules of the form LABEL=COMMAND; raise WrongUse for one that cannot be followed."""
        self._say = say
        self._commands: dict[str, list[str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        labels = sorted(labels, key=len, reverse=True)  # one label may begin with another
        for rule in rules:
            label = next((each for each in labels if rule.startswith(f"{each}=")), None)
            if label is None:
                raise WrongUse(f"--on-label {rule}: LABEL=COMMAND, of the labels {sorted(labels)}")
            if label in self._commands:
                raise WrongUse(f"--on-label {rule}: {label} has a command already")
            self._commands[label] = _words(rule, rule[len(label) + 1 :])

    def __call__(self, label: str | None) -> None:
        """Start the command of `label`, None being NONE, if it has one that does not run yet."""
        label = label or NONE
        command = self._commands.get(label)
        if command is None:
            return
        self.tell_ended()
        if label in self._running:
            self._say(f"--on-label {label}: not run again, the one before still runs")
            return
        try:
            # Our stdout is data: what the command prints goes to stderr.
            self._running[label] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603
        except OSError as error:
            self._say(f"--on-label {label}: {command[0]}: {error.strerror}")

    def tell_ended(self) -> None:
        """Tell of each command that has failed since."""
        for label, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[label]
                if process.returncode:
                    self._say(f"--on-label {label}: it ended with code {process.returncode}")

    def close(self) -> None:
        """Give what runs some seconds to end, then end it."""
        for label, process in list(self._running.items()):
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                del self._running[label]
                self._say(f"--on-label {label}: it still ran, and was ended")
        self.tell_ended()


class Snapshots:
    """Keeps frames in a folder, named by time and label; tells `say` where that fails."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say

    def __call__(self, frame: Frame, label: str | None) -> str | None:
        """Write the frame as a JPEG, or a copy of its file if that is there; return the path."""
        name = re.sub(r"[^\w-]+", "_", label or NONE)[:40]
        suffix = re.sub(r"[^\w.]+", "_", frame.path.suffix) if frame.path else ".jpg"
        path = self._folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{name}{suffix}"
        try:
            files.write(path, _content(frame))
        except OSError as error:
            self._say(f"{error.filename or path}: {error.strerror}: this frame is not kept")
            return None
        return str(path)


def _content(frame: Frame) -> bytes:
    if frame.path:
        with suppress(FileNotFoundError):  # somebody moved it away
            return frame.path.read_bytes()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(frame.image)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _words(rule: str, text: str) -> list[str]:
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise WrongUse(f"--on-label {rule}: {error}") from error
    if not command or not shutil.which(command[0]):
        raise WrongUse(f"--on-label {rule}: no such program, or not executable")
    return command
