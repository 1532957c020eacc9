"""What `retrain train` leaves behind: files where they were asked for, and figures that agree."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from conftest import LABELS, Invoke
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from retrain import graph, split
from retrain.backbones import Backbone
from retrain.dataset import Photo, read_manifest
from retrain.fit import Evaluation, fit
from retrain.head import Floats, Head, softmax
from retrain.scores import expected_calibration_error, fit_temperature

STEPS = 40
EACH_IN_TINY = 4
DISTORTIONS = (
    ("flip_left_right",),
    ("random_crop", 20),
    ("random_scale", 20),
    ("random_brightness", 20),
)


@dataclass(frozen=True)
class Run:
    """A run that is over."""

    folder: Path
    result: Result

    @property
    def metrics(self) -> Any:
        """What metrics.json holds."""
        return json.loads((self.folder / "metrics.json").read_text("utf-8"))

    @property
    def manifest(self) -> list[tuple[Photo, str]]:
        """Each photo with its split."""
        return read_manifest(self.folder / "manifest.csv")


Train = Callable[..., Run]


@pytest.fixture(scope="module")
def train(
    photos: Path, cache_dir: Path, invoke: Invoke, tmp_path_factory: pytest.TempPathFactory
) -> Train:
    """Return what runs `retrain train` for a few steps, in a new folder unless told another."""

    def run(*options: object, source: Path = photos, folder: Path | None = None) -> Run:
        folder = folder or tmp_path_factory.mktemp("run")
        where = ("--cache-dir", cache_dir, "--output-dir", folder)
        result = invoke("train", source, *where, "--how_many_training_steps", STEPS, *options)
        assert result.exit_code == 0, result.output
        return Run(folder, result)

    return run


@pytest.fixture(scope="module")
def base(train: Train) -> Run:
    return train()


@pytest.fixture(scope="module")
def tiny(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two classes with four photos each, and a file that is no photo."""
    root = tmp_path_factory.mktemp("tiny")
    for label in LABELS[:2]:
        (root / label).mkdir()
        for path in sorted((photos / label).iterdir())[:EACH_IN_TINY]:
            shutil.copy(path, root / label)
    (root / LABELS[0] / "empty.png").touch()
    return root


