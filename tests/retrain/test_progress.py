"""Progress: seconds a stage, a live bar on a terminal, plain lines elsewhere, all on stderr."""

import json
import os
import sys
import threading
from collections.abc import Callable
from io import StringIO

import pytest

from retrain import progress
from retrain.progress import Progress


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def perf_counter(self) -> float:
        """Return the time, in seconds."""
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_stages_are_timed_and_add_up(clock: Clock) -> None:
    shown = Progress()
    for seconds in (1.0, 2.5):
        with shown.stage("scan"):
            clock.seconds += seconds

    def broken() -> None:
        with shown.stage("train"):
            clock.seconds += 4
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        broken()
    assert shown.seconds == {"scan": 3.5, "train": 4.0}


def test_the_seconds_of_stages_and_their_sum_are_printed(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress()
    for name, seconds in (("scan", 0.5), ("train", 2.0)):
        with shown.stage(name):
            clock.seconds += seconds
    shown.show_seconds()
    assert capsys.readouterr().err == "seconds: scan 0.5, train 2.0; 2.5 in all\n"


def test_everything_is_written_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().info("hello")
    Progress().warn("few photos")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "hello\nWarning: few photos\n"


def test_texts_are_rewritten(capsys: pytest.CaptureFixture[str]) -> None:
    """As on the command line, where a text names options."""
    shown = Progress("json", rewrite=lambda text: text.replace("`seed`", "--seed"))
    shown.info("another `seed`")
    shown.warn("`seed` 0")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["text"] for event in events] == ["another --seed", "--seed 0"]


def test_lines_come_every_five_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress().bar("bottlenecks", 100, "photos") as advance:
        for _ in range(10):
            clock.seconds += 2
            advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "bottlenecks 30/100 photos (5/s, 14 s left)",
        "bottlenecks 60/100 photos (5/s, 8 s left)",
        "bottlenecks 90/100 photos (5/s, 2 s left)",
        "bottlenecks 100/100 photos (5/s)",
    ]


def test_a_run_that_resumes_has_the_rate_of_what_is_new(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress().bar("training", 100, "steps", 60) as advance:
        for _ in range(4):
            clock.seconds += 2
            advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "training 90/100 steps (5/s, 2 s left)",
        "training 100/100 steps (5/s)",
    ]


def on_terminal(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> str:
    """Return what a terminal gets on stderr while `work` runs."""
    ours, theirs = os.openpty()
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 4096):
                chunks.append(chunk)
        except OSError:  # Linux's way to say that the other side is closed
            pass

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            work()
    finally:
        reader.join()
        os.close(ours)
    return b"".join(chunks).decode()


def test_a_terminal_gets_a_live_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with Progress().bar("bottlenecks", 30, "photos") as advance:
            for _ in range(3):
                advance(10)

    shown = on_terminal(monkeypatch, work)
    assert "bottlenecks" in shown
    assert "30/30" in shown
    assert "photos/s" in shown
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_a_live_bar_ends_where_its_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with pytest.raises(OSError, match="broken"), Progress().bar("scoring", 0, "photos"):
            raise OSError("broken")

    assert on_terminal(monkeypatch, work).rstrip().endswith("\x1b[?25h")


def test_no_terminal_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress().bar("scoring", 2, "photos") as advance:
        advance(2)
    assert stream.getvalue().startswith("scoring 2/2 photos (")
    assert "\x1b" not in stream.getvalue()
