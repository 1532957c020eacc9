"""The gate: the frozen graph against a .tflite file, both on the photos of the test split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.classifier import Classifier, PhotoClassifier
from deploy.errors import BadData
from deploy.model_file import ModelFile
from retrain import parallel
from retrain.conversion.graph_classifier import GraphClassifier
from retrain.data.photo_folder import Photo, shown
from retrain.data.photo_pixels import decode
from retrain.metrics import Accuracy, Labels
from retrain.progress import Progress
from retrain.settings.conversion import Bounds

_WORST = 10
"""Of so many photos the names are kept."""

_ASTRAY = 0.02
"""Of the test photos so many may be called otherwise than at training."""

Scores = npt.NDArray[np.float32]


class Difference(NamedTuple):
    """A photo, the best label of graph and model, and the largest difference of a probability."""

    photo: str
    graph: str
    model: str
    difference: float


@dataclass(frozen=True)
class Parity:
    """Graph and model on the same photos: accuracies, and how far their answers differ.

    `agreement` is the share of photos with the same best label, of 0..1; the differences are of
    probabilities, over all photos and classes. `worst` are the photos that differ most.
    """

    graph: Accuracy
    model: Accuracy
    agreement: float
    mean_difference: float
    max_difference: float
    worst: tuple[Difference, ...]

    @property
    def drop(self) -> float:
        """How many points of accuracy the model is below the graph."""
        return 100 * (self.graph.value - self.model.value)

    def beyond(self, bounds: Bounds) -> list[str]:
        """Return which of `bounds` it is beyond, in words; nothing if the model may be used."""
        reasons = []
        if not self.drop <= bounds.max_accuracy_drop:
            reasons.append(
                f"it loses {self.drop:.1f} points of test accuracy (graph {self.graph}, model "
                f"{self.model}); --max-accuracy-drop is {bounds.max_accuracy_drop:g}, and one "
                f"photo is {100 / self.graph.total:.1f} points"
            )
        if not 100 * self.agreement >= bounds.min_agreement:
            reasons.append(
                f"its best label is the graph's on {self.agreement:.1%} of the test photos; "
                f"--min-agreement is {bounds.min_agreement:g}"
            )
        if not self.mean_difference <= bounds.max_mean_difference:
            reasons.append(
                f"its probabilities are {self.mean_difference:.2g} from the graph's in the mean; "
                f"--max-mean-difference is {bounds.max_mean_difference:g}"
            )
        return reasons

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "graph": self.graph.to_json(),
            "model": self.model.to_json(),
            "agreement": self.agreement,
            "mean_difference": self.mean_difference,
            "max_difference": self.max_difference,
            "worst": [each._asdict() for each in self.worst],
        }


def graph_scores(reference: GraphClassifier, photos: Sequence[Photo], progress: Progress) -> Scores:
    """Return what the frozen graph gives each photo, float32 (N, classes)."""
    if not photos:
        raise BadData("no test photos: nothing can be said of the model")
    return _scores("graph", lambda: reference, photos, progress)


def require_accuracy(
    scores: Scores, photos: Sequence[Photo], names: Sequence[str], told: Accuracy
) -> None:
    """Raise BadData if a graph's `scores` (N, classes) are not as right as training told.

    Labels in another order would make it so. Training may have scored bottlenecks of another
    runtime: a photo, or 2% of them, may differ; another number of photos is not compared.
    """
    found = Accuracy.of(scores, _indices(photos, names))
    allowed = max(1, _ASTRAY * told.total)
    if found.total == told.total and abs(found.right - told.right) > allowed:
        raise BadData(
            f"the graph's test accuracy is {found}, and was {told} when it was trained: labels or "
            "photos are not what they were. Remedy: train again"
        )


def compare(
    expected: Scores,
    file: ModelFile,
    names: tuple[str, ...],
    photos: Sequence[Photo],
    progress: Progress,
) -> Parity:
    """Classify `photos` with the model of `file`, and hold that against `expected` (N, classes).

    Raises BadData if the file's labels are not `names`, the graph's: scores do not tell.
    """
    if file.contract.labels != names:
        raise BadData(
            f"the model file has the labels {', '.join(file.contract.labels)}, its graph "
            f"{', '.join(names)}"
        )
    labels = _indices(photos, names)
    found = model_scores(file, photos, progress)
    difference: Scores = np.abs(expected - found)
    each = difference.max(axis=1)
    worst = np.argsort(-each, kind="stable")[:_WORST]
    return Parity(
        Accuracy.of(expected, labels),
        Accuracy.of(found, labels),
        float(np.mean(expected.argmax(axis=1) == found.argmax(axis=1))),
        float(difference.mean()),
        float(difference.max()),
        tuple(
            Difference(
                shown(photos[i].path),
                names[expected[i].argmax()],
                names[found[i].argmax()],
                float(each[i]),
            )
            for i in worst
        ),
    )


def _indices(photos: Sequence[Photo], names: Sequence[str]) -> Labels:
    places = {name: i for i, name in enumerate(names)}
    unknown = {photo.label for photo in photos} - set(places)
    if unknown:
        raise BadData(f"test photos of {', '.join(sorted(unknown))}, which the graph has not")
    return np.array([places[photo.label] for photo in photos])


def model_scores(file: ModelFile, photos: Sequence[Photo], progress: Progress) -> Scores:
    """Return what the model of `file` gives each photo, float32 (N, classes)."""
    return _scores("model", lambda: Classifier(file), photos, progress)


def _scores(
    name: str, make: Callable[[], PhotoClassifier], photos: Sequence[Photo], progress: Progress
) -> Scores:
    def score(classifier: PhotoClassifier, photo: Photo) -> Scores:
        return classifier.scores(decode(photo, classifier.contract.input))

    with progress.bar(f"scoring the {name}", len(photos), "photos") as advance:
        return np.stack(parallel.run_in_order(photos, make, score, advance))
