"""`watch`: the label of what a camera sees, each time that it changes."""

import json
import signal
import sys
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from deploy.cli.label import model_option, open_model, threads_option
from deploy.system.terminal import say

SCHEMA_VERSION = 1


class Steady:
    """Tells when a label has changed: when it was another in `frames` frames in a row.

    None, for frames in which no label is probable enough, is a label too, and the first.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._label: str | None = None
        self._other: str | None = None
        self._count = 0

    def changed(self, label: str | None) -> bool:
        """Return whether `label`, that of one more frame, is now the label, and was not before."""
        if label == self._label:
            self._count = 0
            return False
        self._count = self._count + 1 if label == self._other else 1
        self._other = label
        if self._count < self.frames:
            return False
        self._label, self._count = label, 0
        return True


class _Teller:
    """Prints events: as JSON lines, all of them; else labels to stdout, the rest to stderr."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, event: str, text: str, **values: Any) -> dict[str, Any]:
        now = datetime.now(UTC)
        told = {"schema": SCHEMA_VERSION, "event": event, "time": now.isoformat(), **values}
        if self._as_json:
            say(json.dumps(told))
        else:
            say(f"{now.astimezone():%H:%M:%S}  {text}", err=event != "label")
        return told

    def problem(self, text: str) -> None:
        """Tell what went wrong and does not stop the watching."""
        self("problem", text, reason=text)

    def source(self, reason: str | None) -> None:
        """Tell why the source is gone, or with None that it is back."""
        text = f"{reason}; trying again" if reason else "it is back"
        self("source", text, state="gone" if reason else "back", reason=reason)


@click.command()
@click.option(
    "--source",
    type=click.Path(),
    help="A folder that fills with photos, a video file, a photo, or a camera such as "
    "/dev/video1.  [default: the camera]",
)
@model_option
@threads_option
@click.option(
    "--threshold",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="A label that is less probable counts as none; unknown does not.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames in a row that another label needs to be the label.  [default: 3, of a folder 1]",
)
@click.option(
    "--fps",
    type=click.FloatRange(min=0, max=1000, min_open=True),
    help="Frames taken of a second, at most.  [default: all that can be]",
)
@click.option(
    "--on-label",
    "rules",
    multiple=True,
    type=click.UNPROCESSED,
    metavar="LABEL=COMMAND",
    help="Run COMMAND, without a shell, when LABEL, or none, comes; for several labels too.",
)
@click.option("--post", metavar="URL", help="Post each change as JSON too.")
@click.option(
    "--snapshot-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the frame of each change here.",
)
@click.option(
    "--status-every",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds between lines on speed and temperature; 0 for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an event.")
def watch(
    source: str | None,
    model: Path,
    threads: int,
    threshold: float,
    frames: int | None,
    fps: float | None,
    rules: tuple[str, ...],
    post: str | None,
    snapshot_dir: Path | None,
    status_every: float,
    as_json: bool,
) -> None:
    """Print the label of what the camera sees, each time that it changes.

    It changes when another label is the best one, and probable enough, in some frames in a row.
    A camera that vanishes is waited for. Ends at the end of a video, or when it is stopped. What
    ends before that many frames, such as a photo, has the label of its last frame.
    """
    from deploy.classifier import UNKNOWN, Prediction
    from deploy.errors import BadData, WrongUse
    from deploy.files import holds
    from deploy.watching import cameras
    from deploy.watching.actions import NONE, Commands, Post, Snapshots

    folder = Path(source) if source and Path(source).is_dir() else None
    if folder and snapshot_dir and holds(folder, snapshot_dir):
        raise WrongUse(
            f"--snapshot-dir {snapshot_dir}: that is in {source}, where each snapshot would be a "
            "new photo: name a folder outside"
        )
    tell = _Teller(as_json)
    classifier = open_model(model, None, threads)
    steady = Steady(frames or (1 if folder else 3))
    names = {*classifier.contract.labels, NONE}
    if classifier.contract.reject_threshold is not None:
        names.add(UNKNOWN)
    commands = Commands(rules, names, tell.problem)
    keep = Snapshots(snapshot_dir, tell.problem) if snapshot_dir else None
    opener = cameras.choose(source, classifier.contract.input, fps)
    with ExitStack() as stack:
        # As a service is stopped; Ctrl-C is translated where errors are.
        before = signal.signal(signal.SIGTERM, _stop)
        stack.callback(signal.signal, signal.SIGTERM, before)
        stack.callback(commands.close)
        poster = Post(post, tell.problem) if post else None
        if poster:
            stack.callback(poster.close)
        status = _Status(tell, status_every)
        stack.callback(status.show_last)

        def react(frame: cameras.Frame, best: Prediction, label: str | None) -> None:
            of = f"  {frame.path}" if frame.path else ""
            at_best = "" if label else f"  (at best {best.label})"
            event = tell(
                "label",
                f"{best.score:6.1%}  {label or NONE}{at_best}{of}",
                label=label,
                score=best.score,
                frame=status.frames,
                file=str(frame.path) if frame.path else None,
                snapshot=keep(frame, label) if keep else None,
            )
            if poster:
                poster(event)
            commands(label)

        last: tuple[cameras.Frame, Prediction, str | None] | None = None
        for frame in stack.enter_context(closing(cameras.unbroken(opener, tell.source))):
            if isinstance(frame, BadData):
                tell.problem(str(frame))
            elif frame:
                answer = classifier.answer(frame.image, top=1)
                (best,) = answer.predictions
                status.frames += 1
                label = best.label if answer.unknown or best.score >= threshold else None
                last = frame, best, label
                if steady.changed(label):
                    react(*last)
            commands.tell_ended()
            status.show_if_due()
        if last and status.frames < steady.frames:  # a photo, or a video of a moment
            react(*last)


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (a handler's signature)
    sys.exit(0)


class _Status:
    """Counts frames and tells how many a second they are, with temperature and throttling."""

    def __init__(self, tell: _Teller, every: float) -> None:
        self.frames = 0
        self._tell, self._every = tell, every
        self._last, self._before = time.monotonic(), 0

    def show_if_due(self) -> None:
        """Tell when it is time to; never with a period of 0."""
        if self._every and time.monotonic() - self._last >= self._every:
            self.show()

    def show_last(self) -> None:
        """Tell at the end, of what there was."""
        if self._every and self.frames:
            self.show()

    def show(self) -> None:
        """Tell of the time since it was told last."""
        from deploy.system.machine import temperature, throttling

        now = time.monotonic()
        rate = (self.frames - self._before) / max(now - self._last, 1e-9)
        self._last, self._before = now, self.frames
        degrees, held_back = temperature(), throttling()
        text = f"{self.frames} frames, {rate:.1f} a second"
        text += f", {degrees:.1f} C" if degrees is not None else ""
        text += f", throttling: {held_back}" if held_back else ""
        values = {"frames": self.frames, "fps": rate}
        self._tell("status", text, **values, temperature_c=degrees, throttling=held_back)
