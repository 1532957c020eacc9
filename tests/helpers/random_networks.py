"""Build networks of true architecture, with random weights that still distinguish photos."""

from typing import Any

import numpy as np

from retrain import tf_graph
from retrain.backbones.keras_applications import KerasNetwork

tf = tf_graph.tensorflow()
v1 = tf.compat.v1


def random_model(network: KerasNetwork, top: bool = False) -> Any:
    """Return the Keras model, every weight random.

    Batch norms have the statistics of photos of noise that went through, so that no layer's output
    vanishes or overflows, as it would in a deep network with statistics of chance.
    """
    tf.keras.utils.set_random_seed(0)
    model = network._model(top=top)
    set_statistics(model, network)
    return model


def set_statistics(model: Any, network: KerasNetwork) -> None:
    """Set random offsets and scales in the batch norms of `model`, and statistics that fit."""
    random = np.random.default_rng(0)
    size = network.spec.height
    coarse = random.uniform(-1, 1, (4, size // 8, size // 8, 3)).astype(np.float32)
    images = tf.image.resize(coarse, [size, size])
    if network.preprocess:
        module = getattr(tf.keras.applications, network.preprocess)
        images = module.preprocess_input(128 + 128 * images)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.beta.assign(random.normal(0, 0.2, layer.beta.shape))
            if layer.scale:
                layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.momentum = 0.0
    model(images, training=True)
