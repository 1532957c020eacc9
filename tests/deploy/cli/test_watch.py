"""`watch`: which changes of label it prints, and how it ends."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from deploy import bundle_texts, model_file
from deploy.bundle import write
from deploy.cli import commands
from deploy.cli.watch import Debouncer
from deploy.system import machine
from deploy.watching import cameras, photo_inbox
from deploy.watching.actions import FrameLabel, Snapshots
from retrain.cli import commands as laptop
from tests.helpers.deploy_fixtures import CONTRACT, LABELS, draw_photos, networks
from tests.helpers.watch_fixtures import FakeV4l2, Server, serving, without, write_film, writes

REPOSITORY = Path(__file__).resolve().parents[3]
RED, GREEN, BLUE = (200, 60, 50), (60, 180, 70), (40, 60, 200)
UNSURE = (200, 190, 50)


def watch(model: Path, *arguments: object, group: click.Group = commands) -> Result:
    words = ["watch", "--model", model, "--status-every", 0, *arguments]
    return CliRunner().invoke(group, [str(word) for word in words])


def events(text: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in text.splitlines()]
    assert all(event["schema"] == 1 and event["time"].endswith("+00:00") for event in records)
    return records


# Hysteresis


@pytest.mark.parametrize(
    ("frames", "labels", "changes"),
    [
        (1, "aabba", "a.b.a"),
        (3, "aaaaaaa", "..a...."),
        (3, "aaabaabbaabbb", "..a.........b"),
        (3, "aaabcbcbcaaa", "..a........."),
        (2, "aa--a--aa", ".a.-....a"),
        (2, "-------", "......."),
        (2, "ababab", "......"),
    ],
)
def test_a_label_changes_after_some_frames_in_a_row(frames: int, labels: str, changes: str) -> None:
    """A dash is a frame without a label, a dot one after which no change was told."""
    debouncer = Debouncer(frames, "-")
    printed = [label if debouncer.changed(label) else "." for label in labels]
    assert "".join(printed) == changes


# A video


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def film(tmp_path: Path) -> Path:
    colours = [RED] * 5 + [GREEN] * 2 + [RED] * 3 + [UNSURE] * 4 + [BLUE] * 6
    return write_film(tmp_path / "film.avi", colours)


@pytest.mark.parametrize("group", [laptop, commands], ids=["retrain", "deploy"])
def test_changes_of_a_video_are_printed(group: click.Group, model: Path, film: Path) -> None:
    result = watch(model, "--source", film, "--threshold", 0.7, group=group)
    assert result.exit_code == 0, result.output
    assert [line.split("  ")[2] for line in result.stdout.splitlines()] == ["red", "none", "blue"]
    assert result.stdout.splitlines()[1].endswith("  none  (at best red)")
    assert result.stderr == ""


def test_json_tells_the_same_to_a_program(model: Path, film: Path, tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    options = ("--source", film, "--threshold", 0.7, "--json", "--snapshot-dir", shots)
    result = watch(model, *options)
    records = events(result.stdout)
    assert [(event["event"], event["label"], event["frame"]) for event in records] == [
        ("label", "red", 3),
        ("label", None, 13),
        ("label", "blue", 17),
    ]
    assert [event["score"] > 0.7 for event in records] == [True, False, True]
    assert [event["file"] for event in records] == [None] * 3
    assert [Path(event["snapshot"]).parent for event in records] == [shots] * 3
    assert len(list(shots.iterdir())) == 3
    for event, colour in zip(records, (RED, UNSURE, BLUE), strict=True):
        with Image.open(event["snapshot"]) as image:
            pixel = image.getpixel((32, 24))
        assert max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 12  # type: ignore[arg-type]


def test_frames_and_fps_decide_what_counts(model: Path, film: Path) -> None:
    every_frame = watch(model, "--source", film, "--frames", 1, "--threshold", 0.7, "--json")
    names = [event["label"] for event in events(every_frame.stdout)]
    assert names == ["red", LABELS[1], "red", None, "blue"]
    few = watch(model, "--source", film, "--frames", 1, "--fps", 1, "--json")
    assert [event["frame"] for event in events(few.stdout)] == [1, 2]


def test_a_change_is_posted_and_runs_its_command(
    model: Path, film: Path, server: Server, tmp_path: Path
) -> None:
    rules = [f"{label}={writes(tmp_path / 'ran')} {label}" for label in ("none", "blue")]
    options = ["--threshold", 0.7, "--json", "--post", server.url]
    options += ["--on-label", rules[0], "--on-label", rules[1]]
    result = watch(model, "--source", film, *options)
    assert result.exit_code == 0, result.output
    assert [value for _, value in server.got] == events(result.stdout)
    ran = (tmp_path / "ran").read_text().splitlines()
    assert sorted(ran) == ["['blue']", "['none']"]  # side by side


def test_unknown_is_a_label_whatever_its_score(film: Path, tmp_path: Path) -> None:
    """UNSURE photos have two labels of about 40%: below the model's own threshold here."""
    contract = replace(CONTRACT, reject_threshold=0.7)
    rejecting = tmp_path / "rejecting.tflite"
    rejecting.write_bytes(model_file.pack(networks().uint8, contract))
    rule = f"unknown={writes(tmp_path / 'ran')} gone"
    options = ("--threshold", 0.9, "--json", "--on-label", rule)
    result = watch(rejecting, "--source", film, *options)
    assert result.exit_code == 0, result.output
    records = events(result.stdout)
    labels = [event["label"] for event in records if event["event"] == "label"]
    assert "unknown" in labels
    assert all(event["score"] < 0.9 for event in records if event["label"] == "unknown")
    assert (tmp_path / "ran").read_text() == "['gone']\n"


