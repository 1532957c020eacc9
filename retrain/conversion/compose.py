"""Put a model together from the trunk that analysed the photos, and the trained final layer."""

from typing import Any

from deploy.untrusted_files import damaged
from retrain import tf_graph
from retrain.conversion.inputs import ConversionInputs
from retrain.frozen_graph import LOGITS, FrozenGraph
from retrain.tensor_proto import to_array
from retrain.tflite.final_layer import Dense, FinalLayer, replace_final_layer


def compose(trunk: bytes, inputs: ConversionInputs, output_type: str) -> bytes:
    """Return the flatbuffer `trunk` with the final layer of the graph of `inputs`.

    Raises BadData if the graph has no final layer of the trunk's width.
    """
    layer = FinalLayer(read_final_layer(inputs.trained), inputs.familiarity)
    return replace_final_layer(trunk, layer, inputs.trained.output, output_type)


def read_final_layer(graph: FrozenGraph) -> Dense:
    """Return the dense layer that gives LOGITS; raise BadData for a graph of another kind.

    Its constants are found by the operations that read them, as a backbone may have their names.
    """
    nodes: dict[str, Any] = {node.name: node for node in tf_graph.parse(graph.graph_def).node}
    with damaged("the graph has no final layer", "train again"):
        product, bias = nodes[LOGITS].input
        _, weights = nodes[product].input
        return Dense(*(to_array(nodes[name].attr["value"].tensor) for name in (weights, bias)))
