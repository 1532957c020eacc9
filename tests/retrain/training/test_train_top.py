"""Fine-tune a small network of one's own: from photos to a converted model, resumed and guarded."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result

from deploy.image import open_image, to_tensor
from retrain import tf_graph
from retrain.data import split
from retrain.run_folder import RunFolder
from retrain.training import train_top as module
from retrain.training.fit_top import EpochReport, fit_top
from tests.helpers.own_networks import define, save, tf, v1
from tests.helpers.photos import LABELS, PER_LABEL
from tests.helpers.runs import Invoke, Run, tensors

SIDE = 32
ENDS = ("--input-tensor", "pixels:0", "--bottleneck-tensor", "features:0", "--input-size", SIDE)
SCALE = ("--input-mean", 128, "--input-std", 128)
EPOCHS, VIEWS = 20, 2
TUNE = ("--fine-tune", "--epochs", EPOCHS, "--views", VIEWS, "--train-batch-size", 8)
RATE = ("--learning-rate", 0.03)
PHOTOS = PER_LABEL * len(LABELS)
# Of a random network that few photos calibrate, eight bits lose more than of a trained one.
NO_GATE = ("--max-accuracy-drop", 100, "--min-agreement", 0, "--max-mean-difference", 1)
PATIENCE_S = 240
WITHOUT_INTERVAL = (
    "from retrain.training import train_top; train_top._CHECKPOINT_INTERVAL_S = 0.0; "
    "from retrain.__main__ import main; main()"
)
"""Runs `retrain`, which then writes a checkpoint after each epoch."""

Array = npt.NDArray[Any]
Train = Callable[..., Result]


def network(is_blind: bool) -> None:
    """Define a network with random kernels; if blind, all photos have the same features.

    Its nodes have the names of those that training adds.
    """
    random = np.random.default_rng(3)

    def constant(name: str, *shape: int, low: float = -0.5) -> Any:
        return tf.constant(random.uniform(low, low + 1, shape).astype(np.float32), name=name)

    x = v1.placeholder(tf.float32, [1, SIDE, SIDE, 3], name="pixels")
    x = tf.nn.conv2d(x, constant("a", 3, 3, 3, 8), 2, "SAME", name="input")
    x = tf.nn.bias_add(x, constant("b", 8), name="bottleneck")
    x = tf.nn.relu6(x, name="logits")
    x = tf.nn.depthwise_conv2d(x, constant("constant_0", 3, 3, 8, 1), [1, 1, 1, 1], "SAME")
    x = tf.nn.relu6(x, name="final_result")
    last = 0.0 if is_blind else 1.0
    x = tf.nn.conv2d(x, last * constant("d", 3, 3, 8, 12), 2, "SAME", name="MatMul")
    x = tf.nn.bias_add(x, constant("final_biases", 12, low=0.1), name="final_weights")
    x = tf.identity(tf.reduce_mean(tf.nn.relu6(x), [1, 2]), name="features")
    tf.nn.softmax(tf.matmul(x, constant("f", 12, 5)), name="scores")


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """Restore what fine-tuning sets for TensorFlow, which is loaded here already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the networks blind.pb and seeing.pb, and a cache."""
    folder = tmp_path_factory.mktemp("networks")
    save(define(lambda: network(is_blind=True)), folder / "blind.pb")
    save(define(lambda: network(is_blind=False)), folder / "seeing.pb")
    return folder


def arguments(photos: Path, folder: Path, run: Path, *options: object) -> list[object]:
    """Return those of `retrain train` with the blind network, unless `options` name another."""
    graph = () if "--graph" in options else ("--graph", folder / "blind.pb")
    cache = () if "--cache-dir" in options else ("--cache-dir", folder / "cache")
    steps = ("--how-many-training-steps", 400)
    return [
        "train",
        "--no-report",
        photos,
        *graph,
        *ENDS,
        *SCALE,
        *cache,
        *steps,
        "--output-dir",
        run,
        *options,
    ]


@pytest.fixture(scope="module")
def train(photos: Path, folder: Path, invoke: Invoke) -> Train:
    """Return a function that trains into a folder with options."""
    return lambda run, *options: invoke(*arguments(photos, folder, run, *options))


def finished(result: Result, folder: Path) -> Run:
    assert result.exit_code == 0, result.output
    return Run(folder, result)


@pytest.fixture(scope="module")
def linear(train: Train, folder: Path) -> Run:
    """Return a run of the blind network without fine-tuning. Not to be changed."""
    return finished(train(folder / "linear"), folder / "linear")


@pytest.fixture(scope="module")
def tuned(train: Train, folder: Path) -> Run:
    """Return a fine-tuned run of the blind network. Not to be changed."""
    return finished(train(folder / "tuned", *TUNE, *RATE), folder / "tuned")


def graph(run: Run) -> bytes:
    return (run.folder / "output_graph.pb").read_bytes()


def accuracies(run: Run) -> dict[str, tuple[int, int]]:
    """Return how many photos of each split output_graph.pb labels rightly, and of how many."""
    contract = RunFolder(run.folder).read_contract()
    score = tf_graph.session(tf_graph.read(run.folder / "output_graph.pb"), contract.output)
    result = {}
    for name in split.SPLITS:
        photos = [photo for photo, where in run.manifest if where == name]
        images = (open_image(photo.path.read_bytes(), contract.input) for photo in photos)
        scores = score(np.concatenate([to_tensor(image, contract.input) for image in images]))
        labels = [contract.labels.index(photo.label) for photo in photos]
        result[name] = (int((scores.argmax(axis=1) == labels).sum()), len(photos))
    return result


def constants(run: Run) -> dict[str, Array]:
    nodes = tf_graph.read(run.folder / "output_graph.pb").node
    return {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in nodes
        if node.op == "Const"
    }


def test_fine_tuning_learns_what_the_linear_head_cannot(linear: Run, tuned: Run) -> None:
    assert linear.metrics["accuracy"]["training"]["accuracy"] < 0.4  # chance, of three
    assert tuned.metrics["accuracy"]["training"]["accuracy"] > 0.8
    assert "fine_tuning" not in linear.metrics
    assert "the fine-tuned network is kept" in tuned.result.stderr


def test_the_figures_are_those_of_the_graph(tuned: Run) -> None:
    figures = tuned.metrics["accuracy"]
    assert accuracies(tuned) == {
        name: (figures[name]["right"], figures[name]["total"]) for name in split.SPLITS
    }
    test = tuned.metrics["test"]
    assert (test["right"], test["total"]) == accuracies(tuned)[split.TESTING]


def test_only_kernels_and_biases_above_the_cut_change(linear: Run, tuned: Run) -> None:
    nodes = [
        [(node.name, node.op, *node.input) for node in tf_graph.read(path).node]
        for path in (run.folder / "output_graph.pb" for run in (linear, tuned))
    ]
    assert nodes[0] == nodes[1]
    before, after = constants(linear), constants(tuned)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    shapes = sorted(after[name].shape for name in changed)
    assert shapes == sorted([(3, 3, 8, 12), (12,), (12, len(LABELS)), (len(LABELS),)])
    assert {"final_weights", "final_biases"} < changed


def test_the_record_says_what_was_trained_and_compared(linear: Run, tuned: Run) -> None:
    record = tuned.metrics["fine_tuning"]
    assert (record["epochs"], record["views"], record["runs"]) == (EPOCHS, VIEWS, 1)
    assert record["cut"]["shape"] == [16, 16, 8]
    assert 0 < record["cut"]["share_above"] <= 0.6
    assert record["kept"] == "fine-tuned"
    validation = record["validation"]
    assert validation["photos"] == tuned.metrics["accuracy"]["validation"]["total"]
    assert validation["gain"] == pytest.approx(validation["linear"] - validation["fine_tuned"])
    assert validation["gain"] > 0
    assert record["linear_test"]["right"] == linear.metrics["test"]["right"]
    assert record["fine_tuned_test"]["right"] == tuned.metrics["test"]["right"]
    assert tuned.metrics["settings"]["fine_tuning"]["learning_rate"] == 0.03
    assert {"feature maps", "views", "fine-tune"} < {*tuned.metrics["seconds"]}


def test_tensorboard_has_both_curves_of_fine_tuning(tuned: Run) -> None:
    (events,) = (tuned.folder / "summaries").iterdir()
    for name in ("train", "validation"):
        losses = tensors(events / f"fine_tuning_{name}", "cross_entropy")
        assert [*losses] == list(range(1, EPOCHS + 1))
        assert losses[EPOCHS] < losses[1]
    rates = tensors(events / "fine_tuning_train", "learning_rate")
    assert 0 < rates[EPOCHS] < max(rates.values()) <= 0.031
    assert max(tensors(events / "train", "cross_entropy")) == 399


def test_a_second_run_analyses_nothing_and_has_the_same_bytes(
    tuned: Run, train: Train, tmp_path: Path
) -> None:
    again = finished(train(tmp_path, *TUNE, *RATE), tmp_path)
    for line in (
        f"0 photos analysed now, {PHOTOS} taken from the cache",
        f"0 feature maps analysed now, {PHOTOS} taken from the cache",
        "training photos: 0 analysed now",
    ):
        assert line in again.result.stderr
    assert graph(again) == graph(tuned)
    assert (again.folder / "checkpoint_fine_tuning.npz").read_bytes() == (
        tuned.folder / "checkpoint_fine_tuning.npz"
    ).read_bytes()


def test_a_fine_tuned_run_is_converted(tuned: Run, invoke: Invoke, tmp_path: Path) -> None:
    shutil.copytree(tuned.folder, tmp_path / "run")
    where = ("--output-dir", tmp_path / "run")
    for recipe, gate in (("float32", ()), ("int8", NO_GATE)):
        result = invoke("convert", *where, "--quantize", recipe, *gate)
        assert result.exit_code == 0, result.output
        conversion = json.loads((tmp_path / "run" / "conversion.json").read_text("utf-8"))
        assert conversion["graph"]["right"] == tuned.metrics["test"]["right"]
    photo = next((photo.path for photo, where in tuned.manifest if where == split.TESTING))
    result = invoke("label", photo, "--model", tmp_path / "run" / "model.tflite", "--json")
    assert {*json.loads(result.stdout)["labels"]} == {*LABELS}


def test_the_linear_head_is_kept_where_fine_tuning_harms(
    train: Train, folder: Path, tmp_path: Path
) -> None:
    own = ("--graph", folder / "seeing.pb")
    expected = finished(train(tmp_path / "linear", *own), tmp_path / "linear")
    assert expected.metrics["accuracy"]["validation"]["accuracy"] > 0.7
    run = finished(train(tmp_path / "run", *own, *TUNE, "--learning-rate", 10), tmp_path / "run")
    assert "the linear head is kept" in run.result.stderr
    assert run.metrics["fine_tuning"]["kept"] == "linear"
    assert run.metrics["fine_tuning"]["validation"]["gain"] < 0
    assert graph(run) == graph(expected)
    contracts = [(one_run.folder / "contract.json").read_bytes() for one_run in (run, expected)]
    assert contracts[0] == contracts[1]


def test_fine_tuning_that_diverges_is_an_error(train: Train, tmp_path: Path) -> None:
    result = train(tmp_path, *TUNE, "--learning-rate", 1e30)
    assert result.exit_code == 3
    assert "fine-tuning diverged" in result.stderr
    assert "lower --learning-rate" in result.stderr
    assert "Warning" not in result.stderr
    assert not (tmp_path / "output_graph.pb").exists()


def test_an_unknown_cut_brings_the_nearest(train: Train, tmp_path: Path) -> None:
    result = train(tmp_path, *TUNE, "--cut", "nowhere")
    assert result.exit_code == 2
    assert "--cut nowhere: the network cannot be cut there. Near names: " in result.stderr


@pytest.mark.parametrize("options", [(), TUNE])
@pytest.mark.parametrize("name", ["network/final_result", "NETWORK/MatMul", "final_weights"])
def test_a_name_that_an_operation_has_is_refused_before_the_work(
    name: str, options: tuple[object, ...], train: Train, tmp_path: Path
) -> None:
    result = train(tmp_path, *options, "--final-tensor-name", name)
    assert result.exit_code == 2
    assert f"--final-tensor-name {name}: the network has an operation of that name" in result.stderr
    assert "analysed now" not in result.stderr


def test_a_cut_is_named(tuned: Run, train: Train, tmp_path: Path) -> None:
    name = tuned.metrics["fine_tuning"]["cut"]["name"]
    run = finished(train(tmp_path, *TUNE, *RATE, "--cut", name), tmp_path)
    assert graph(run) == graph(tuned)


def test_a_finished_run_is_averaged_with_more_and_not_with_fewer(
    train: Train, tuned: Run, tmp_path: Path
) -> None:
    averaged = finished(train(tmp_path / "new", *TUNE, *RATE, "--average", 2), tmp_path / "new")
    assert averaged.metrics["fine_tuning"]["runs"] == 2
    assert graph(averaged) != graph(tuned)
    shutil.copytree(tuned.folder, tmp_path / "run")
    resumed = finished(
        train(tmp_path / "run", *TUNE, *RATE, "--average", 2, "--resume"), tmp_path / "run"
    )
    assert graph(resumed) == graph(averaged)
    assert resumed.metrics["curves"] == averaged.metrics["curves"]
    assert "run 2, epoch 1: " in resumed.result.stderr
    assert "run 1, epoch " not in resumed.result.stderr
    result = train(tmp_path / "run", *TUNE, *RATE, "--resume")
    assert result.exit_code == 3
    assert "the average of 2 runs, more than --average 1: leave out --resume" in result.stderr


def test_a_run_of_other_settings_is_not_resumed(train: Train, tuned: Run, tmp_path: Path) -> None:
    shutil.copytree(tuned.folder, tmp_path / "run")
    result = train(tmp_path / "run", *TUNE, "--learning-rate", 0.02, "--resume")
    assert result.exit_code == 3
    path = tmp_path / "run" / "checkpoint_fine_tuning.npz"
    assert f"{path}: a checkpoint of other settings or photos" in result.stderr
    assert "leave out --resume" in result.stderr


def test_an_interrupted_run_resumes_in_its_second_average(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finished(train(tmp_path / "new", *TUNE, *RATE, "--average", 2), tmp_path / "new")

    def killed(*arguments: Any) -> Iterator[EpochReport]:
        for report in fit_top(*arguments):
            if (report.run, report.epoch) == (1, 5):
                raise KeyboardInterrupt
            yield report

    averaged = (*TUNE, *RATE, "--average", 2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "fit_top", killed)
        patch.setattr(module, "_CHECKPOINT_INTERVAL_S", 0.0)
        result = train(tmp_path / "run", *averaged)
    assert result.exit_code == 130
    assert "to go on from the last checkpoint: the same command with --resume" in result.stderr
    resumed = finished(train(tmp_path / "run", *averaged, "--resume"), tmp_path / "run")
    assert "going on after 4 epochs of run 2" in resumed.result.stderr
    assert graph(resumed) == graph(expected)
    assert resumed.metrics["curves"] == expected.metrics["curves"]
    newest = max((resumed.folder / "summaries").iterdir())
    steps = [*tensors(newest / "fine_tuning_train", "accuracy")]
    assert steps == list(range(EPOCHS + 5, 2 * EPOCHS + 1))


def test_without_its_checkpoint_fine_tuning_starts_at_the_beginning_and_says_so(
    train: Train, tuned: Run, tmp_path: Path
) -> None:
    shutil.copytree(tuned.folder, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint_fine_tuning.npz"
    path.unlink()
    run = finished(train(tmp_path / "run", *TUNE, *RATE, "--resume"), tmp_path / "run")
    assert f"{path}: no checkpoint: fine-tuning from the beginning" in run.result.stderr
    assert graph(run) == graph(tuned)


def test_an_interruption_before_the_first_checkpoint_names_none(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit_top", interrupted)
    result = train(tmp_path / "run", *TUNE)
    assert result.exit_code == 130
    assert "checkpoint" not in result.stderr


def test_an_interrupted_run_does_not_go_on_with_what_an_earlier_one_left(
    train: Train, tuned: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    shutil.copytree(tuned.folder, tmp_path / "run")
    other_rate = (*TUNE, "--learning-rate", 0.02)
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_feature_maps", interrupted)
        assert train(tmp_path / "run", *other_rate).exit_code == 130
    resumed = train(tmp_path / "run", *other_rate, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "no checkpoint: fine-tuning from the beginning" in resumed.stderr


def start(command: list[object], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", WITHOUT_INTERVAL, *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )


def finish(command: list[object], log: Path) -> None:
    process = start(command, log)
    try:
        assert process.wait(PATIENCE_S) == 0, log.read_text("utf-8")
    finally:
        process.kill()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_ends_as_the_unbroken_one(photos: Path, folder: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    random = np.random.default_rng(seed)
    print(f"seed {seed}")
    many = (*TUNE, *RATE, "--epochs", 200)  # longer than the wait before the kill
    unbroken, broken, log = tmp_path / "unbroken", tmp_path / "broken", tmp_path / "log"
    finish(arguments(photos, folder, unbroken, *many), log)

    checkpoint = broken / "checkpoint_fine_tuning.npz"
    process, end = start(arguments(photos, folder, broken, *many), log), time.monotonic()
    end += PATIENCE_S
    try:
        while not checkpoint.exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.2))
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "output_graph.pb").exists()

    finish(arguments(photos, folder, broken, *many, "--resume"), log)
    assert " of run 1, from" in log.read_text("utf-8")
    for name in ("output_graph.pb", "contract.json", "checkpoint_fine_tuning.npz"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes(), name