@pytest.fixture(scope="module")
def mixed(photos: Path, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run on photos of which a third has the label of another class."""
    root = tmp_path_factory.mktemp("mixed")
    for place, label in enumerate(LABELS):
        for i, path in enumerate(sorted((photos / label).iterdir())):
            folder = root / LABELS[(place + (i % 3 == 0)) % len(LABELS)]
            folder.mkdir(exist_ok=True)
            shutil.copy(path, folder / f"{place}-{path.name}")
    saved = tmp_path_factory.mktemp("saved") / "model"
    options = ("--testing_percentage", 30, "--validation_percentage", 20, "--seed", 1)
    return train(*options, "--saved_model_dir", saved, source=root)


def tensors(folder: Path, tag: str) -> dict[int, npt.NDArray[Any]]:
    """Return what TensorBoard has under `tag`, by step."""
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload().Tensors(tag)
    return {event.step: make_ndarray(event.tensor_proto) for event in events}


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
        last = graph.read(path).node[-1]
        assert (last.name, last.op) == ("my_result", "Softmax")
    assert len({path.read_bytes() for path in stored.iterdir()}) == 3


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_saved_model_replaces_nothing(is_folder: bool, tmp_path: Path, invoke: Invoke) -> None:
    taken = tmp_path / "saved"
    mine = taken / "mine.txt" if is_folder else taken
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("kept")
    # There are no such photos: were they looked for first, that would be said.
    result = invoke("train", "none", "--saved_model_dir", taken, "--output-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert "--saved-model-dir" in result.stderr
    assert (list(tmp_path.iterdir()), mine.read_text()) == ([taken], "kept")


def test_intermediate_graphs_are_in_the_run_if_not_told_where(train: Train, base: Run) -> None:
    run = train("--intermediate_store_frequency", 15)
    found = sorted(path.name for path in (run.folder / "intermediate").iterdir())
    assert found == ["intermediate_15.pb", "intermediate_30.pb"]
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
    def killed(*arguments: Any) -> Iterator[Evaluation]:
        for each in fit(*arguments):
            if each.step > STEPS / 2:
                raise KeyboardInterrupt
            yield each

    options = ("--cache-dir", cache_dir, "--output-dir", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("retrain.learn.fit", killed)
        result = invoke("train", photos, *options, "--how_many_training_steps", STEPS)
    assert result.exit_code == 130
    run = train("--resume", folder=tmp_path)
    assert f"going on at step {STEPS // 2}, from {tmp_path / 'checkpoint.npz'}" in run.result.stderr
    newest = max((tmp_path / "summaries").iterdir())
    assert min(tensors(newest / "train", "accuracy")) == STEPS // 2
    assert run.metrics["graph_sha256"] == base.metrics["graph_sha256"]


def shards(folder: Path) -> dict[str, dict[tuple[bytes, int], Any]]:
    """Return the bottlenecks in each cache below `folder`, by digest and view."""
    found: dict[str, dict[tuple[bytes, int], Any]] = {}
    for path in folder.glob("*/shard-*.parquet"):
        for row in pq.read_table(path).to_pylist():
            found.setdefault(path.parent.name, {})[row["digest"], row["view"]] = row["bottleneck"]
    return found


def test_bottlenecks_are_kept_where_asked_for(
    train: Train, tiny: Path, cache_dir: Path, tmp_path: Path
) -> None:
    before = sorted(cache_dir.rglob("*"))
    run = train("--bottleneck_dir", tmp_path / "there", source=tiny)
    assert run.metrics["analysed"] == 2 * EACH_IN_TINY
    (rows,) = shards(tmp_path / "there").values()
    assert [view for _, view in rows] == [0] * 2 * EACH_IN_TINY
    assert sorted(cache_dir.rglob("*")) == before
    shutil.copytree(cache_dir / "backbones", tmp_path / "cache" / "backbones")
    run = train("--cache-dir", tmp_path / "cache", source=tiny)
    assert run.metrics["analysed"] == 2 * EACH_IN_TINY
    assert shards(tmp_path / "cache" / "bottlenecks") == shards(tmp_path / "there")


def test_each_distortion_reaches_the_views_of_training_photos(
    train: Train, tiny: Path, backbone: Backbone, tmp_path: Path
) -> None:
    fingerprints, graphs = set(), {train(source=tiny).metrics["graph_sha256"]}
    for name, *text in DISTORTIONS:
        folder = tmp_path / name
        options = (f"--{name}", *text, "--views", 2, "--bottleneck_dir", folder)
        first, second = (train(*options, source=tiny) for _ in range(2))
        training = {photo.digest for photo, where in first.manifest if where == split.TRAINING}
        assert len(training) < 2 * EACH_IN_TINY
        assert first.metrics["analysed"] == 2 * EACH_IN_TINY + 2 * len(training)
        assert second.metrics["analysed"] == 0
        assert second.metrics["graph_sha256"] == first.metrics["graph_sha256"]
        caches = shards(folder)
        photos = caches.pop(backbone.fingerprint)
        ((fingerprint, views),) = caches.items()
        assert set(photos) == {(photo.digest, 0) for photo, _ in first.manifest}
        assert set(views) == {(digest, view) for digest in training for view in (1, 2)}
        assert any(found != photos[digest, 0] for (digest, _), found in views.items())
        fingerprints.add(fingerprint)
        graphs.add(first.metrics["graph_sha256"])
    assert (len(fingerprints), len(graphs)) == (4, 5)


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "warn"])
def test_verbosity_decides_what_is_said(level: str, train: Train, tiny: Path) -> None:
    lines = train("--logging_verbosity", level, source=tiny).result.stderr.splitlines()
    warnings = [line for line in lines if line.startswith("Warning: ")]
    assert bool(warnings) == (level not in ("ERROR", "FATAL"))
    assert (len(lines) > len(warnings)) == (level in ("DEBUG", "INFO"))


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
    done = subprocess.run(
        [sys.executable, "-m", "retrain", *map(str, arguments)],
        capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if not line.startswith('{"event": ')] == []


def test_a_name_that_is_not_utf8_does_not_end_the_run(
    tiny: Path, train: Train, tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "photos")
    (tmp_path / "photos" / LABELS[0] / os.fsdecode(b"\xff.png")).touch()
    assert len(train(source=tmp_path / "photos").metrics["bad"]) == 2


def test_figures_of_the_test_agree(mixed: Run) -> None:
    metrics = mixed.metrics
    test, labels = metrics["test"], metrics["labels"]
    confusion = np.array(test["confusion_matrix"])
    assert labels == list(LABELS) == list(test["per_class"])
    assert test["total"] == metrics["split"]["testing"] == confusion.sum()
    assert test["right"] == confusion.trace() < test["total"]
    assert test["accuracy"] == test["right"] / test["total"]
    assert test["interval95"][0] < test["accuracy"] < test["interval95"][1]
    assert metrics["accuracy"]["testing"].items() <= test.items()
    wrong = test["misclassified"]
    assert len(wrong) == test["total"] - test["right"] == len({each["path"] for each in wrong})
    missed = Counter((each["true"], each["predicted"]) for each in wrong)
    for row, true in enumerate(labels):
        found = test["per_class"][true]
        assert found["support"] == confusion[row].sum()
        assert found["recall"] == confusion[row, row] / confusion[row].sum()
        assert found["precision"] == confusion[row, row] / confusion[:, row].sum()
        assert found["f1"] == pytest.approx(2 / (1 / found["recall"] + 1 / found["precision"]))
        for column, predicted in enumerate(labels):
            if row != column:
                assert missed[true, predicted] == confusion[row, column]
    manifest = {str(photo.path): (photo.label, name) for photo, name in mixed.manifest}
    for each in wrong:
        assert manifest[each["path"]] == (each["true"], split.TESTING)
        assert 1 >= each["probability"] >= each["runner_up_probability"] >= 0
        assert each["runner_up"] in set(labels) - {each["predicted"]}
    assert metrics["photos"] == Counter(label for label, _ in manifest.values())
    assert metrics["split"] == Counter(name for _, name in manifest.values())


def test_figures_are_those_of_the_head_divided_by_its_temperature(
    mixed: Run, cache_dir: Path, backbone: Backbone
) -> None:
    metrics = mixed.metrics
    cached = shards(cache_dir / "bottlenecks")[backbone.fingerprint]
    with np.load(mixed.folder / "checkpoint.npz") as checkpoint:
        head = Head(checkpoint["best_weights"], checkpoint["best_bias"])

    def logits(part: str) -> tuple[Floats, npt.NDArray[Any], list[str]]:
        chosen = [photo for photo, name in mixed.manifest if name == part]
        values = np.array([cached[photo.digest, 0] for photo in chosen], np.float32)
        labels = np.array([LABELS.index(photo.label) for photo in chosen])
        return head.logits(values), labels, [str(photo.path) for photo in chosen]

    found, labels, _ = logits(split.VALIDATION)
    temperature = metrics["temperature"]
    assert temperature == pytest.approx(fit_temperature(found, labels), rel=1e-4)
    assert abs(temperature - 1) > 0.01
    found, labels, paths = logits(split.TESTING)
    probabilities = softmax(np.asarray(found / temperature, np.float32))
    test = metrics["test"]
    right = probabilities[np.arange(len(labels)), labels]
    assert test["cross_entropy"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
    assert test["expected_calibration_error"] == pytest.approx(
        expected_calibration_error(probabilities, labels), rel=1e-3
    )
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    assert [each["path"] for each in test["misclassified"]] == [paths[i] for i in wrong]
    for i, each in zip(wrong, test["misclassified"], strict=True):
        ranked = sorted(zip(probabilities[i], LABELS, strict=True), reverse=True)
        assert (each["predicted"], each["runner_up"]) == (ranked[0][1], ranked[1][1])
        assert each["probability"] == pytest.approx(ranked[0][0], rel=1e-4)
        assert each["runner_up_probability"] == pytest.approx(ranked[1][0], rel=1e-4)


def test_the_graph_holds_the_head_divided_by_its_temperature(
    mixed: Run, backbone: Backbone
) -> None:
    metrics = mixed.metrics
    contract = json.loads((mixed.folder / "contract.json").read_text("utf-8"))
    content = (mixed.folder / "output_graph.pb").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert metrics["graph_sha256"] == contract["graph_sha256"] == digest
    assert metrics["temperature"] == contract["temperature"]
    spec = backbone.spec
    images = np.random.default_rng(0).uniform(-1, 1, (2, spec.height, spec.width, 3))
    bottlenecks, logits, probabilities = (
        graph.predict(graph.function(graph.parse(content), name), images.astype(np.float32))
        for name in (graph.BOTTLENECK, graph.LOGITS, contract["output"])
    )
    np.testing.assert_allclose(probabilities, softmax(logits), atol=1e-6)
    with np.load(mixed.folder / "checkpoint.npz") as checkpoint:
        expected = bottlenecks @ checkpoint["best_weights"] + checkpoint["best_bias"]
    np.testing.assert_allclose(logits * contract["temperature"], expected, rtol=1e-4, atol=1e-4)


def test_metrics_tell_settings_versions_and_seconds(mixed: Run, cache_dir: Path) -> None:
    metrics = mixed.metrics
    settings = metrics["settings"]
    assert settings["head"]["how_many_training_steps"] == STEPS
    assert settings["head"]["seed"] == 1
    assert settings["split"] == {"testing_percentage": 30, "validation_percentage": 20, "salt": ""}
    assert settings["source"]["cache_dir"] == str(cache_dir)
    assert settings["output_dir"] == str(mixed.folder)
    for name in ("tensorflow", "ai-edge-litert", "numpy", "pillow", "pyarrow"):
        assert metrics["versions"][name] == metadata.version(name)
    assert metrics["versions"]["retrain"] == metadata.version("retrain-tflite")
    assert all(0 <= seconds < 60 for seconds in metrics["seconds"].values())


SERVE = """
import json, sys
import numpy as np
import tensorflow as tf
assert not {"retrain", "deploy"} & set(sys.modules)
images = tf.constant(np.random.default_rng(0).uniform(-1, 1, (2, 224, 224, 3)), tf.float32)
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = signature(image=images)
definition = tf.compat.v1.GraphDef.FromString(open(sys.argv[2], "rb").read())
with tf.Graph().as_default() as graph:
    tf.import_graph_def(definition, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        expected = session.run("final_result:0", {"input:0": images_array})
print(json.dumps({
    "inputs": list(signature.structured_input_signature[1]),
    "outputs": list(found),
    "off": float(abs(found["prediction"].numpy() - expected).max()),
    "sums": expected.sum(axis=1).tolist(),
}))
""".replace("images_array", "images.numpy()")


def test_the_saved_model_serves_the_same_without_retrain(mixed: Run, tmp_path: Path) -> None:
    saved = mixed.metrics["settings"]["saved_model_dir"]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, saved, mixed.folder / "output_graph.pb"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["inputs"], found["outputs"]) == (["image"], ["prediction"])
    assert found["off"] < 1e-5
    assert found["sums"] == pytest.approx([1, 1], abs=1e-5)


def test_tensorboard_reads_the_three_folders(mixed: Run) -> None:
    (run,) = (mixed.folder / "summaries").iterdir()
    assert {path.name for path in run.iterdir()} == {"train", "validation", "test"}
    rates = tensors(run / "train", "learning_rate")
    assert float(rates[0]) == np.float32(0.01)
    for side in ("train", "validation"):
        for tag in ("accuracy", "cross_entropy"):
            assert list(tensors(run / side, tag)) == list(rates)
    weights = tensors(run / "train", "final_layer/weights")
    with np.load(mixed.folder / "checkpoint.npz") as checkpoint:
        assert weights[STEPS - 1][:, 2].sum() == checkpoint["weights"].size
    ((step, (width, height, png)),) = tensors(run / "test", "confusion_matrix").items()
    assert step == STEPS
    assert Image.open(io.BytesIO(png)).size == (int(width), int(height))
