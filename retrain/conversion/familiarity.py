"""Scores that fall to zero where a photo resembles no class: probabilities times familiarity.

A softmax must choose among the classes that it knows, and is often surest of photos that are of
none. How near a photo is to the training photos tells those: the cosine between its bottleneck
and the nearest class's mean. Measured by `python -m bench.experiments.unknown`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import Contract, InputSpec
from deploy.errors import BadData
from deploy.image import normalise
from retrain import parallel
from retrain.data.photo_folder import Photo
from retrain.data.photo_pixels import pixels
from retrain.progress import Progress
from retrain.tf_graph import BOTTLENECK, parse, session, tensorflow

_ALL, _NONE = 2.0, 4.0
"""So many standard deviations below the mean cosine, familiarity is still whole, and is none.

Of solar cells and flowers, few photos of a known class are as low as the first, and most of the
other data set are as low as the second.
"""
_SIX = 6.0
"""RELU6 clips as it multiplies. What clips later would be quantized first, in the range of the
photos that the model was calibrated on: all of known classes."""

Floats = npt.NDArray[np.float32]


def add(
    serialized: bytes,
    contract: Contract,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    progress: Progress,
) -> bytes:
    """Return the frozen graph whose output is its probabilities times familiarity, of 0..1.

    A photo has one familiarity, whatever the class. `training` photos, of every class, give the
    means; `validation` photos, of known classes too, tell what is usual. Raises BadData where
    there are none.
    """
    if not validation:
        raise BadData("no validation photos: --reject-rate has nothing to go by")
    definition, output = parse(serialized), contract.output
    of_training = _bottlenecks(definition, training, contract.input, progress)
    known = _bottlenecks(definition, validation, contract.input, progress)
    names = np.array([photo.label for photo in training])
    means = np.stack([of_training[names == name].mean(axis=0) for name in np.unique(names)])
    directions = _unit(means)
    cosines = (_unit(known) @ directions.T).max(axis=1)
    mean, deviation = float(cosines.mean()), max(float(cosines.std()), 1e-3)
    low, high = mean - _NONE * deviation, mean - _ALL * deviation
    scale = _SIX / (high - low)

    tf = tensorflow()
    softmax = f"{output}_of_the_known"
    for node in definition.node:
        if node.name == output:
            node.name = softmax
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(definition, name="")
        direction = tf.math.l2_normalize(made.get_tensor_by_name(f"{BOTTLENECK}:0"), axis=1)
        product = tf.matmul(direction, tf.constant((directions.T * scale).astype(np.float32)))
        bias = tf.constant(np.full(len(means), -low * scale, np.float32))
        near = tf.nn.relu6(tf.nn.bias_add(product, bias))
        familiarity = tf.reduce_max(near, axis=1, keepdims=True) * (1 / _SIX)
        tf.multiply(made.get_tensor_by_name(f"{softmax}:0"), familiarity, name=output)
    found: bytes = made.as_graph_def().SerializeToString(deterministic=True)
    return found


def _bottlenecks(
    definition: Any, photos: Sequence[Photo], spec: InputSpec, progress: Progress
) -> Floats:
    run = session(definition, BOTTLENECK)

    def analyse(_: None, photo: Photo) -> Floats:
        row: Floats = run(normalise(pixels(photo, spec), spec))[0]
        return row

    with progress.bar("comparing", len(photos), "photos") as advance:
        return np.stack(parallel.run_in_order(photos, lambda: None, analyse, advance))


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), np.float32)
