"""Let a model call a photo unknown: lower its scores for unfamiliar photos, and set a threshold.

A softmax must choose among the classes that it knows, and is often surest of photos that belong to
none of them. The distance to the training photos identifies those: the cosine between a photo's
bottleneck and the nearest class's mean. `python -m bench.experiments.unknown` measures this.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.contract import InputSpec
from deploy.errors import BadData
from deploy.image import normalise
from deploy.model_file import ModelFile
from deploy.runtime import Model
from retrain import parallel
from retrain.conversion.parity import model_scores
from retrain.data.photo import Photo
from retrain.data.photo_pixels import pixels
from retrain.frozen_graph import FrozenGraph
from retrain.progress import Progress
from retrain.tf_graph import BOTTLENECK, definition, import_graph, parse, session, tensorflow
from retrain.tflite.final_layer import RELU6_MAX, Dense

_FULL_FAMILIARITY_STDS, _ZERO_FAMILIARITY_STDS = 2.0, 4.0
"""How many standard deviations below the mean cosine familiarity is still 1, and is 0.

Measured on solar cells and flowers: few photos of a known class are below the first, and most of
the other data set are below the second.
"""
_ROUNDING_SLACK = 1e-9
"""Added to a share of photos before it is cut to a whole number: 0.29 * 100 is 28.999..."""

Floats = npt.NDArray[np.float32]
RunTrunk = Callable[[npt.NDArray[np.uint8]], Floats]
"""Computes the bottleneck, float32 (width,), of a photo, uint8 (1, height, width, 3)."""


@dataclass(frozen=True)
class Rejection:
    """The threshold below which a photo is unknown, and what it does to photos of known classes.

    `rate` is the share that the user allows, of 0..1; `rejected` of the `photos` of validation
    score below `threshold`, and `test_rejected` of the `test_photos`. The last two are None in
    files of versions that did not write them.
    """

    rate: float
    threshold: float
    photos: int
    rejected: int
    test_photos: int | None = None
    test_rejected: int | None = None

    def with_test(self, scores: Floats) -> "Rejection":
        """Return a copy that also counts the test photos; their `scores` are (N, classes)."""
        rejected = int((scores.max(axis=1) < self.threshold).sum())
        return replace(self, test_photos=len(scores), test_rejected=rejected)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure_familiarity(
    graph: FrozenGraph,
    trunk: bytes | None,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    progress: Progress,
) -> Dense:
    """Return the dense layer (D, C) that gives 6 times a photo's familiarity with each class.

    It takes the bottleneck divided by its length; below 0 familiarity is 0, above 6 it is 1.
    Bottlenecks are those of the flatbuffer `trunk`, or of `graph` if that is None. `training`
    photos of every class give the means; `validation` photos, of known classes too, give the usual
    cosines. Raises BadData without validation photos.
    """
    if not validation:
        raise BadData("no validation photos: `reject_rate` needs some")
    create = _run_trunk(trunk) if trunk else _run_graph(graph)
    training_rows = _bottlenecks(create, training, graph.spec, progress)
    validation_rows = _bottlenecks(create, validation, graph.spec, progress)
    labels = np.array([photo.label for photo in training])
    means = np.stack([training_rows[labels == label].mean(axis=0) for label in np.unique(labels)])
    directions = _unit(means)
    cosines = (_unit(validation_rows) @ directions.T).max(axis=1)
    mean, deviation = float(cosines.mean()), max(float(cosines.std()), 1e-3)
    low = mean - _ZERO_FAMILIARITY_STDS * deviation
    high = mean - _FULL_FAMILIARITY_STDS * deviation
    scale = RELU6_MAX / (high - low)
    weights = (directions.T * scale).astype(np.float32)
    return Dense(weights, np.full(len(means), -low * scale, np.float32))


def add_familiarity(graph: FrozenGraph, familiarity: Dense) -> FrozenGraph:
    """Return the graph whose output is its probabilities times familiarity, of 0..1.

    A photo has one familiarity, whatever the class: the largest. RELU6 clips in the operation that
    multiplies. A later clip would be quantized in between, in the range of the calibration photos,
    which are all of known classes.
    """
    tf = tensorflow()
    message = parse(graph.graph_def)
    softmax = f"{graph.output}_of_the_known"
    for node in message.node:
        if node.name == graph.output:
            node.name = softmax
    with tf.Graph().as_default() as extended:
        import_graph(message)
        with tf.name_scope(f"{graph.output}_familiarity"):  # so that none is named as the output
            direction = tf.math.l2_normalize(extended.get_tensor_by_name(f"{BOTTLENECK}:0"), axis=1)
            product = tf.matmul(direction, tf.constant(familiarity.weights))
            near = tf.nn.relu6(tf.nn.bias_add(product, tf.constant(familiarity.bias)))
            share = tf.reduce_max(near, axis=1, keepdims=True) * (1 / RELU6_MAX)
        probabilities = extended.get_tensor_by_name(f"{softmax}:0")
        tf.multiply(probabilities, share, name=graph.output)
    serialized = definition(extended).SerializeToString(deterministic=True)
    return replace(graph, graph_def=serialized)


def _run_trunk(trunk: bytes) -> Callable[[], RunTrunk]:
    return lambda: Model(trunk)


def _run_graph(graph: FrozenGraph) -> Callable[[], RunTrunk]:
    run = session(parse(graph.graph_def), BOTTLENECK)
    return lambda: lambda image: run(normalise(image, graph.spec))[0]


def _bottlenecks(
    create: Callable[[], RunTrunk], photos: Sequence[Photo], spec: InputSpec, progress: Progress
) -> Floats:
    """Return float32 (N, width), the bottleneck of each photo; each thread calls `create`."""

    def analyse(run: RunTrunk, photo: Photo) -> Floats:
        return run(pixels(photo, spec))

    with progress.bar("comparing", len(photos), "photos") as advance:
        return np.stack(parallel.run_in_order(photos, create, analyse, advance))


def _unit(vectors: Floats) -> Floats:
    """Return each row (N, width) divided by its length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), np.float32)


def find_threshold(
    file: ModelFile, photos: Sequence[Photo], rate: float, progress: Progress
) -> Rejection:
    """Return the highest threshold at which the model rejects the share `rate` of new photos.

    `photos`, N, are those of validation. A new photo of the same classes is as likely between any
    two of their scores: it is below the score of rank k, which counts from 1, with a probability of
    k / (N + 1). That is exact only if nothing else was chosen by these photos. They also chose the
    head and its temperature, and `measure_familiarity` measured them, so that new photos may score
    a little less; `Rejection.with_test` counts. With too few photos for rank 1 that is used, and a
    warning says so.
    """
    best = np.sort(model_scores(file, photos, progress).max(axis=1))
    rank = min(int(rate * (len(best) + 1) + _ROUNDING_SLACK), len(best))
    threshold = best[max(rank, 1) - 1]
    if not rank:
        progress.warn(
            f"`reject_rate` {rate:g} needs {math.ceil(1 / rate) - 1} validation photos, there are "
            f"{len(best)}: a photo is unknown if it scores less than each of them, as about "
            f"{1 / (len(best) + 1):.0%} of known photos will"
        )
    if not threshold:
        progress.warn(
            f"`reject_rate` {rate:g}: a larger share of validation photos scores 0, so no photo "
            "is unknown: are they like the training photos?"
        )
    return Rejection(rate, float(threshold), len(best), int((best < threshold).sum()))
