"""Test that the figures of `retrain train` agree with each other and with its graphs."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.data import split
from retrain.metrics import calibration_error, fit_temperature
from retrain.training.head import Floats, Head, softmax
from tests.helpers.graph_fixtures import predict
from tests.helpers.photos import LABELS
from tests.helpers.runs import STEPS, Run, Train, shards, tensors


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
    assert len(wrong) == test["total"] - test["right"] == len({photo["path"] for photo in wrong})
    missed = Counter((photo["true"], photo["predicted"]) for photo in wrong)
    for row, true in enumerate(labels):
        scores = test["per_class"][true]
        assert scores["support"] == confusion[row].sum()
        assert scores["recall"] == confusion[row, row] / confusion[row].sum()
        assert scores["precision"] == confusion[row, row] / confusion[:, row].sum()
        assert scores["f1"] == pytest.approx(2 / (1 / scores["recall"] + 1 / scores["precision"]))
        for column, predicted in enumerate(labels):
            if row != column:
                assert missed[true, predicted] == confusion[row, column]
    manifest = {str(photo.path): (photo.label, name) for photo, name in mixed.manifest}
    for photo in wrong:
        assert manifest[photo["path"]] == (photo["true"], split.TESTING)
        assert 1 >= photo["probability"] >= photo["runner_up_probability"] >= 0
        assert photo["runner_up"] in set(labels) - {photo["predicted"]}
    assert metrics["photos"] == Counter(label for label, _ in manifest.values())
    assert metrics["split"] == Counter(name for _, name in manifest.values())


def test_figures_are_those_of_the_head_divided_by_its_temperature(
    mixed: Run, cache_dir: Path, backbone: Backbone
) -> None:
    metrics = mixed.metrics
    cached = shards(cache_dir / "bottlenecks")[backbone.fingerprint]
    with np.load(mixed.folder / "checkpoint.npz") as checkpoint:
        head = Head(checkpoint["best_weights"], checkpoint["best_bias"])

    def logits(name: str) -> tuple[Floats, npt.NDArray[Any], list[str]]:
        chosen = [photo for photo, where in mixed.manifest if where == name]
        values = np.array([cached[photo.digest, 0] for photo in chosen], np.float32)
        labels = np.array([LABELS.index(photo.label) for photo in chosen])
        return head.logits(values), labels, [str(photo.path) for photo in chosen]

    outputs, labels, _ = logits(split.VALIDATION)
    temperature = metrics["temperature"]
    assert temperature == pytest.approx(fit_temperature(outputs, labels), rel=1e-4)
    assert abs(temperature - 1) > 0.01
    outputs, labels, paths = logits(split.TESTING)
    probabilities = softmax(np.asarray(outputs / temperature, np.float32))
    test = metrics["test"]
    right = probabilities[np.arange(len(labels)), labels]
    assert test["cross_entropy"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
    assert test["expected_calibration_error"] == pytest.approx(
        calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels),
        rel=1e-3,
    )
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    assert [photo["path"] for photo in test["misclassified"]] == [paths[i] for i in wrong]
    for i, photo in zip(wrong, test["misclassified"], strict=True):
        ranked = sorted(zip(probabilities[i], LABELS, strict=True), reverse=True)
        assert (photo["predicted"], photo["runner_up"]) == (ranked[0][1], ranked[1][1])
        assert photo["probability"] == pytest.approx(ranked[0][0], rel=1e-4)
        assert photo["runner_up_probability"] == pytest.approx(ranked[1][0], rel=1e-4)


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
        predict(tf_graph.function(tf_graph.parse(content), name), images.astype(np.float32))
        for name in (tf_graph.BOTTLENECK, tf_graph.LOGITS, contract["output"])
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
outputs = signature(image=images)
definition = tf.compat.v1.GraphDef.FromString(open(sys.argv[2], "rb").read())
with tf.Graph().as_default() as graph:
    tf.import_graph_def(definition, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        expected = session.run("final_result:0", {"input:0": images_array})
print(json.dumps({
    "inputs": list(signature.structured_input_signature[1]),
    "outputs": list(outputs),
    "off": float(abs(outputs["prediction"].numpy() - expected).max()),
    "sums": expected.sum(axis=1).tolist(),
}))
""".replace("images_array", "images.numpy()")


def test_the_saved_model_serves_the_same_without_retrain(mixed: Run, tmp_path: Path) -> None:
    saved = mixed.metrics["settings"]["saved_model_dir"]
    process = subprocess.run(
        [sys.executable, "-c", SERVE, saved, mixed.folder / "output_graph.pb"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    served = json.loads(process.stdout)
    assert (served["inputs"], served["outputs"]) == (["image"], ["prediction"])
    assert served["off"] < 1e-5
    assert served["sums"] == pytest.approx([1, 1], abs=1e-5)


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
