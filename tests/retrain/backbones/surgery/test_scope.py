"""A network's nodes may have the names of those that are added to it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from retrain import tf_graph
from retrain.backbones.surgery.extract_backbone import Cut, extract_backbone
from retrain.backbones.surgery.pointwise_products import pointwise_products
from tests.helpers.own_networks import SIDE, define, old_norm, original, tf, v1, values

NORM = "BatchNormWithGlobalNormalization"
"""The name of the network's normalization."""
NAMES = {
    "scale": "input",
    "convolution": "bottleneck",
    "clip": f"{NORM}/scaled",
    "negative": f"scaled/{NORM}",
    "leak": f"{NORM}/constant",
    "curve": "rgb_to_grey",
    "mix": "conv",
    "lift": "conv/rows",
    "part": "conv/product",
    "root": "constant_0",
    "bend": "constant_1",
    "shrink": "end",
    "mean": "network",
    "last": "network/bottleneck",
}
"""A name for each operation: those that are added, or were."""


def network(names: dict[str, str], channels: int) -> None:
    def name(operation: str) -> str:
        return names.get(operation, operation)

    x = v1.placeholder(tf.float32, [1, SIDE, SIDE, channels], name="photo")
    x = tf.subtract(x, 0.2, name=name("scale"))
    x = v1.nn.conv2d(x, values(3, 3, channels, 8), 2, "SAME", name=name("convolution"))
    x = tf.nn.relu6(old_norm(tf.nn.relu6(x, name=name("clip")), True))
    x = tf.negative(tf.nn.leaky_relu(tf.negative(x, name=name("negative")), name=name("leak")))
    x = tf.nn.elu(x, name=name("curve"))
    x = v1.nn.conv2d(x, values(1, 1, 8, 6), 1, "SAME", name=name("mix"))
    x = tf.negative(tf.nn.elu(x, name=name("lift")), name=name("part"))
    x = tf.abs(tf.nn.elu(x, name=name("bend")), name=name("root"))
    x = tf.multiply(x, values(6), name=name("shrink"))
    x = tf.reshape(tf.reduce_mean(x, [1, 2], name=name("mean")), [1, 6], name=name("last"))
    tf.nn.softmax(tf.matmul(x, values(6, 3)), name="scores")


def features(graph_def: Any, photos: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return tf_graph.session(graph_def, tf_graph.BOTTLENECK)(photos)


@pytest.mark.parametrize(
    ("operation", "channels"), [*((operation, 3) for operation in NAMES), ("all", 3), ("all", 1)]
)
def test_a_node_may_have_the_name_of_one_that_is_added(operation: str, channels: int) -> None:
    names = NAMES if operation == "all" else {operation: NAMES[operation]}
    own = tf_graph.parse(define(lambda: network(names, channels)).SerializeToString())
    assert {*names.values()} < {node.name for node in own.node}
    last = names.get("last", "last")
    backbone = extract_backbone(own, Cut("photo:0", f"{last}:0", (SIDE, SIDE)))
    grey = np.random.default_rng(0).uniform(-1, 1, (3, SIDE, SIDE, 1))
    brightness = np.array([0.1, 1, 10]).reshape(3, 1, 1, 1)
    photos = np.repeat(grey * brightness, 3, axis=3).astype(np.float32)
    expected = original(own, "photo:0", f"{last}:0", photos[..., :channels])
    assert np.ptp(expected, axis=0).max() > 0.03 * np.abs(expected).max()
    assert features(backbone, photos) == pytest.approx(expected, abs=1e-3)
    products = pointwise_products(backbone)
    assert [node.op for node in products.node].count("Conv2D") == 1
    assert features(products, photos) == pytest.approx(expected, abs=1e-3)
