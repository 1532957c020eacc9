"""Build graphs as TensorFlow's retrain.py wrote them, of a run's network and final layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain import tf_graph
from tests.helpers.deploy_fixtures import networks

tf = tf_graph.tensorflow()
v1 = tf.compat.v1
Array = npt.NDArray[np.float32]
_NETWORK = "network"


def weights(run: Any, name: str) -> Array:
    """Return the constant `name` of the GraphDef `run`."""
    (node,) = (node for node in run.node if node.name == name)
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


def bottleneck(run: Any, images: Any) -> Any:
    (row,) = tf_graph.import_graph(run, {"input:0": images}, ["bottleneck:0"], _NETWORK)
    return row


def inception(run: Any, side: int, mean: float = 128.0, std: float = 128.0) -> Any:
    """Return the bottleneck of a network as that of 2015: a file's bytes go in, one photo."""
    contents = tf.constant(b"", name="DecodeJpeg/contents")
    decoded = tf.cast(tf.io.decode_jpeg(contents, 3, name="DecodeJpeg"), tf.float32, name="Cast")
    batch = tf.expand_dims(decoded, 0, name="ExpandDims")
    resized = v1.image.resize_bilinear(batch, [side, side], name="ResizeBilinear")
    images = tf.multiply(tf.subtract(resized, mean, name="Sub"), 1 / std, name="Mul")
    row = bottleneck(run, images)
    return tf.reshape(row, [1, row.shape[-1]], name="pool_3/_reshape")


def optimized_inception(run: Any, side: int) -> Any:
    """Return the same after optimize_for_inference: the decoder is a placeholder of no shape."""
    images = v1.placeholder(tf.float32, name="Mul")
    row = bottleneck(run, tf.reshape(images, [1, side, side, 3]))
    return tf.reshape(row, [1, row.shape[-1]], name="pool_3/_reshape")


def mobilenet(run: Any, side: int) -> Any:
    images = v1.placeholder(tf.float32, [1, side, side, 3], name="input")
    row = bottleneck(run, images)
    return tf.reshape(row, [1, row.shape[-1]], name="MobilenetV1/Predictions/Reshape")


def hub(run: Any, side: int) -> Any:
    images = v1.placeholder(tf.float32, [None, side, side, 3], name="Placeholder")
    doubled = tf.multiply(images, 2.0, name="module_apply_default/hub_input/Mul")
    images = tf.subtract(doubled, 1.0, name="module_apply_default/hub_input/Sub")
    row = bottleneck(run, images)
    return tf.identity(row, name="module_apply_default/hub_output/feature_vector/SpatialSqueeze")


def quantized_hub(run: Any, side: int) -> Any:
    row = hub(run, side)
    name = "module_apply_default/MobilenetV1/act_quant/FakeQuantWithMinMaxVars"
    return tf.quantization.fake_quant_with_min_max_vars(row, 0.0, 6.0, name=name)


Style = Callable[[Any, int], Any]
STYLES: tuple[Style, ...] = (inception, optimized_inception, mobilenet, hub, quantized_hub)


def retrained(
    run: Any,
    style: Style,
    side: int,
    final: str = "final_result",
    softmax: Callable[..., Any] = tf.nn.softmax,
) -> Any:
    """Return the GraphDef that the script would have written, frozen from `final`."""
    with tf.Graph().as_default() as graph:
        row = style(run, side)
        of_hub = style in (hub, quantized_hub)
        with v1.name_scope("input"):
            shape = [None, row.shape[-1]]
            input_row = v1.placeholder_with_default(row, shape, name="BottleneckInputPlaceholder")
        with v1.name_scope("final_retrain_ops" if of_hub else "final_training_ops"):
            with v1.name_scope("weights"):
                final_weights = tf.constant(weights(run, "final_weights"), name="final_weights")
                read = tf.identity(final_weights, name="final_weights/read")
            with v1.name_scope("biases"):
                biases = tf.constant(weights(run, "final_biases"), name="final_biases")
            with v1.name_scope("Wx_plus_b"):
                if style is quantized_hub:
                    read = tf.quantization.fake_quant_with_min_max_vars(
                        read, -6.0, 6.0, name="weights_quant/FakeQuantWithMinMaxVars"
                    )
                logits = tf.add(tf.matmul(input_row, read, name="MatMul"), biases, name="add")
        softmax(logits, name=final)
    return v1.graph_util.extract_sub_graph(graph.as_graph_def(), [final])


def save(graph_def: Any, path: Path) -> Path:
    path.write_bytes(graph_def.SerializeToString())
    return path


def of_another_program(head: Callable[[Any], object]) -> Any:
    """Return the GraphDef of another program's classifier: `head` takes pixels' mean (1, 1, 1, 3).

    Its placeholder `input` gives no scale.
    """
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, [1, SIDE, SIDE, 3], name="input")
        head(tf.reduce_mean(images, [1, 2], keepdims=True))
    return graph.as_graph_def()


SIDE = 32
LABELS = ("red", "gr n hell", "blue", "grey")
"""Those of the photos of deploy_fixtures, as the script wrote the names of their folders."""


def tiny(style: Style, **changes: Any) -> Any:
    """Return a graph of the tiny network of deploy_fixtures, as the script would have written."""
    return retrained(tf_graph.parse(networks().graph), style, SIDE, **changes)


def write_labels(path: Path, labels: tuple[str, ...] = LABELS) -> Path:
    path.write_text("".join(f"{label}\n" for label in labels), "utf-8")
    return path
