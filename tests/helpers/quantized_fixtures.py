"""Convert a small network, whose dense layer is large enough to be quantized, in each way."""

import warnings
from functools import cache
from typing import Any

import numpy as np

CLASSES = 64
DYNAMIC, PER_TENSOR = "dynamic", "dynamic, dense layers per tensor"


@cache
def network() -> Any:
    """Return the GraphDef of a network with weights enough to be quantized dynamically."""
    from retrain import tf_graph

    tf = tf_graph.tensorflow()
    random = np.random.default_rng(0)
    kernel, weights = (random.normal(size=s).astype(np.float32) for s in ((3, 3, 3, 64), (64, 64)))
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, [1, 32, 32, 3], name="input")
        mean = tf.reduce_mean(tf.nn.relu6(tf.nn.conv2d(images, kernel, 2, "VALID")), [1, 2])
        tf.nn.softmax(tf.matmul(mean, weights), name="final_result")
    return graph.as_graph_def()


@cache
def convert(kind: str) -> bytes:
    """Return the network, quantized by TFLite's own means."""
    from retrain import tf_graph

    tf = tf_graph.tensorflow()
    function = tf_graph.function(network(), "final_result")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == PER_TENSOR:
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if kind in ("int8", "int8 in and out", "int16x8"):
        photos = np.random.default_rng(1).normal(size=(8, 1, 32, 32, 3)).astype(np.float32)
        converter.representative_dataset = lambda: ([photo] for photo in photos)
        integer = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        if kind == "int16x8":
            integer = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [integer]
    if kind == "int8 in and out":
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with warnings.catch_warnings(action="ignore"):
        flatbuffer: bytes = converter.convert()
    return flatbuffer
