"""Stand-ins for the conversion of the tiny network, which take no time."""

from retrain.settings.conversion import Quantization
from tests.helpers.deploy_fixtures import networks


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
