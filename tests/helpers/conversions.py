"""Stand-ins for the conversion of the tiny network, which take no time."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrain.frozen_graph import BOTTLENECK, FrozenGraph
from retrain.quantization.quantize import quantize, span_byte_range
from retrain.settings.conversion import TRUNK_RECIPE, Quantization
from retrain.tflite import final_layer
from retrain.tflite.final_layer import Dense, FinalLayer, replace_final_layer
from tests.helpers.deploy_fixtures import BIAS, SPEC, WEIGHTS, networks


def tiny_flatbuffer(quantization: Quantization) -> bytes:
    """Return the flatbuffer of the tiny network: of uint8 input for int8, else of float32."""
    record = quantization.record
    return networks().uint8 if record.has_uint8_input else networks().float32


def wide_network() -> bytes:
    """Return a graph with the tiny network's answers and a dense layer large enough to quantize."""
    from retrain import tf_graph

    tf = tf_graph.tensorflow()
    repeats = 50
    definition = tf.compat.v1.GraphDef.FromString(networks().graph)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(definition, name="")
        weights = tf.tile(graph.get_tensor_by_name("final_weights:0"), [repeats, 1]) / repeats
        with tf.compat.v1.Session() as session:
            constant = tf.constant(session.run(weights))
        bottleneck = tf.tile(graph.get_tensor_by_name("bottleneck:0"), [1, repeats])
        biases = graph.get_tensor_by_name("final_biases:0")
        tf.nn.softmax(tf.matmul(bottleneck, constant) + biases, name="wide_result")
    definition = graph.as_graph_def()
    for node in definition.node:
        if node.name == "final_result":
            node.name = "narrow_result"
        elif node.name == "wide_result":
            node.name = "final_result"
    serialized: bytes = definition.SerializeToString()
    return serialized


@cache
def tiny_trunk() -> bytes:
    """Return the int8 trunk of the tiny network."""
    corners = 255 * np.indices((2, 2, 2), np.uint8).reshape(3, 8).T
    pixels = np.broadcast_to(corners[:, np.newaxis, np.newaxis], (8, SPEC.height, SPEC.width, 3))
    graph = FrozenGraph(networks().graph, SPEC, BOTTLENECK)
    return quantize(graph, Quantization(TRUNK_RECIPE), span_byte_range(pixels))


@contextmanager
def rounded_weights() -> Iterator[None]:
    """Store the weights of final layers in int8, as if they were large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final_layer, "_MAX_EXACT_BYTES", 0)
        yield


@cache
def tiny_composed() -> bytes:
    """Return the tiny network, put together from its trunk and its final layer.

    Its weights are stored in int8, as those of many classes are.
    """
    with rounded_weights():
        return replace_final_layer(tiny_trunk(), FinalLayer(Dense(WEIGHTS, BIAS)), "final_result")


def add_trunk(run: Path, **metrics: Any) -> None:
    """Write the trunk into a run of the tiny network, and metrics.json as training does."""
    contract = json.loads((run / "contract.json").read_text("utf-8"))
    test = {"right": 12, "total": 12, "per_class": dict.fromkeys(contract["labels"])}
    values = {"graph_sha256": contract["graph_sha256"], "test": test}
    values["trunk_sha256"] = hashlib.sha256(tiny_trunk()).hexdigest()
    (run / "metrics.json").write_text(json.dumps(values | metrics), "utf-8")
    (run / "trunk.tflite").write_bytes(tiny_trunk())
