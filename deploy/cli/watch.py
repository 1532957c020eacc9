"""`watch`: print the label of what a camera sees each time that the label changes."""

import json
import signal
import sys
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from deploy.cli.help_groups import GENERAL, GroupedCommand, Groups
from deploy.cli.label import model_option, open_model, threads_option
from deploy.cli.numbers import Number
from deploy.errors import WrongUse
from deploy.system.counts import with_noun
from deploy.system.terminal import say

if TYPE_CHECKING:
    from deploy.classifier import Prediction
    from deploy.contract import Contract
    from deploy.watching.actions import FrameLabel

SCHEMA_VERSION = 1
_Label = TypeVar("_Label")


class Debouncer(Generic[_Label]):
    """Accepts a new label only after it came in `frames` frames in a row."""

    def __init__(self, frames: int, label: _Label) -> None:
        """Begin with `label` as the accepted one."""
        self.frames = frames
        self._label = label
        self._candidate = label
        self._count = 0

    def changed(self, label: _Label) -> bool:
        """Take the label of one more frame; return whether it becomes the accepted label."""
        if label == self._label:
            self._count = 0
            return False
        self._count = self._count + 1 if label == self._candidate else 1
        self._candidate = label
        if self._count < self.frames:
            return False
        self._label, self._count = label, 0
        return True


