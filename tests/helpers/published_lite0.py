"""Build EfficientNet-Lite0 as published: every batch normalization an operation of its own.

`python -m tests.helpers.published_lite0 FILE` writes it as a frozen graph, `input` to `bottleneck`.
"""

import sys
from pathlib import Path
from typing import Any

from retrain import tf_graph
from retrain.backbones.efficientnet_lite import NETWORKS
from retrain.backbones.network import Weights

LITE0 = NETWORKS[0]
# Kernel, stride, expansion, channels out, repeats: the table of the paper's repository.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def published(weights: Weights) -> Any:
    """Return the GraphDef of the network, batch normalization and all."""
    tf = tf_graph.tensorflow()

    def norm(x: Any, name: str) -> Any:
        values = (weights[f"{name}.{suffix}"] for suffix in ("weight", "bias"))
        moments = (weights[f"{name}.running_{suffix}"] for suffix in ("mean", "var"))
        fused = tf.compat.v1.nn.fused_batch_norm
        return fused(x, *values, *moments, epsilon=1e-3, is_training=False)[0]

    def conv(x: Any, name: str, after: str, stride: int = 1) -> Any:
        kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
        return norm(tf.nn.conv2d(x, kernel, stride, "SAME"), after)

    def depthwise(x: Any, name: str, after: str, stride: int) -> Any:
        kernel = weights[f"{name}.weight"].transpose(2, 3, 0, 1)
        return norm(tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME"), after)

    def network(x: Any) -> Any:
        x = tf.nn.relu6(conv(x, "_conv_stem", "_bn0", 2))
        blocks = [
            (expansion, out, stride if first == 0 else 1)
            for _, stride, expansion, out, repeats in STAGES
            for first in range(repeats)
        ]
        for number, (expansion, out, stride) in enumerate(blocks):
            block, y = f"_blocks.{number}.", x
            if expansion > 1:
                y = tf.nn.relu6(conv(y, block + "_expand_conv", block + "_bn0"))
            y = tf.nn.relu6(depthwise(y, block + "_depthwise_conv", block + "_bn1", stride))
            y = conv(y, block + "_project_conv", block + "_bn2")
            x = x + y if (stride, x.shape[-1]) == (1, out) else y
        return tf.reduce_mean(tf.nn.relu6(conv(x, "_conv_head", "_bn1")), axis=[1, 2])

    return tf_graph.trace(network, (224, 224, 3), tf_graph.BOTTLENECK)


if __name__ == "__main__":
    definition = published(LITE0.read_weights(LITE0.fetch_weights()))
    Path(sys.argv[1]).write_bytes(definition.SerializeToString())