@pytest.mark.parametrize(
    ("reject_threshold", "unsure"), [(0.7, ("unknown", True)), (None, (None, False))]
)
def test_classes_may_be_called_unknown_and_none(
    tmp_path: Path, reject_threshold: float | None, unsure: tuple[str | None, bool]
) -> None:
    """The classes have their commands; a rejected frame and one without a label have not."""
    labels = ("red", "unknown", "none", "grey")
    contract = replace(CONTRACT, labels=labels, reject_threshold=reject_threshold)
    named = tmp_path / "named.tflite"
    named.write_bytes(model_file.pack(networks().uint8, contract))
    film = write_film(tmp_path / "film.avi", [GREEN] * 4 + [UNSURE] * 4 + [BLUE] * 4)
    log = tmp_path / "log"
    rules = [("--on-label", f"{label}={writes(log)} {label}") for label in ("unknown", "none")]
    result = watch(named, "--source", film, "--threshold", 0.7, "--json", *rules[0], *rules[1])
    assert result.exit_code == 0, result.output
    events_of_labels = [(event["label"], event["unknown"]) for event in events(result.stdout)]
    assert events_of_labels == [("unknown", False), unsure, ("none", False)]
    assert sorted(log.read_text().splitlines()) == ["['none']", "['unknown']"]