class _EventPrinter:
    """Prints events: as JSON lines on stdout, or labels on stdout and the rest on stderr."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, event: str, text: str, **values: Any) -> dict[str, Any]:
        """Print an event, as `text` or as JSON; return its JSON values."""
        event_time = datetime.now(UTC)
        record = {
            "schema": SCHEMA_VERSION,
            "event": event,
            "time": event_time.isoformat(),
            **values,
        }
        if self._as_json:
            say(json.dumps(record))
        else:
            say(f"{event_time.astimezone():%H:%M:%S}  {text}", err=event != "label")
        return record

    def problem(self, text: str) -> None:
        """Print a problem that does not stop the watching."""
        self("problem", text, reason=text)

    def source(self, reason: str | None) -> None:
        """Print why the source is gone, or that it is back if `reason` is None."""
        text = f"{reason}; trying again" if reason else "it is back"
        self("source", text, state="gone" if reason else "back", reason=reason)


_GROUPS: Groups = {
    "What is watched": ("--source", "--model", "--fps", "--threads"),
    "When a label counts": ("--threshold", "--frames"),
    "What follows a change": ("--on-label", "--post", "--snapshot-dir"),
    "General": ("--status-every", *GENERAL["General"]),
}


@click.command(cls=GroupedCommand, groups=_GROUPS)
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
    type=Number(0, 1),
    help="The least probability of a label; below it a frame counts as none. Does not apply to "
    "unknown.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames in a row with a new label before it counts.  [default: 3, of a folder 1]",
)
@click.option(
    "--fps",
    type=Number(min=0, max=1000, min_open=True),
    help="Classify at most this many frames a second.  [default: no limit]",
)
@click.option(
    "--on-label",
    multiple=True,
    type=click.UNPROCESSED,
    metavar="LABEL=COMMAND",
    help="Run COMMAND, without a shell, when the label changes to LABEL. LABEL may be none, and "
    "unknown of a model that rejects photos. May be given several times.",
)
@click.option("--post", metavar="URL", help="Post each change to URL as JSON.")
@click.option(
    "--snapshot-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the frame of each change in this folder.",
)
@click.option(
    "--status-every",
    default=60.0,
    show_default=True,
    type=Number(min=0),
    help="Seconds between lines on speed and temperature; 0 for no such lines.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an event.")
def watch(
    source: str | None,
    model: Path,
    threads: int,
    threshold: float,
    frames: int | None,
    fps: float | None,
    on_label: tuple[str, ...],
    post: str | None,
    snapshot_dir: Path | None,
    status_every: float,
    as_json: bool,
) -> None:
    """Print the label of what the camera sees each time that the label changes.

    The label changes when another label is the best one, and probable enough, in several frames in
    a row. A source may end before, as a photo does: then its last frame decides. The command tries
    a camera that was unplugged again until it is back. It ends at the end of a video, or when you
    stop it.
    """
    from deploy.errors import BadData
    from deploy.user_files import contains
    from deploy.watching import cameras
    from deploy.watching.actions import Commands, FrameLabel, Post, Snapshots

    if source == "":
        raise WrongUse("--source is empty: name a folder, a video, a photo or a camera")
    folder = Path(source) if source and Path(source).is_dir() else None
    if folder and snapshot_dir and contains(folder, snapshot_dir, follow=True):
        raise WrongUse(
            f"--snapshot-dir {snapshot_dir}: that is in {source}, where each snapshot would be a "
            "new photo: name a folder outside"
        )
    print_event = _EventPrinter(as_json)
    classifier = open_model(model, None, threads)
    debouncer = Debouncer(frames or (1 if folder else 3), FrameLabel())
    commands = Commands(on_label, _names(classifier.contract), print_event.problem)
    keep = Snapshots(snapshot_dir, print_event.problem) if snapshot_dir else None
    opener = cameras.choose(source, classifier.contract.input, fps)
    with ExitStack() as stack:
        # A service is stopped by SIGTERM. Ctrl-C is translated where errors are.
        previous_handler = signal.signal(signal.SIGTERM, _stop)
        stack.callback(signal.signal, signal.SIGTERM, previous_handler)
        stack.callback(commands.close)
        poster = Post(post, print_event.problem) if post else None
        if poster:
            stack.callback(poster.close)
        status = _Status(print_event, status_every)
        stack.callback(status.print_last)

        def react(frame: cameras.Frame, label: FrameLabel, best: "Prediction") -> None:
            path = f"  {frame.path}" if frame.path else ""
            at_best = f"  (at best {best.text})" if label == FrameLabel() else ""
            event = print_event(
                "label",
                f"{best.score:6.1%}  {label.text}{at_best}{path}",
                label=None if label == FrameLabel() else label.text,
                unknown=label.rejected,
                score=best.score,
                frame=status.frames,
                file=str(frame.path) if frame.path else None,
                snapshot=keep(frame, label) if keep else None,
            )
            if poster:
                poster(event)
            commands(label)

        last: tuple[cameras.Frame, FrameLabel, Prediction] | None = None
        for frame in stack.enter_context(closing(cameras.reconnecting(opener, print_event.source))):
            if isinstance(frame, BadData):
                print_event.problem(str(frame))
            elif frame:
                answer = classifier.answer(frame.image, top=1)
                (best,) = answer.predictions
                status.frames += 1
                label = FrameLabel(
                    best.label if best.score >= threshold else None, rejected=answer.rejected
                )
                last = frame, label, best
                if debouncer.changed(label):
                    react(*last)
            commands.report_ended()
            if poster:
                poster.report_changes()
            status.print_if_due()
        if last and status.frames < debouncer.frames:  # a photo, or a video of a moment
            react(*last)


def _names(contract: "Contract") -> dict[str, "FrameLabel"]:
    """Return what each name in a rule means; a class comes before the words none and unknown."""
    from deploy.classifier import UNKNOWN
    from deploy.watching.actions import NONE, FrameLabel

    names = {NONE: FrameLabel()}
    if contract.reject_threshold is not None:
        names[UNKNOWN] = FrameLabel(rejected=True)
    return names | {label: FrameLabel(label) for label in contract.labels}


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (a handler's signature)
    sys.exit(0)


class _Status:
    """Counts frames, and prints frames a second, temperature and throttling."""

    def __init__(self, print_event: _EventPrinter, period_s: float) -> None:
        self.frames = 0
        self._print_event, self._period_s = print_event, period_s
        self._last_time, self._last_frames = time.monotonic(), 0

    def print_if_due(self) -> None:
        """Print the status once a period; never with a period of 0."""
        if self._period_s and time.monotonic() - self._last_time >= self._period_s:
            self.print()

    def print_last(self) -> None:
        """Print the status of the last, incomplete period."""
        if self._period_s and self.frames:
            self.print()

    def print(self) -> None:
        """Print the status since the last call."""
        from deploy.system.machine import temperature, throttling

        end = time.monotonic()
        rate = (self.frames - self._last_frames) / max(end - self._last_time, 1e-9)
        self._last_time, self._last_frames = end, self.frames
        degrees, limits = temperature(), throttling()
        text = f"{with_noun(self.frames, 'frame')}, {rate:.1f} a second"
        text += f", {degrees:.1f} C" if degrees is not None else ""
        text += f", throttling: {limits}" if limits else ""
        values = {"frames": self.frames, "fps": rate}
        self._print_event("status", text, **values, temperature_c=degrees, throttling=limits)
