"""The retrained graph: backbone and final layer in one frozen GraphDef."""

from retrain import graph
from retrain.backbones import Backbone
from retrain.head import Head


def frozen_graph(backbone: Backbone, head: Head, final_tensor_name: str) -> bytes:
    """Return a GraphDef from `input`, float32 (N, height, width, 3) as the contract says.

    Its output, the operation `final_tensor_name`, gives probabilities (N, classes); `bottleneck`
    and `logits` can be read too.
    """
    tf = graph.tensorflow()
    with tf.Graph().as_default() as retrained:
        tf.import_graph_def(graph.read(backbone.graph_path), name="")
        bottleneck = retrained.get_tensor_by_name(f"{graph.BOTTLENECK}:0")
        product = tf.matmul(bottleneck, tf.constant(head.weights, name="final_weights"))
        logits = tf.nn.bias_add(
            product, tf.constant(head.bias, name="final_biases"), name=graph.LOGITS
        )
        tf.nn.softmax(logits, name=final_tensor_name)
    # Deterministic: else protobuf shuffles attributes, and the same weights give other bytes.
    serialized: bytes = retrained.as_graph_def().SerializeToString(deterministic=True)
    return serialized
