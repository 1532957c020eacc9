"""Test the top of a network: its parameters, their gradient, and what it computes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.errors import BadData
from retrain import tf_graph
from retrain.backbones.round_kernels import round_in_training
from retrain.progress import Progress
from retrain.training import top as module
from retrain.training.export_graph import export_graph
from retrain.training.head import Examples, Floats
from retrain.training.top import PARTS, Gradient, Top, trainable_constants
from retrain.training.trained_network import FineTunedNetwork
from tests.helpers.small_networks import (
    CLASSES,
    CUT,
    FROZEN,
    SHAPE,
    SHAPES,
    WIDTH,
    constants,
    feature_maps,
    small_backbone,
    small_head,
    small_top,
    top_body,
)

tf = tf_graph.tensorflow()
PHOTOS = 10
QUIET = Progress(verbosity="ERROR")
OFFSET = np.array([0.5, -0.5, 0.1], np.float32)
TARGETS = np.array([[0.8, 0.1, 0.1], [0.0, 0.7, 0.3], [0.2, 0.2, 0.6]], np.float32)
Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("top")


@pytest.fixture(scope="module")
def top(folder: Path) -> Top:
    return small_top(folder)


@pytest.fixture(scope="module")
def examples() -> Examples:
    return feature_maps(PHOTOS)


def gradient(top: Top, examples: Examples, parameters: list[Floats], photos: int) -> Gradient:
    rows, labels = examples.rows[:photos, 0], examples.labels[:photos]
    return top.gradient(examples.store, rows, TARGETS[labels], OFFSET, parameters)


def exact_logits(maps: Array, values: Mapping[str, Array]) -> Array:
    """Return the logits in float64; `values` are all constants and the head."""
    exact = {name: tf.constant(value, tf.float64) for name, value in values.items()}
    x = tf.constant(maps.reshape(-1, *SHAPE), tf.float64)
    bottlenecks = top_body(x, exact)
    return np.asarray(tf.matmul(bottlenecks, exact["head/weights"]) + exact["head/bias"])


def exact_loss(examples: Examples, photos: int, values: Mapping[str, Array]) -> float:
    """Return the mean cross entropy that `gradient` is of, in float64."""
    maps = examples.store.take(examples.rows[:photos, 0])
    z = exact_logits(maps, values) + OFFSET.astype(np.float64)
    log_probabilities = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-(TARGETS[examples.labels[:photos]] * log_probabilities).sum(axis=1).mean())


def test_kernels_and_biases_are_parameters_but_depthwise_kernels_and_scalars(top: Top) -> None:
    trained = [name for name in SHAPES if name not in FROZEN]
    assert sorted(top.names[:-2]) == sorted(trained)
    assert top.names[-2:] == ("head/weights", "head/bias")
    parameters = top.initial(small_head())
    shapes = {**SHAPES, "head/weights": (WIDTH, CLASSES), "head/bias": (CLASSES,)}
    assert [values.shape for values in parameters] == [shapes[name] for name in top.names]
    published, head = top.split(parameters)
    for name, value in published.items():
        np.testing.assert_array_equal(value, constants()[name])
    np.testing.assert_array_equal(head.weights, small_head().weights)


@pytest.mark.parametrize("photos", [1, PARTS - 1, PHOTOS])
def test_the_gradient_is_the_slope_of_the_mean_cross_entropy(
    top: Top, examples: Examples, photos: int
) -> None:
    parameters = top.initial(small_head())
    logits, by_parameter = gradient(top, examples, parameters, photos)
    values = {**constants(), **dict(zip(top.names, parameters, strict=True))}
    maps = examples.store.take(examples.rows[:photos, 0])
    np.testing.assert_allclose(logits, exact_logits(maps, values), rtol=1e-4, atol=1e-5)
    random = np.random.default_rng(3)
    h = 1e-6
    for name, slopes in zip(top.names, by_parameter, strict=True):
        assert slopes.shape == values[name].shape
        for _ in range(4):
            index = tuple(int(random.integers(size)) for size in slopes.shape)
            losses = []
            for change in (-h, h):
                moved = values[name].astype(np.float64)
                moved[index] += change
                losses.append(exact_loss(examples, photos, {**values, name: moved}))
            slope = (losses[1] - losses[0]) / (2 * h)
            assert slopes[index] == pytest.approx(slope, rel=1e-3, abs=1e-6), (name, index)


def test_accuracy_shows_its_progress_and_is_that_of_the_logits(
    top: Top, examples: Examples, capsys: pytest.CaptureFixture[str]
) -> None:
    network = FineTunedNetwork(
        top, top.initial(small_head()), {"training": examples}, Progress("plain")
    )
    right = network.logits_of("training").argmax(axis=1) == examples.labels
    assert network.accuracy_on("training").right == right.sum()
    photos = len(examples.labels)
    assert f"accuracy on training photos {photos}/{photos} photos" in capsys.readouterr().err


def test_logits_and_bottlenecks_are_those_of_the_exported_graph(
    top: Top, examples: Examples, folder: Path
) -> None:
    random = np.random.default_rng(4)
    parameters = [
        (values + random.normal(0, 0.1, values.shape)).astype(np.float32)
        for values in top.initial(small_head())
    ]
    network = FineTunedNetwork(top, parameters, {"testing": examples}, QUIET).with_temperature(2.0)
    frozen = export_graph(small_backbone(folder)[0], network, "result")
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(tf_graph.parse(frozen.graph_def))
    with tf.compat.v1.Session(graph=graph) as session:
        maps = examples.store.take(examples.rows[:, 0]).reshape(-1, *SHAPE)
        logits, bottlenecks = session.run(["logits:0", "bottleneck:0"], {f"{CUT}:0": maps})
    np.testing.assert_allclose(network.logits_of("testing"), logits, rtol=1e-5, atol=1e-6)
    some_photos = np.array([7, 2])
    np.testing.assert_allclose(
        network.bottlenecks_of("testing", some_photos), bottlenecks[some_photos], rtol=1e-5
    )
    hotter = np.asarray(top.logits_of(examples, parameters))
    np.testing.assert_allclose(hotter / 2, logits, rtol=1e-4, atol=1e-6)


def test_neither_blocks_nor_cores_change_the_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = feature_maps(150)  # more than a block
    results = []
    for count in (1, 4):
        monkeypatch.setattr(module, "cores", lambda count=count: count)
        top = small_top(folder)
        parameters = top.initial(small_head())
        logits, by_parameter = gradient(top, examples, parameters, 150)
        assert top.logits_of(examples, parameters).shape == (150, CLASSES)
        results.append(
            [
                values.tobytes()
                for values in (logits, *by_parameter, top.logits_of(examples, parameters))
            ]
        )
    assert results[0] == results[1]


def test_no_photos_have_no_logits(top: Top, examples: Examples) -> None:
    nobody = examples._replace(rows=examples.rows[:0], labels=examples.labels[:0])
    assert top.logits_of(nobody, top.initial(small_head())).shape == (0, CLASSES)


def rounded(x: Any, values: Mapping[str, Any]) -> Any:
    """Round in the middle: the gradient of rounding is none."""
    return top_body(tf.floor(tf.nn.conv2d(x, tf.ones([1, 1, 4, 4]), 1, "SAME")), values)


def resized(x: Any, values: Mapping[str, Any]) -> Any:
    """Resize by area in the middle: TensorFlow knows no gradient of it."""
    x = tf.nn.conv2d(x, tf.ones([1, 1, 4, 4]), 1, "SAME")
    return top_body(tf.compat.v1.image.resize_area(x, [4, 4]), values)


@pytest.mark.parametrize("body", [rounded, resized])
def test_an_operation_without_gradient_is_an_error_that_names_the_cut(
    body: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadData, match=f"above {CUT} has no gradient .*: name a `cut` above it"):
        small_top(tmp_path, body)


def grouped(x: Any, values: Mapping[str, Any]) -> Any:
    return top_body(tf.nn.conv2d(x, tf.ones([3, 3, 2, 4]), 1, "SAME"), values)


def dilated(x: Any, values: Mapping[str, Any]) -> Any:
    return top_body(tf.nn.conv2d(x, tf.ones([3, 3, 4, 4]), 1, "SAME", dilations=2), values)


NOT_TRAINED = rf"above {CUT} cannot be trained \(\w.*\w\.?\): name a `cut`"


@pytest.mark.parametrize("body", [grouped, dilated])
def test_a_gradient_that_only_onednn_has_is_computed_or_an_error_that_names_the_cut(
    body: Any, examples: Examples, tmp_path: Path
) -> None:
    """TensorFlow uses oneDNN by itself on processors with AVX-512."""
    top = small_top(tmp_path, body)
    parameters = top.initial(small_head())
    problem = ""
    try:
        gradient(top, examples, parameters, PHOTOS)
    except BadData as error:
        problem = str(error)
    assert not problem or re.search(NOT_TRAINED, problem)
    assert np.isfinite(top.logits_of(examples, parameters)).all()


def test_a_gradient_that_tensorflow_cannot_compute_is_an_error_that_names_the_cut(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = small_top(tmp_path)

    def refuse(*_: Any) -> Any:
        message = "first line\nNo grouped convolutions here. [[{{node conv}}]]"
        raise tf.errors.UnimplementedError(None, None, message)

    monkeypatch.setattr(top, "_gradient", refuse)
    with pytest.raises(BadData, match=NOT_TRAINED):
        gradient(top, examples, top.initial(small_head()), PHOTOS)


def test_a_constant_that_serves_below_the_cut_too_is_not_trained() -> None:
    def body(images: Any) -> Any:
        shared = tf.constant(np.ones((1, 1, 3, 3), np.float32), name="shared")
        own = tf.constant(np.ones((1, 1, 3, 3), np.float32), name="own")
        read = tf.identity(shared)
        x = tf.nn.relu(tf.nn.conv2d(images, read, 1, "SAME"), name=CUT)
        return tf.nn.conv2d(tf.nn.conv2d(x, read, 1, "SAME"), tf.identity(own), 1, "SAME")

    graph_def = tf_graph.trace(body, (4, 4, 3), tf_graph.BOTTLENECK)
    assert [*trainable_constants(graph_def, CUT)] == ["own"]


def test_only_one_value_a_channel_that_is_added_to_a_product_is_a_bias() -> None:
    def body(images: Any) -> Any:
        def constant(name: str, *shape: int) -> Any:
            return tf.constant(np.ones(shape, np.float32), name=name)

        x = tf.nn.relu(images, name=CUT)
        x = constant("first", 1, 1, 1, 5) + tf.nn.conv2d(x, constant("k", 1, 1, 3, 5), 1, "SAME")
        x = x + constant("twice", 5)
        x = tf.nn.conv2d(x, constant("l", 1, 1, 5, 6), 1, "SAME") + constant("each_row", 4, 4, 6)
        return x * constant("scale", 6)

    graph_def = tf_graph.trace(body, (4, 4, 3), tf_graph.BOTTLENECK)
    assert {*trainable_constants(graph_def, CUT)} == {"k", "first", "l"}


def test_the_network_computes_with_kernels_on_the_grid(top: Top) -> None:
    parameters = top.initial(small_head())
    rounded = top.rounded(parameters)
    assert [values.ndim for values in parameters].count(4) > 0
    for exact, values in zip(parameters, rounded, strict=True):
        expected = round_in_training(exact) if exact.ndim == 4 else exact
        np.testing.assert_array_equal(values, expected)
        assert exact.ndim < 4 or not np.array_equal(values, exact)
