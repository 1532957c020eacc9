"""Test the files that `retrain train` writes, their places, and its messages."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.data import split
from retrain.training.fit_head import StepReport, fit_head
from tests.helpers.photos import LABELS, PER_LABEL_IN_TINY
from tests.helpers.runs import STEPS, Invoke, Run, Train, shards, tensors

DISTORTIONS = (
    ("flip_left_right",),
    ("random_crop", 20),
    ("random_scale", 20),
    ("random_brightness", 20),
    ("random-contrast", 20),
    ("random-saturation", 20),
)


def test_paths_are_honoured_exactly(train: Train, tmp_path: Path) -> None:
    paths = {
        name: tmp_path / name / "a_b" / name
        for name in (
            "output_graph", "output_labels", "summaries_dir", "checkpoint_path", "saved_model_dir",
            "intermediate_output_graphs_dir",
        )
    }  # fmt: skip
    options: list[object] = [text for name, path in paths.items() for text in (f"--{name}", path)]
    options += ["--intermediate_store_frequency", 10, "--final_tensor_name", "my_result"]
    run = train(*options)
    own = {"output_graph.pb", "output_labels.txt", "metrics.json", "contract.json", "manifest.csv"}
    own.add("predictions.parquet")
    assert {path.name for path in run.folder.iterdir()} - {".lock"} == own
    for name in ("output_graph", "output_labels"):
        (mine,) = run.folder.glob(f"{name}.*")
        assert paths[name].read_bytes() == mine.read_bytes()
    assert paths["output_labels"].read_text("utf-8").splitlines() == list(LABELS)
    assert len(list(paths["summaries_dir"].glob("*/*/events.out.tfevents"))) == 3
    assert (paths["saved_model_dir"] / "saved_model.pb").is_file()
    with np.load(paths["checkpoint_path"]) as checkpoint:
        assert checkpoint["step"] == STEPS
    stored = paths["intermediate_output_graphs_dir"]
    assert {path.name for path in stored.iterdir()} == {
        f"intermediate_{step}.pb" for step in (10, 20, 30)
    }
    assert json.loads((run.folder / "contract.json").read_text("utf-8"))["output"] == "my_result"
    for path in (paths["output_graph"], *stored.iterdir()):
        last = tf_graph.read(path).node[-1]
        assert (last.name, last.op) == ("my_result", "Softmax")
    assert len({path.read_bytes() for path in stored.iterdir()}) == 3


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_saved_model_replaces_nothing(is_folder: bool, tmp_path: Path, invoke: Invoke) -> None:
    target = tmp_path / "saved"
    mine = target / "mine.txt" if is_folder else target
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("kept")
    # There are no such photos: were they looked for first, that would be said.
    result = invoke("train", "none", "--saved_model_dir", target, "--output-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert "--saved-model-dir" in result.stderr
    assert (list(tmp_path.iterdir()), mine.read_text()) == ([target], "kept")


def test_intermediate_graphs_are_in_the_run_if_not_told_where(train: Train, base: Run) -> None:
    run = train("--intermediate_store_frequency", 15)
    names = sorted(path.name for path in (run.folder / "intermediate").iterdir())
    assert names == ["intermediate_15.pb", "intermediate_30.pb"]
    assert not (base.folder / "intermediate").exists()


def test_summaries_are_added_to_never_deleted(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    for _ in range(2):
        train("--summaries_dir", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    runs = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(runs) == 2
    assert all((run / "train" / "events.out.tfevents").is_file() for run in runs)


def test_resume_goes_on_where_a_run_was_killed(
    base: Run, train: Train, photos: Path, cache_dir: Path, invoke: Invoke,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def killed(*arguments: Any) -> Iterator[StepReport]:
        for report in fit_head(*arguments):
            if report.step > STEPS / 2:
                raise KeyboardInterrupt
            yield report

    options = ("--cache-dir", cache_dir, "--output-dir", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("retrain.training.train_head.fit_head", killed)
        result = invoke("train", photos, *options, "--how_many_training_steps", STEPS)
    assert result.exit_code == 130
    assert f"to go on from step {STEPS // 2}: the same command with --resume" in result.stderr
    run = train("--resume", folder=tmp_path)
    assert f"going on at step {STEPS // 2}, from {tmp_path / 'checkpoint.npz'}" in run.result.stderr
    newest = max((tmp_path / "summaries").iterdir())
    assert min(tensors(newest / "train", "accuracy")) == STEPS // 2
    assert run.metrics["graph_sha256"] == base.metrics["graph_sha256"]


def test_bottlenecks_are_kept_where_asked_for(
    train: Train, tiny: Path, cache_dir: Path, tmp_path: Path
) -> None:
    before = sorted((cache_dir / "bottlenecks").rglob("*"))
    run = train("--bottleneck_dir", tmp_path / "there", source=tiny)
    assert run.metrics["analysed"] == 2 * PER_LABEL_IN_TINY
    (rows,) = shards(tmp_path / "there").values()
    assert [view for _, view in rows] == [0] * 2 * PER_LABEL_IN_TINY
    assert sorted((cache_dir / "bottlenecks").rglob("*")) == before
    shutil.copytree(cache_dir / "backbones", tmp_path / "cache" / "backbones")
    run = train("--cache-dir", tmp_path / "cache", source=tiny)
    assert run.metrics["analysed"] == 2 * PER_LABEL_IN_TINY
    assert shards(tmp_path / "cache" / "bottlenecks") == shards(tmp_path / "there")


def test_each_distortion_reaches_the_views_of_training_photos(
    train: Train, tiny: Path, backbone: Backbone, tmp_path: Path
) -> None:
    fingerprints, graphs = set(), {train(source=tiny).metrics["graph_sha256"]}
    for name, *text in DISTORTIONS:
        folder = tmp_path / name
        options = (f"--{name}", *text, "--views", 2, "--bottleneck_dir", folder)
        run = train(*options, source=tiny)
        training = {photo.digest for photo, where in run.manifest if where == split.TRAINING}
        assert len(training) < 2 * PER_LABEL_IN_TINY
        assert run.metrics["analysed"] == 2 * PER_LABEL_IN_TINY + 2 * len(training)
        caches = shards(folder)
        photos = caches.pop(backbone.fingerprint)
        ((fingerprint, views),) = caches.items()
        assert set(photos) == {(photo.digest, 0) for photo, _ in run.manifest}
        assert set(views) == {(digest, view) for digest in training for view in (1, 2)}
        assert any(view != photos[digest, 0] for (digest, _), view in views.items())
        fingerprints.add(fingerprint)
        graphs.add(run.metrics["graph_sha256"])
    assert (len(fingerprints), len(graphs)) == (6, 7)
    again = train(*options, source=tiny)
    assert again.metrics["analysed"] == 0
    assert again.metrics["graph_sha256"] == run.metrics["graph_sha256"]


def test_a_class_may_bear_any_name(train: Train, photos: Path, tmp_path: Path) -> None:
    names = ("none", "training", "unknown")
    for name, label in zip(names, LABELS, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for path in sorted((photos / label).iterdir())[:6]:
            shutil.copy(path, tmp_path / "photos" / name)
    run = train(source=tmp_path / "photos")
    assert list(run.metrics["test"]["per_class"]) == list(names)
    assert run.metrics["photos"] == dict.fromkeys(names, 6)
    assert set(run.metrics["split"]) == set(split.SPLITS)


@pytest.mark.parametrize("level", ["DEBUG", "WARN", "fatal"])
def test_verbosity_decides_what_is_said(level: str, train: Train, tiny: Path) -> None:
    lines = train("--logging_verbosity", level, source=tiny).result.stderr.splitlines()
    warnings = [line for line in lines if line.startswith("Warning: ")]
    assert bool(warnings) == (level != "fatal")
    assert (len(lines) > len(warnings)) == (level == "DEBUG")


@pytest.mark.parametrize("level", ["info", "warn"])
def test_progress_as_json_is_an_event_a_line(level: str, train: Train, tiny: Path) -> None:
    run = train("--progress", "json", "--logging_verbosity", level, source=tiny)
    events = [json.loads(line) for line in run.result.stderr.splitlines()]
    kinds = {event["event"] for event in events}
    if level == "warn":
        assert kinds == {"warning"}
        return
    assert kinds == {"info", "warning", "stage", "step", "progress", "seconds"}
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["scan", "backbone", "bottlenecks", "train", "assess", "export"]
    assert stages == list(run.metrics["seconds"])
    steps = [event for event in events if event["event"] == "step"]
    assert steps[0]["step"] == 0
    assert set(steps[0]) == {"event", "step", "train", "validation", "learning_rate"}
    assert set(steps[0]["train"]) == {"accuracy", "cross_entropy"}
    last = [event for event in events if event["event"] == "progress"][-1]
    assert (last["task"], last["done"], last["total"]) == ("training", STEPS, STEPS)


def test_a_new_process_says_only_json(
    tiny: Path, cache_dir: Path, backbone: Backbone, tmp_path: Path
) -> None:
    assert backbone.graph_path.is_relative_to(cache_dir)  # so it is prepared already
    options = ("--cache-dir", cache_dir, "--bottleneck_dir", tmp_path / "b", "--progress", "json")
    arguments = ("train", tiny, *options, "--output-dir", tmp_path, "--how_many_training_steps", 2)
    process = subprocess.run(
        [sys.executable, "-m", "retrain", *map(str, arguments)],
        capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert [line for line in process.stderr.splitlines() if not line.startswith('{"event": ')] == []


def test_metrics_name_a_hundred_files_left_out_and_failed_csv_all(
    tiny: Path, train: Train, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(tiny, photos)
    names = {f"broken, {number}.jpg" for number in range(130)}
    for name in names:
        (photos / LABELS[0] / name).write_bytes(b"no photo")
    run = train(source=photos)
    with (run.folder / "failed.csv").open(newline="") as stream:
        failed = {Path(row["path"]).name: row for row in csv.DictReader(stream)}
    assert names < failed.keys()
    assert {(failed[name]["label"], failed[name]["reason"]) for name in names} == {
        (LABELS[0], failed["broken, 0.jpg"]["reason"])
    }
    assert (len(run.metrics["bad"]), run.metrics["bad_count"]) == (100, len(failed))


def test_a_name_that_is_not_utf8_does_not_end_the_run(
    tiny: Path, train: Train, tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "photos")
    (tmp_path / "photos" / LABELS[0] / os.fsdecode(b"\xff.png")).touch()
    assert len(train(source=tmp_path / "photos").metrics["bad"]) == 2
