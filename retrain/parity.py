"""The gate: the frozen graph against the .tflite file, both on the photos of the test split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy import metadata
from deploy.classifier import Classifier
from deploy.errors import BadData
from deploy.image import open_image
from retrain import parallel
from retrain.dataset import Photo
from retrain.graph_classifier import GraphClassifier
from retrain.progress import Progress
from retrain.scores import Accuracy


@dataclass(frozen=True)
class Parity:
    """Graph and model on the same photos: accuracies, and how far their answers differ.

    `agreement` is the share of photos with the same best label, of 0..1; the differences are of
    probabilities, over all photos and classes.
    """

    graph: Accuracy
    model: Accuracy
    agreement: float
    mean_difference: float
    max_difference: float

    @property
    def drop(self) -> float:
        """How many points of accuracy the model is below the graph."""
        return 100 * (self.graph.value - self.model.value)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "graph": self.graph.to_json(),
            "model": self.model.to_json(),
            "agreement": self.agreement,
            "mean_difference": self.mean_difference,
            "max_difference": self.max_difference,
        }


def compare(graph: Path, model: Path, photos: Sequence[Photo], progress: Progress) -> Parity:
    """Classify `photos` with both, from their files as they ship."""
    if not photos:
        raise BadData("no test photos: nothing can be said of the model")
    file = metadata.read(model)
    labels = np.array([file.contract.labels.index(photo.label) for photo in photos])
    reference = GraphClassifier.open(graph)
    with progress.bar("scoring", len(photos), "photos") as advance:

        def both(classifier: Classifier, i: int) -> tuple[int, Any, Any]:
            image = open_image(photos[i].read(), file.contract.input)
            return i, reference.scores(image), classifier.scores(image)

        shape = (len(photos), len(file.contract.labels))
        expected, found = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for i, by_graph, by_model in parallel.run(
            range(len(photos)), lambda: Classifier(file), both
        ):
            expected[i], found[i] = by_graph, by_model
            advance(1)
    difference: npt.NDArray[np.float32] = np.abs(expected - found)
    return Parity(
        Accuracy.of(expected, labels),
        Accuracy.of(found, labels),
        float(np.mean(expected.argmax(axis=1) == found.argmax(axis=1))),
        float(difference.mean()),
        float(difference.max()),
    )
