"""Build a small backbone with a cut, and feature maps to train its top on, without a conversion."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.bottlenecks.feature_store import FeatureStore
from retrain.training.head import Examples, Head
from retrain.training.top import Top

Array = npt.NDArray[Any]
SIDE = 8
CUT = "below"
SHAPE = (SIDE, SIDE, 4)
"""The shape of a feature map at the cut."""
SHAPES = {
    "kernel": (3, 3, 4, 6),
    "bias": (6,),
    "depthwise": (3, 3, 6, 1),
    "depthwise_bias": (6,),
    "narrow": (1, 1, 6, 5),
    "dense": (5, 7),
    "dense_bias": (7,),
}
"""The shape of each constant above the cut, in the order of running."""
FROZEN = ("depthwise",)
WIDTH = SHAPES["dense_bias"][0]
CLASSES = 3

Body = Callable[[Any, Mapping[str, Any]], Any]


def constants() -> dict[str, Array]:
    """Return a value for each of SHAPES."""
    random = np.random.default_rng(0)
    return {
        name: random.uniform(-0.5, 0.6, shape).astype(np.float32) for name, shape in SHAPES.items()
    }


def top_body(x: Any, values: Mapping[str, Any]) -> Any:
    """Return the bottlenecks (N, WIDTH) of feature maps (N, *SHAPE), of any precision."""
    tf = tf_graph.tensorflow()
    x = tf.nn.bias_add(tf.nn.conv2d(x, values["kernel"], 2, "SAME"), values["bias"])
    x = tf.nn.depthwise_conv2d(tf.nn.relu6(x), values["depthwise"], [1, 1, 1, 1], "SAME")
    x = tf.nn.bias_add(x, values["depthwise_bias"])
    x = x * tf.nn.relu6(x + 3.0) / 6.0  # hard-swish
    x = tf.reduce_mean(tf.nn.conv2d(x, values["narrow"], 1, "SAME"), [1, 2])
    return tf.nn.relu(tf.matmul(x, values["dense"]) + values["dense_bias"])


def small_backbone(folder: Path, body: Body = top_body) -> tuple[Backbone, Backbone]:
    """Return a backbone whose graph, written into `folder`, has `body` above CUT, and its trunk.

    They have no flatbuffer.
    """
    tf = tf_graph.tensorflow()

    def whole(images: Any) -> Any:
        kernel = tf.constant(np.random.default_rng(1).uniform(-1, 1, (3, 3, 3, 4)), tf.float32)
        maps = tf.nn.relu6(tf.nn.conv2d(images, kernel, 1, "SAME"), name=CUT)
        values = {name: tf.constant(value, name=name) for name, value in constants().items()}
        return body(maps, values)

    path = folder / "small.pb"
    graph = tf_graph.trace(whole, (SIDE, SIDE, 3), tf_graph.BOTTLENECK)
    path.write_bytes(graph.SerializeToString())
    spec = InputSpec(SIDE, SIDE, mean=128.0, std=128.0, crop=1.0)
    backbone = Backbone("small", spec, WIDTH, "0" * 64, path, b"")
    return backbone, replace(backbone, width=int(np.prod(SHAPE)), cut=CUT)


def small_top(folder: Path, body: Body = top_body) -> Top:
    """Return the top of `small_backbone`."""
    return Top(*small_backbone(folder, body), SHAPE, CLASSES)


def small_head() -> Head:
    """Return a head on the bottlenecks of `small_backbone`."""
    weights = np.random.default_rng(2).normal(0, 0.5, (WIDTH, CLASSES))
    return Head(weights.astype(np.float32), np.array([0.1, -0.2, 0.3], np.float32))


def feature_maps(photos: int, views: int = 1, seed: int = 0) -> Examples:
    """Return maps of `photos`, of CLASSES classes that a trained top can tell apart.

    Each photo has `views` rows; photo i is of class i % CLASSES.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(photos) % CLASSES
    maps = random.uniform(0, 2, (photos * views, *SHAPE))
    for i, label in enumerate(np.repeat(labels, views)):
        maps[i, :, ::2, label] += 1.0
    rows = np.arange(photos * views).reshape(photos, views)
    return Examples(FeatureStore.of(maps.reshape(len(maps), -1)), rows, labels)
