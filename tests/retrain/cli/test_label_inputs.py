"""The label and adopt commands on frozen graphs whose input is not three floats a pixel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from retrain.cli import commands as laptop
from tests.helpers.classic_graphs import save, tf, v1, write_labels
from tests.helpers.deploy_fixtures import write_colour_run
from tests.helpers.label_fixtures import assert_failed, label, shown_scores
from tests.helpers.runs import Invoke

GREEN = (0, 255, 0)
GREY_OF_GREEN = 38470 / 65536
SCALE = ("--input-layer", "photo", "--input-mean", 0, "--input-std", 255)
Labels = Callable[..., Result]


def of_lightness(
    channels: int | None, dtype: Any = tf.float32, labels: int = 2, divisor: float = 1.0
) -> Any:
    """Return a classifier whose logits are multiples of the mean over all pixels and channels."""
    with tf.Graph().as_default() as whole:
        photo = v1.placeholder(dtype, [None, 24, 40, channels], name="photo")
        mean = tf.reduce_mean(tf.cast(photo, tf.float32) / divisor, [1, 2])
        mean = tf.reduce_mean(mean, 1, keepdims=True)
        tf.nn.softmax(tf.matmul(mean, np.arange(labels, dtype=np.float32)[None]), name="scores")
    return whole.as_graph_def()


@pytest.fixture
def classify(tmp_path: Path) -> Labels:
    Image.new("RGB", (40, 30), GREEN).save(tmp_path / "green.png")
    labels = write_labels(tmp_path / "labels.txt", ("dark", "light"))

    def run(graph_def: Any, *options: object) -> Result:
        graph = save(graph_def, tmp_path / "graph.pb")
        return label(laptop, tmp_path / "green.png", "--graph", graph, "--labels", labels, *options)

    return run


@pytest.mark.parametrize(
    ("channels", "dtype", "divisor", "options", "lightness"),
    [
        (1, tf.float32, 1, SCALE, GREY_OF_GREEN),
        (1, tf.uint8, 255, ("--input-layer", "photo"), GREY_OF_GREEN),
        (3, tf.float16, 1, SCALE, 1 / 3),
        (3, tf.float64, 1, SCALE[2:], 1 / 3),
    ],
)
def test_grey_bytes_and_half_precision_are_fed_as_the_graph_takes_them(
    classify: Labels,
    channels: int,
    dtype: Any,
    divisor: float,
    options: tuple[object, ...],
    lightness: float,
) -> None:
    result = classify(of_lightness(channels, dtype, divisor=divisor), *options)
    assert shown_scores(result)["light"] == pytest.approx(1 / (1 + np.exp(-lightness)), abs=2e-3)


def channels_first() -> Any:
    with tf.Graph().as_default() as whole:
        photo = v1.placeholder(tf.float32, [None, 3, 24, 40], name="photo")
        mean = tf.reduce_mean(tf.transpose(photo, [0, 2, 3, 1]), [1, 2])
        tf.nn.softmax(tf.matmul(mean, np.eye(3, 2, dtype=np.float32)), name="scores")
    return whole.as_graph_def()


@pytest.mark.parametrize(
    ("graph_def", "words"),
    [
        (channels_first(), ("channels first",)),
        (of_lightness(4), ("4 channels",)),
        (of_lightness(3, tf.int32), ("int32", "`input_tensor`")),
    ],
)
def test_what_takes_no_photos_is_refused_in_words(
    classify: Labels, tmp_path: Path, graph_def: Any, words: tuple[str, ...]
) -> None:
    assert_failed(classify(graph_def, *SCALE), 3, str(tmp_path / "graph.pb"), "photo", *words)


def test_a_grey_rectangular_classifier_is_adopted(invoke: Invoke, tmp_path: Path) -> None:
    write_colour_run(tmp_path)
    graph = save(of_lightness(1, labels=4), tmp_path / "grey.pb.bak")
    labels = write_labels(tmp_path / "labels.txt")
    run = tmp_path / "adopted"
    where = ("--output-dir", run, "--cache-dir", tmp_path / "cache")
    result = invoke("adopt", graph, labels, tmp_path / "photos", *where, *SCALE)
    assert result.exit_code == 0, result.output
    photo = tmp_path / "photos" / "blue" / "0.png"
    scores = [
        shown_scores(label(laptop, photo, "--graph", *arguments))
        for arguments in ((graph, "--labels", labels, *SCALE), (run / "output_graph.pb",))
    ]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)
