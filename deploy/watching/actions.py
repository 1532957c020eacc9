"""React to a change of label: keep a snapshot, post JSON, run a command. No failure is raised."""

import io
import json
import queue
import re
import shlex
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from deploy import files
from deploy.classifier import UNKNOWN
from deploy.errors import WrongUse
from deploy.watching.cameras import Frame

TIMEOUT_S = 5.0
"""For the answer to a post, and for commands that still run at the end."""
NONE = "none"
"""The word that stands for a frame without a label in output; a class may have this label too."""
_MAX_WAITING_POSTS = 100
_TOO_SLOW = "too slow: some changes are not posted"

Report = Callable[[str], None]
"""Takes a message about a problem."""


@dataclass(frozen=True)
class FrameLabel:
    """The label of a frame; None if the photo is rejected or no label is probable enough."""

    label: str | None = None
    rejected: bool = False

    @property
    def text(self) -> str:
        """The label, or the word that stands for its absence."""
        if self.label is not None:
            return self.label
        return UNKNOWN if self.rejected else NONE


class Post:
    """Posts values as JSON to a URL, in order, in a thread of its own; never raises, never waits.

    `report` is called when posting begins to fail and when it works again, only by the caller's
    thread: in `report_changes` and `close`. A failed value is not sent again; while a slow server
    lets values pile up, new ones are dropped.
    """

    def __init__(self, url: str, report: Report) -> None:
        """Start the thread; raise WrongUse for a URL that cannot be posted to."""
        _check_url(url)
        self._url, self._report = url, report
        self._failing = False
        self._changes: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __call__(self, value: dict[str, Any]) -> None:
        """Queue `value` for posting."""
        if self._waiting.qsize() < _MAX_WAITING_POSTS:
            self._waiting.put(value)
        else:
            self._failed(_TOO_SLOW)

    def report_changes(self) -> None:
        """Report that posting began to fail, or works again, since the last call."""
        with suppress(queue.Empty):
            while True:
                self._report(f"post to {self._url}: {self._changes.get_nowait()}")

    def close(self) -> None:
        """Post the queued values, for TIMEOUT_S at most; report it if that is too short."""
        self._waiting.put(None)
        self._thread.join(TIMEOUT_S)
        if self._thread.is_alive():
            self._failed(_TOO_SLOW)
        self.report_changes()

    def _run(self) -> None:
        while (value := self._waiting.get()) is not None:
            body = json.dumps(value).encode()
            try:
                request = urllib.request.Request(  # noqa: S310 (the scheme is checked)
                    self._url, body, {"Content-Type": "application/json"}
                )
                urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310
            except Exception as error:  # a server may answer anything
                self._failed(f"not posted: {error}")
                continue
            if self._failing:
                self._failing = False
                self._changes.put("works again")

    def _failed(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            self._changes.put(reason)


class Commands:
    """Runs the command of a label in the background, without a shell, at most once at a time."""

    def __init__(
        self, rules: Iterable[str], labels: Mapping[str, FrameLabel], report: Report
    ) -> None:
        """Read rules of the form LABEL=COMMAND; raise WrongUse for one that cannot be followed.

        `labels` are the names that LABEL may be, and what each means.
        """
        self._report = report
        self._commands: dict[FrameLabel, list[str]] = {}
        self._running: dict[FrameLabel, subprocess.Popen[bytes]] = {}
        names = sorted(labels, key=len, reverse=True)  # one label may begin with another
        for rule in rules:
            name = next((name for name in names if rule.startswith(f"{name}=")), None)
            if name is None:
                raise WrongUse(f"`on_label` {rule}: LABEL=COMMAND, of the labels {sorted(names)}")
            if labels[name] in self._commands:
                raise WrongUse(f"`on_label` {rule}: {name} has a command already")
            self._commands[labels[name]] = _split_command(rule, rule[len(name) + 1 :])

    def __call__(self, label: FrameLabel) -> None:
        """Start the command of `label`, if it has one that is not running."""
        command = self._commands.get(label)
        if command is None:
            return
        self.report_ended()
        if label in self._running:
            self._report(f"command of {label.text}: not run again, the one before still runs")
            return
        try:
            # Our stdout is data: what the command prints goes to stderr.
            self._running[label] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)  # noqa: S603
        except OSError as error:
            self._report(f"command of {label.text}: {command[0]}: {error.strerror}")

    def report_ended(self) -> None:
        """Report each command that has failed since the last call."""
        for label, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[label]
                if process.returncode:
                    code = process.returncode
                    self._report(f"command of {label.text}: it ended with code {code}")

    def close(self) -> None:
        """Give all running commands TIMEOUT_S to end, then kill them."""
        end = time.monotonic() + TIMEOUT_S
        for label, process in list(self._running.items()):
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                del self._running[label]
                self._report(f"command of {label.text}: it still ran, and was ended")
        self.report_ended()


class Snapshots:
    """Keeps frames in a folder, named by time and label; calls `report` if that fails."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder, self._report = folder, report

    def __call__(self, frame: Frame, label: FrameLabel) -> str | None:
        """Write the frame as a JPEG, or a copy of its file if it has one; return the path."""
        name = re.sub(r"[^\w-]+", "_", label.text)[:40]
        suffix = re.sub(r"[^\w.]+", "_", frame.path.suffix) if frame.path else ".jpg"
        path = self._folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{name}{suffix}"
        try:
            files.write(path, _content(frame))
        except OSError as error:
            self._report(f"{error.filename or path}: {error.strerror}: this frame is not kept")
            return None
        return str(path)


def _content(frame: Frame) -> bytes:
    if frame.path:
        with suppress(FileNotFoundError):  # somebody moved it away
            return frame.path.read_bytes()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(frame.image)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _check_url(url: str) -> None:
    """Raise WrongUse for a URL that urllib cannot post to; the message holds no password."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # checks it
    except ValueError:  # such as half an IPv6 address
        parts = urlsplit("")
    setting = "`post`" if "@" in url else f"`post` {url}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUse(f"{setting}: not a URL that begins with http:// or https://")
    if "@" in parts.netloc:
        raise WrongUse(f"{setting}: a user name or password in a URL is not used: leave it out")
    if re.search(r"[\0-\x20\x7f]", url) or not (parts.path + parts.query).isascii():
        raise WrongUse(f"{setting}: write its spaces and letters beyond ASCII as %20, %C3%A9")


def _split_command(rule: str, text: str) -> list[str]:
    """Return the words of a command; raise WrongUse if its program cannot be run."""
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise WrongUse(f"`on_label` {rule}: {error}") from error
    if not command or not shutil.which(command[0]):
        raise WrongUse(f"`on_label` {rule}: no such program, or not executable")
    return command
