"""Build networks as users have them, and compare backbones with them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from deploy.runtime import Model
from retrain import tf_graph
from retrain.backbones import Backbone, keras_applications
from retrain.backbones.custom.custom_network import Ends
from retrain.backbones.custom.load import load_custom
from tests.helpers.random_networks import random_model

SIDE = 32
_PRODUCER = 8
"""The version of the graphs of 2015."""
Array = npt.NDArray[np.float32]
tf = tf_graph.tensorflow()
v1 = tf.compat.v1


def values(*shape: int, low: float = -0.5) -> Any:
    random = np.random.default_rng(sum(shape))
    return tf.constant(random.uniform(low, low + 1, shape).astype(np.float32))


def old_norm(x: Any, scaled: bool) -> Any:
    """Return x after the normalization of 2015, which TensorFlow takes from old graphs only."""
    n = x.shape[-1]
    return tf.raw_ops.BatchNormWithGlobalNormalization(
        t=x,
        m=values(n),
        v=values(n, low=0.5),
        beta=values(n, low=0.1),
        gamma=values(n, low=0.3),
        variance_epsilon=1e-3,
        scale_after_normalization=scaled,
    )


def define(body: Callable[[], object]) -> Any:
    """Return the GraphDef that `body` builds, of the version of 2015."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(v1.GraphDef(versions={"producer": _PRODUCER}))
        body()
    return graph.as_graph_def()


def before_network(side: int) -> Any:
    """Return the input of a network of 2015: one photo, decoded in the graph."""
    contents = tf.constant(b"", name="DecodeJpeg/contents")
    decoded = tf.cast(tf.io.decode_jpeg(contents, 3, name="DecodeJpeg"), tf.float32)
    resized = v1.image.resize_bilinear(tf.expand_dims(decoded, 0), [side, side])
    return tf.multiply(tf.subtract(resized, 128.0), 1 / 128, name="Mul")


def after_network(x: Any, width: int) -> None:
    x = tf.reshape(x, [1, width], name="pool_3/_reshape")
    tf.nn.softmax(tf.matmul(x, values(width, 3)), name="softmax")


def classic() -> None:
    x = before_network(SIDE)
    x = v1.nn.conv2d(x, tf.identity(values(3, 3, 3, 8)), 2, "SAME", name="conv")
    x = tf.debugging.check_numerics(tf.nn.relu(old_norm(x, False)), "conv")
    x = v1.nn.depthwise_conv2d_native(x, values(3, 3, 8, 2), [1, 1, 1, 1], "SAME")
    x = old_norm(tf.nn.relu(old_norm(x, True)), True)
    after_network(tf.nn.avg_pool2d(x, SIDE // 2, 1, "VALID", name="pool_3"), 16)


def save(graph_def: Any, path: Path) -> Path:
    path.write_bytes(graph_def.SerializeToString())
    return path


def original(graph_def: Any, input_tensor: str, bottleneck: str, tensor: Array) -> Array:
    """Return the bottlenecks of the file's own graph for `tensor`, one photo at a time."""
    with tf.Graph().as_default() as graph:
        tf_graph.import_graph(graph_def)
    with v1.Session(graph=graph) as session:
        rows = [session.run(bottleneck, {input_tensor: photo[np.newaxis]}) for photo in tensor]
    return np.asarray(rows, np.float32).reshape(len(tensor), -1)


def keras_model(*layers: Any, shape: tuple[int, int, int] = (SIDE, SIDE, 3)) -> Any:
    """Return a small Keras classifier, `layers` before its last, with statistics that matter."""
    kinds = tf.keras.layers
    convolution = kinds.Conv2D(8, 3, 2, use_bias=False)
    model = tf.keras.Sequential(
        [
            tf.keras.Input(shape),
            convolution,
            kinds.BatchNormalization(),
            kinds.ReLU(),
            kinds.DepthwiseConv2D(3),
            kinds.BatchNormalization(),
            kinds.GlobalAveragePooling2D(),
            kinds.Dropout(0.5),
            *layers,
            kinds.Dense(3, activation="softmax"),
        ]
    )
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, weights.shape) for weights in model.get_weights()])
    return model


def inception_of_2015(side: int) -> Any:
    """Return Inception v3 as of 2015: its names and operations, one photo at a time, random.

    `side` is the height and width of its input, in pixels.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    (inception,) = (
        network for network in keras_applications.NETWORKS if network.name == "inception_v3"
    )
    spec = replace(inception.spec, height=side, width=side)
    model = random_model(replace(inception, spec=spec))
    with mock.patch("keras.src.backend.nn.batch_normalization", _one_operation):
        run = tf.function(lambda images: model(images, training=False))
        concrete = run.get_concrete_function(tf.TensorSpec([1, side, side, 3]))
    frozen = convert_variables_to_constants_v2(concrete)
    network = frozen.graph.as_graph_def()
    network.versions.producer = _PRODUCER
    for node in network.node:
        if node.op == "FusedBatchNormV3":
            _make_old(node)

    def body() -> None:
        ends = {frozen.inputs[0].name: before_network(side)}
        (x,) = tf.import_graph_def(network, ends, [frozen.outputs[0].name], name="inception")
        after_network(x, 2048)

    return define(body)


def _one_operation(
    x: Any, mean: Any, variance: Any, _axis: int, offset: Any, scale: Any, epsilon: float
) -> Any:
    """Return Keras' batch normalization as one operation."""
    scale = np.ones(mean.shape, np.float32) if scale is None else scale
    norm = v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training=False)
    return norm[0]


def _make_old(norm: Any) -> None:
    """Turn a FusedBatchNormV3, whose scale is 1, into the operation of 2015."""
    x, scale, offset, mean, variance = norm.input
    epsilon = norm.attr["epsilon"].f
    norm.op = "BatchNormWithGlobalNormalization"
    norm.input[:] = [x, mean, variance, offset, scale]
    norm.attr.clear()
    norm.attr["T"].type = tf.float32.as_datatype_enum
    norm.attr["variance_epsilon"].f = epsilon
    norm.attr["scale_after_normalization"].b = False


def load(
    path: Path, cache_dir: Path, *ends: str, size: int | tuple[int, int] | None = SIDE
) -> Backbone:
    """Load a network from the tensor ends[0] to ends[1], or from where its file says."""
    input_tensor, bottleneck = ends or (None, None)
    return load_custom(path, Ends(input_tensor, bottleneck, size, 128.0, 128.0), cache_dir)


def require_same(backbone: Backbone, expected: Array, tensor: Array) -> None:
    """Assert that graph, batched, and TFLite give `expected` for `tensor`."""
    run = tf_graph.open_session(backbone.read_graph())
    model = Model(backbone.flatbuffer)
    largest = np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 0.03 * largest, "all photos look the same to it"
    assert expected.shape == (len(tensor), backbone.width)
    assert np.abs(run(tensor) - expected).max() < 1e-3 * largest
    assert np.abs([model(photo[np.newaxis]) for photo in tensor] - expected).max() < 1e-3 * largest


def operations(backbone: Backbone) -> set[str]:
    return {node.op for node in tf_graph.read(backbone.graph_path).node}