def test_what_goes_wrong_beside_does_not_stop_it(model: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = ("--post", "http://127.0.0.1:9/", "--snapshot-dir", tmp_path / "file" / "x", "--json")
    result = watch(model, "--source", film, "--threshold", 0.7, *options)
    assert result.exit_code == 0
    records = events(result.stdout)
    assert [event["label"] for event in records if event["event"] == "label"] == [
        "red",
        None,
        "blue",
    ]
    problems = " ".join(event["reason"] for event in records if event["event"] == "problem")
    assert "this frame is not kept" in problems
    assert "not posted" in problems


def test_the_status_tells_speed_and_temperature(
    model: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "temperature", lambda: 61.5)
    monkeypatch.setattr(machine, "throttling", lambda: "throttled now")
    result = watch(model, "--source", film, "--status-every", 0.0001)
    lines = [line.split("  ", 1)[1] for line in result.stderr.splitlines()]
    assert len(lines) > 3
    assert lines[-1].startswith("20 frames, ")
    assert lines[-1].endswith(" a second, 61.5 C, throttling: throttled now")
    result = watch(model, "--source", film, "--status-every", 1000, "--json")
    (status,) = (event for event in events(result.stdout) if event["event"] == "status")
    assert (status["frames"], status["temperature_c"]) == (20, 61.5)
    assert status["fps"] > 0
    assert status["throttling"] == "throttled now"


# A camera


def test_a_camera_comes_and_goes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(FakeV4l2):
        def VideoCapture(self, *arguments: Any) -> Any:  # noqa: N802
            if not self.openings:
                raise KeyboardInterrupt
            return self.open(*arguments)

    monkeypatch.setitem(sys.modules, "cv2", Interrupted(4, 0, 0, 3))
    without(monkeypatch, "picamera2")
    monkeypatch.setattr(cameras, "FIRST_PAUSE_S", 0.001)
    result = watch(model, "--json")
    assert result.exit_code == 130
    assert result.stderr == "\nError: interrupted\n"
    records = events(result.stdout)
    assert [event.get("label") or event.get("state") for event in records] == [
        "red",
        "gone",
        "back",
        "gone",
    ]


def test_no_camera_is_an_error_that_says_what_to_do(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", FakeV4l2(0))
    without(monkeypatch, "picamera2")
    result = watch(model)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "Error: /dev/video0: no camera" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--on-label", "dog=echo"), "--on-label dog=echo: "),
        (("--on-label", "unknown=echo"), "--on-label unknown=echo: "),
        (("--post", "x"), "--post x: "),
        (("--source", "nowhere"), "nowhere"),
    ],
)
def test_wrong_use_is_told_before_it_begins(
    model: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = watch(model, "--source", tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {words}" in result.stderr


# A folder, and how it ends


@pytest.fixture
def running(model: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return the process that watches the folder `inbox`."""
    with watching_inbox(model, tmp_path) as process:
        yield process


@contextmanager
def watching_inbox(model: Path, tmp_path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start the process that watches the folder `inbox`; kill it at the end."""
    (tmp_path / "inbox").mkdir()
    options = ["--source", "inbox", "--json", *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy", "watch", "--model", str(model), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGTERM, 0, ""), (signal.SIGINT, 130, "\nError: interrupted\n")],
)
def test_a_folder_fills_until_it_is_stopped(
    running: subprocess.Popen[str], number: int, code: int, message: str, tmp_path: Path
) -> None:
    assert running.stdout
    drawn = draw_photos(tmp_path)
    for label in ("blue", "red"):
        content = drawn[label].read_bytes()
        path = tmp_path / "inbox" / drawn[label].name
        path.write_bytes(content[:-50])  # half-written
        time.sleep(2 * photo_inbox.POLL_S)
        path.write_bytes(content)
        record = json.loads(running.stdout.readline())
        assert (record["label"], record["file"]) == (label, f"inbox/{path.name}")
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (code, message)
    assert [event["event"] for event in events(out)] == ["status"]


def test_it_ends_when_a_failed_post_finds_that_nobody_reads(
    model: Path, server: Server, tmp_path: Path
) -> None:
    server.ready.clear()
    server.status = 500
    with watching_inbox(model, tmp_path, "--post", server.url) as process:
        red = draw_photos(tmp_path)["red"]
        shutil.copy(red, tmp_path / "inbox" / red.name)
        assert process.stdout
        assert json.loads(process.stdout.readline())["label"] == "red"
        process.stdout.close()
        server.ready.set()
        assert process.wait(30) == 141
        assert process.stderr
        assert process.stderr.read() == ""
        process.stdout = None


def test_a_bad_photo_is_a_problem_and_not_the_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw_photos(tmp_path)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "bad.jpg").write_bytes(b"\xff\xd8\xff no photo")
    (tmp_path / "inbox" / "red.jpg").write_bytes(drawn["red"].read_bytes())
    looks = iter(range(3))

    def sleep(_: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("deploy.watching.photo_inbox.time.sleep", sleep)
    monkeypatch.setattr(photo_inbox, "BAD_AFTER_S", 0)
    shots = tmp_path / "shots"
    options = ("--source", tmp_path / "inbox", "--json", "--snapshot-dir", shots)
    by_event = {event["event"]: event for event in events(watch(model, *options).stdout)}
    assert "bad.jpg: the file is damaged" in by_event["problem"]["reason"]
    assert by_event["label"]["label"] == "red"
    assert Path(by_event["label"]["snapshot"]).read_bytes() == drawn["red"].read_bytes()


def test_a_source_without_a_name_is_not_the_current_folder(model: Path) -> None:
    result = CliRunner().invoke(commands, ["watch", "--model", str(model), "--source", ""])
    assert result.exit_code == 2
    assert "--source is empty" in result.stderr


def test_snapshots_do_not_go_into_the_folder_that_is_watched(model: Path, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    options = ["--source", tmp_path / "inbox", "--snapshot-dir", tmp_path / "inbox" / "kept"]
    result = CliRunner().invoke(commands, ["watch", "--model", str(model), *map(str, options)])
    assert result.exit_code == 2
    assert "each snapshot would be a new photo" in result.stderr


@pytest.mark.parametrize("snapshots", ["disk", "disk/kept"])
def test_a_link_does_not_lead_snapshots_into_the_folder_that_is_watched(
    model: Path, tmp_path: Path, snapshots: str
) -> None:
    for name in ("inbox/sub", "disk"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "inbox" / "sub" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "circle").symlink_to(tmp_path / "inbox")
    options = ("--source", tmp_path / "inbox", "--snapshot-dir", tmp_path / snapshots)
    result = watch(model, *options)
    assert result.exit_code == 2
    assert "each snapshot would be a new photo" in result.stderr


# The service of the bundle


def test_the_service_calls_it_as_it_is(model: Path, tmp_path: Path, film: Path) -> None:
    """The arguments of ExecStart exist, and with them the program of a bundle watches."""
    folder = write(model, tmp_path / "bundle").folder
    (line,) = (x for x in bundle_texts.SERVICE.splitlines() if x.startswith("ExecStart="))
    *program, classify, command, model_option, name, options = shlex.split(line)
    words = [classify, command, model_option, name]
    assert program == ["ExecStart=/usr/bin/env", "env/bin/python"]
    assert options == "$WATCH"
    context = commands.commands["watch"].make_context("watch", words[2:])
    assert words[:2] == ["classify.pyz", "watch"]
    assert context.params["model"] == Path("model.tflite")
    result = subprocess.run(
        [sys.executable, *words, "--source", film, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    labels = [event["label"] for event in events(result.stdout) if event["event"] == "label"]
    assert labels[0] == "red"
    assert labels[-1] == "blue"


# What ends at once


@pytest.mark.parametrize("options", [[], ["--frames", "5"], ["--threshold", "1"]])
def test_a_photo_has_a_label_without_opencv(
    model: Path, drawn: dict[str, Path], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    without(monkeypatch, "cv2", "picamera2")
    for label, photo in drawn.items():
        result = watch(model, "--source", photo, "--json", *options)
        assert result.exit_code == 0, result.output
        (event,) = events(result.stdout)
        assert (event["label"], event["file"]) == (None if "1" in options else label, str(photo))


def test_a_photo_that_is_damaged_is_named(model: Path, tmp_path: Path) -> None:
    photo = tmp_path / "half.png"
    Image.new("RGB", (64, 64), RED).save(photo)
    photo.write_bytes(photo.read_bytes()[:60])
    result = watch(model, "--source", photo)
    assert result.exit_code == 3
    assert f"Error: {photo}: the file is damaged" in result.stderr


def test_a_film_of_two_frames_has_a_label(model: Path, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.avi", [BLUE] * 2)
    result = watch(model, "--source", film, "--json")
    assert [event["label"] for event in events(result.stdout)] == ["blue"]


def test_an_animation_is_a_video(tmp_path: Path) -> None:
    first, *rest = (Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=rest)
    first.save(tmp_path / "still.gif")
    openers = [
        cameras.choose(str(tmp_path / f"{name}.gif"), CONTRACT.input, None)
        for name in ("moving", "still")
    ]
    assert [opener.func.__name__ for opener in openers] == ["video", "photo"]  # type: ignore[attr-defined]


def test_a_snapshot_has_a_plain_name(model: Path, drawn: dict[str, Path], tmp_path: Path) -> None:
    photo = tmp_path / "x.\x1b[2J"
    photo.write_bytes(drawn["red"].read_bytes())
    result = watch(model, "--source", tmp_path, "--snapshot-dir", tmp_path / "inside")
    assert result.exit_code == 2
    with Image.open(photo) as image:
        frame = cameras.Frame(image, photo)
        snapshot = Snapshots(tmp_path / "kept", pytest.fail)(frame, FrameLabel("r\x1b\u202eed"))
    assert snapshot
    assert Path(snapshot).name.isprintable()
