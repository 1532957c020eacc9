"""A model's labels are the run's, and the run's are those that it was trained with."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import model_file
from deploy.contract import Contract, write_labels
from retrain import tf_graph as graph
from tests.helpers.deploy_fixtures import LABELS, SPEC, write_colour_run
from tests.helpers.runs import Invoke


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("recipe", "goldens", "words"),
    [
        ("int8", 8, "the labels make it"),
        (
            "float32",
            0,
            "the model file has the labels grey, blue, grün, hell, red, its graph red, grün, hell",
        ),
    ],
)
def test_other_labels_in_the_file_are_caught(
    run: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    goldens: int,
    words: str,
) -> None:
    name_otherwise(monkeypatch, dict(zip(LABELS, reversed(LABELS), strict=True)))
    result = invoke("convert", "--output-dir", run, "--quantize", recipe, "--goldens", goldens)
    assert result.exit_code == 3, result.output
    assert words in result.stderr
    assert not (run / "model.tflite").exists()


def name_otherwise(patch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    """Have files made that give the labels `names`, where the run has others."""
    right = model_file.pack

    def pack(flatbuffer: bytes, contract: Contract, *more: Any) -> bytes:
        labels = tuple(names.get(label, label) for label in contract.labels)
        return right(flatbuffer, replace(contract, labels=labels), *more)

    patch.setattr(model_file, "pack", pack)


def test_two_of_ten_labels_swapped_in_the_file_are_caught(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    corners = [(r, g, b) for r in (60, 200) for g in (60, 200) for b in (60, 200)]
    mixtures = [(128, 128, 128), (128, 200, 128)]
    colours = {f"{i}": colour for i, colour in enumerate([*corners, *mixtures])}
    run = write_colour_run(tmp_path, colours, nearest(list(colours.values())))
    options = ("convert", "--output-dir", run, "--quantize", "float32")
    result = invoke(*options)
    assert result.exit_code == 0, result.output
    goldens = model_file.read(run / "model.tflite").goldens
    first, second = set(colours) - {golden.label for golden in goldens}
    (run / "model.tflite").unlink()
    name_otherwise(monkeypatch, {first: second, second: first})
    result = invoke(*options)
    assert result.exit_code == 3, result.output
    assert "the model file has the labels" in result.stderr
    assert not (run / "model.tflite").exists()


def nearest(colours: list[tuple[int, int, int]]) -> bytes:
    """Return a graph that tells which of `colours` is nearest to a photo's mean."""
    tf = graph.tensorflow()
    points = ((np.array(colours) - SPEC.mean) / SPEC.std).astype(np.float32)
    biases = -np.square(points).sum(axis=1)

    def network(images: Any) -> Any:
        products = tf.matmul(tf.reduce_mean(images, [1, 2]), 2 * points.T)
        return tf.nn.softmax(20 * tf.nn.bias_add(products, biases))

    serialized: bytes = graph.trace(network, (32, 32, 3), "final_result").SerializeToString()
    return serialized


def tell(run: Path, labels: Sequence[str], right: int = 12, graph: str | None = None) -> None:
    """Write the labels and figures that training leaves beside a graph."""
    contract = json.loads((run / "contract.json").read_text("utf-8"))
    test = {"right": right, "total": 12, "per_class": dict.fromkeys(labels)}
    metrics = {"graph_sha256": graph or contract["graph_sha256"], "test": test}
    (run / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    (run / "output_labels.txt").write_text(write_labels(tuple(labels)), "utf-8")


def relabel(run: Path, labels: Sequence[str]) -> None:
    contract = json.loads((run / "contract.json").read_text("utf-8"))
    (run / "contract.json").write_text(json.dumps({**contract, "labels": labels}), "utf-8")


SWAPPED = [LABELS[1], LABELS[0], *LABELS[2:]]


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("where", ["the contract", "the labels", "the metrics", "all"])
def test_two_labels_swapped_in_the_run_are_caught(run: Path, invoke: Invoke, where: str) -> None:
    tell(run, LABELS)
    if where in ("the metrics", "all"):
        tell(run, SWAPPED)
    if where == "the metrics":
        (run / "output_labels.txt").unlink()
    if where == "the labels":
        (run / "output_labels.txt").write_text(write_labels(tuple(SWAPPED)), "utf-8")
    if where in ("the contract", "all"):
        relabel(run, SWAPPED)
    result = invoke("convert", "--output-dir", run, "--goldens", 0)
    assert result.exit_code == 3, result.output
    words = {
        "the metrics": "metrics.json: its labels are grün, hell, red, blue, grey, those of the co",
        "all": "the graph's test accuracy is 50.0% (N=12, 95% interval 25.4% to 74.6%), and was 10",
    }
    other = "output_labels.txt: its labels are "
    assert words.get(where, other) in result.stderr
    assert not (run / "model.tflite").exists()


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("right", "graph", "code"), [(11, None, 0), (10, None, 3), (0, "4" * 64, 0)]
)
def test_a_graph_is_held_against_its_training(
    run: Path, invoke: Invoke, right: int, graph: str | None, code: int
) -> None:
    """A photo may be called otherwise; what is told of another graph is not of this one."""
    tell(run, LABELS, right, graph)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == code, result.output


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_metrics_that_cannot_be_read_are_named(run: Path, invoke: Invoke, text: str) -> None:
    (run / "metrics.json").write_text(text)
    result = invoke("convert", "--output-dir", run)
    assert result.exit_code == 3
    assert f"Error: {run / 'metrics.json'}: " in result.stderr
    assert ": train again" in result.stderr
