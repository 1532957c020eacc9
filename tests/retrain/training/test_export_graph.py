"""Compare the exported graph with what TensorFlow itself would write, byte for byte."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.errors import BadData, WrongUse
from retrain import tf_graph
from retrain.backbones import Backbone
from retrain.progress import Progress
from retrain.training.export_graph import export_graph
from retrain.training.head import Head
from retrain.training.top import Top
from retrain.training.trained_network import FineTunedNetwork, LinearNetwork, TrainedNetwork
from tests.helpers.small_networks import (
    CLASSES,
    CUT,
    SHAPE,
    WIDTH,
    small_backbone,
    small_head,
    top_body,
)

tf = tf_graph.tensorflow()
OUTPUT = "final_result"


def written_by_tensorflow(backbone: Backbone, network: TrainedNetwork) -> bytes:
    """Return the bytes of the retrained graph as TensorFlow builds and writes it."""
    graph_def = tf.compat.v1.GraphDef.FromString(backbone.graph_path.read_bytes())
    for node in graph_def.node:
        if node.name in network.constants:
            value = tf.make_tensor_proto(network.constants[node.name])
            node.attr["value"].tensor.CopyFrom(value)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        bottleneck = graph.get_tensor_by_name("bottleneck:0")
        weights = tf.constant(network.head.weights, name="final_weights")
        product = tf.matmul(bottleneck, weights)
        bias = tf.constant(network.head.bias, name="final_biases")
        tf.nn.softmax(tf.nn.bias_add(product, bias, name="logits"), name=OUTPUT)
    content: bytes = graph.as_graph_def().SerializeToString(deterministic=True)
    return content


def with_names_of_the_final_layer(x: Any, values: Any) -> Any:
    """Return the bottlenecks by operations whose names the final layer would have too."""
    x = top_body(x, values)
    x = tf.nn.bias_add(x, tf.constant(np.ones(WIDTH, np.float32), name="FINAL_WEIGHTS"))
    x = tf.add(x, tf.constant(1.0, name="final_biases_1"), name="Matmul_2")
    return tf.add(x, tf.constant(2.0, name="final_biases"), name="logits")


@pytest.fixture(params=[top_body, with_names_of_the_final_layer])
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    return small_backbone(tmp_path, request.param)[0]


def linear(head: Head | None = None) -> LinearNetwork:
    return LinearNetwork(head or small_head(), {})


def test_a_linear_network_has_tensorflows_bytes(backbone: Backbone) -> None:
    exported = export_graph(backbone, linear(), OUTPUT)
    assert exported.graph_def == written_by_tensorflow(backbone, linear())
    assert (exported.output, exported.spec) == (OUTPUT, backbone.spec)


def test_a_fine_tuned_network_has_tensorflows_bytes(backbone: Backbone) -> None:
    trunk = replace(backbone, width=int(np.prod(SHAPE)), cut=CUT)
    top = Top(backbone, trunk, SHAPE, CLASSES)
    parameters = [values + np.float32(0.25) for values in top.initial(small_head())]
    network = FineTunedNetwork(top, parameters, {}, Progress())
    exported = export_graph(backbone, network, OUTPUT).graph_def
    assert len(network.constants) > 4
    assert exported == written_by_tensorflow(backbone, network)
    assert exported != export_graph(backbone, linear(), OUTPUT).graph_def


def test_an_empty_library_is_left_out_as_tensorflow_does(backbone: Backbone) -> None:
    graph_def = tf_graph.read(backbone.graph_path)
    graph_def = tf_graph.subgraph(graph_def, "bottleneck")
    assert graph_def.HasField("library")
    backbone.graph_path.write_bytes(graph_def.SerializeToString())
    exported = export_graph(backbone, linear(), OUTPUT).graph_def
    assert exported == written_by_tensorflow(backbone, linear())


@pytest.mark.parametrize("name", ["final_weights", "MATMUL", "final_result"])
def test_a_name_that_the_graph_has_is_refused_as_output(name: str, tmp_path: Path) -> None:
    def named(x: Any, values: Any) -> Any:
        return tf.identity(top_body(x, values), name="final_result")

    backbone, _ = small_backbone(tmp_path, named)
    with pytest.raises(WrongUse, match=f"`final_tensor_name` {name}"):
        export_graph(backbone, linear(), name)


def test_a_damaged_graph_is_bad_data(tmp_path: Path) -> None:
    backbone, _ = small_backbone(tmp_path)
    whole = backbone.graph_path.read_bytes()
    no_bottleneck = tf_graph.subgraph(tf_graph.parse(whole), CUT).SerializeToString()
    for content in (b"", b"\x0a\xff" + whole, no_bottleneck):
        backbone.graph_path.write_bytes(content)
        with pytest.raises(BadData, match="graph"):
            export_graph(backbone, linear(), OUTPUT)
