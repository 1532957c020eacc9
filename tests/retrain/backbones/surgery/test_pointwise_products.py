"""Test that convolutions of 1x1 kernels become products, and that nothing else changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from retrain import tf_graph
from retrain.backbones.surgery.pointwise_products import pointwise_products

tf = tf_graph.tensorflow()
PHOTOS = np.random.default_rng(0).uniform(-1, 1, (3, 6, 5, 3)).astype(np.float32)


def kernel(*shape: int) -> Any:
    values = np.random.default_rng(sum(shape)).normal(size=shape)
    return tf.constant(values.astype(np.float32), name="kernel")


def graph(body: Callable[[Any], Any]) -> Any:
    return tf_graph.trace(body, PHOTOS.shape[1:], tf_graph.BOTTLENECK)


def kinds(graph_def: Any) -> dict[str, str]:
    return {node.name: node.op for node in graph_def.node}


def require_same(before: Any, after: Any, limit: float) -> None:
    """Assert that both graphs have the same operations, by name, and compute the same."""
    assert {*kinds(before)} <= {*kinds(after)}
    expected, values = (
        tf_graph.session(graph_def, tf_graph.BOTTLENECK)(PHOTOS) for graph_def in (before, after)
    )
    assert np.abs(values - expected).max() <= limit
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_convolution_of_a_1x1_kernel_is_a_product(padding: str) -> None:
    before = graph(
        lambda x: tf.nn.relu(tf.nn.conv2d(x, tf.identity(kernel(1, 1, 3, 7)), 1, padding, name="c"))
    )
    after = pointwise_products(before)
    require_same(before, after, 1e-5)
    assert (kinds(before)["c"], kinds(after)["c"]) == ("Conv2D", "Reshape")
    assert "Conv2D" not in kinds(after).values()


@pytest.mark.parametrize(
    "body",
    [
        lambda x: tf.nn.conv2d(x, kernel(1, 1, 3, 7), 2, "SAME"),
        lambda x: tf.nn.conv2d(x, kernel(1, 3, 3, 7), 1, "SAME"),
        lambda x: tf.nn.conv2d(x, kernel(1, 1, 1, 6), 1, "SAME"),
        lambda x: tf.nn.conv2d(x, kernel(1, 1, 3, 7), 1, [[0, 0], [1, 1], [0, 0], [0, 0]]),
        lambda x: tf.nn.depthwise_conv2d(x, kernel(1, 1, 3, 2), [1, 1, 1, 1], "SAME"),
    ],
    ids=["stride", "wide", "groups", "padded", "depthwise"],
)
def test_others_stay(body: Callable[[Any], Any]) -> None:
    before = graph(body)
    after = pointwise_products(before)
    require_same(before, after, 0)
    assert kinds(after) == kinds(before)
