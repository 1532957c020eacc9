"""Compare a .tflite file with its frozen graph on the test photos: the gate of a conversion."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.classifier import UNKNOWN, Classifier, PhotoClassifier
from deploy.errors import BadData
from deploy.model_file import ModelFile
from deploy.versioned_json import Fields
from retrain import parallel
from retrain.conversion.graph_classifier import GraphClassifier
from retrain.data.photo import Photo, shown
from retrain.data.photo_pixels import decode
from retrain.metrics import NO_LABEL, Accuracy, Labels, best_labels
from retrain.progress import Progress
from retrain.settings.conversion import Bounds

_WORST_PHOTOS = 10
"""Photos with the largest differences that a Parity names."""
_MAX_CHANGED_SHARE = 0.02
"""Share of test photos whose label may differ from training."""
_ROUNDING_SLACK = 1e-9
"""Percent that floating point may take from an agreement: 100 * 0.57 is 56.999..."""

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """A photo, the best label of graph and model, and the largest difference of a probability.

    A label is UNKNOWN where all probabilities are 0.
    """

    photo: str
    graph: str
    model: str
    difference: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Parity:
    """Graph and model on the same photos: both accuracies, and how far their answers differ.

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
        # One division, which is rounded once: a drop that equals a bound compares as equal.
        return 100 * (self.graph.right - self.model.right) / self.graph.total

    def violations(self, bounds: Bounds) -> list[str]:
        """Return a sentence for each of `bounds` that the model exceeds; [] is a pass."""
        sentences = []  # each condition is negated, so that NaN is refused too
        if not self.drop <= bounds.max_accuracy_drop:
            sentences.append(
                f"it loses {self.drop:.1f} points of test accuracy (graph {self.graph}, model "
                f"{self.model}); `max_accuracy_drop` is {bounds.max_accuracy_drop:g}, and one "
                f"photo is {100 / self.graph.total:.1f} points"
            )
        if not 100 * self.agreement + _ROUNDING_SLACK >= bounds.min_agreement:
            sentences.append(
                f"its best label is the graph's on {self.agreement:.1%} of the test photos; "
                f"`min_agreement` is {bounds.min_agreement:g}"
            )
        if not self.mean_difference <= bounds.max_mean_difference:
            sentences.append(
                f"its probabilities are {self.mean_difference:.2g} from the graph's in the mean; "
                f"`max_mean_difference` is {bounds.max_mean_difference:g}"
            )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "graph": self.graph.to_json(),
            "model": self.model.to_json(),
            "agreement": self.agreement,
            "mean_difference": self.mean_difference,
            "max_difference": self.max_difference,
            "worst": [difference.to_json() for difference in self.worst],
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "Parity":
        """Read what `to_json` wrote; raise BadData for anything else."""
        return cls(
            _accuracy(fields.object("graph")),
            _accuracy(fields.object("model")),
            fields.number("agreement", least=0, most=1),
            fields.number("mean_difference"),
            fields.number("max_difference"),
            tuple(photo.record(Difference) for photo in fields.objects("worst")),
        )


def _accuracy(fields: Fields) -> Accuracy:
    total = fields.integer("total", least=1)
    return Accuracy(fields.integer("right", least=0, most=total), total)


def graph_scores(
    classifier: GraphClassifier, photos: Sequence[Photo], progress: Progress
) -> Scores:
    """Return the frozen graph's scores of the photos, float32 (N, classes)."""
    if not photos:
        raise BadData("no test photos: the model cannot be compared with its graph")
    return _scores("graph", lambda: classifier, photos, progress)


def model_scores(file: ModelFile, photos: Sequence[Photo], progress: Progress) -> Scores:
    """Return the scores of the photos by the model of `file`, float32 (N, classes)."""
    return _scores("model", lambda: Classifier(file), photos, progress)


def accuracy_of(scores: Scores, photos: Sequence[Photo], labels: Sequence[str]) -> Accuracy:
    """Return the accuracy of `scores` (N, classes) of the photos, in the order of `labels`."""
    return Accuracy.of_best(best_labels(scores), _label_indices(photos, labels))


def require_accuracy(name: str, accuracy: Accuracy, expected: Accuracy) -> None:
    """Raise BadData if the test accuracy of the graph or model `name` is not `expected`.

    `expected` is from training; labels in another order change it. Training may have scored
    bottlenecks of another runtime: one photo, or 2% of them, may differ. Accuracies on different
    numbers of photos are not compared.
    """
    max_changed = max(1, _MAX_CHANGED_SHARE * expected.total)
    changed = abs(accuracy.right - expected.right)
    if accuracy.total == expected.total and changed > max_changed:
        raise BadData(
            f"the {name}'s test accuracy is {accuracy}, and was {expected} when it was trained: "
            "labels or photos are not what they were. Remedy: train again"
        )


def compare(
    expected: Scores,
    file: ModelFile,
    labels: tuple[str, ...],
    photos: Sequence[Photo],
    progress: Progress,
) -> tuple[Parity, Scores]:
    """Compare the scores of `photos` by the model of `file` with `expected`, float32 (N, classes).

    Also returns the model's scores, float32 (N, classes). Raises BadData if the file's labels are
    not `labels`, the graph's: the scores would not show it.
    """
    if file.contract.labels != labels:
        raise BadData(
            f"the model file has the labels {', '.join(file.contract.labels)}, its graph "
            f"{', '.join(labels)}"
        )
    indices = _label_indices(photos, labels)
    actual = model_scores(file, photos, progress)
    differences: Scores = np.abs(expected - actual)
    by_photo = differences.max(axis=1)
    worst = np.argsort(-by_photo, kind="stable")[:_WORST_PHOTOS]
    best_of_graph, best_of_model = best_labels(expected), best_labels(actual)
    names = {NO_LABEL: UNKNOWN, **dict(enumerate(labels))}
    parity = Parity(
        Accuracy.of_best(best_of_graph, indices),
        Accuracy.of_best(best_of_model, indices),
        float(np.mean(best_of_graph == best_of_model)),
        float(differences.mean()),
        float(differences.max()),
        tuple(
            Difference(
                shown(photos[i].path),
                names[int(best_of_graph[i])],
                names[int(best_of_model[i])],
                float(by_photo[i]),
            )
            for i in worst
        ),
    )
    return parity, actual


def _label_indices(photos: Sequence[Photo], labels: Sequence[str]) -> Labels:
    """Return int64 (N,), the index in `labels` of each photo's label."""
    indices = {label: i for i, label in enumerate(labels)}
    missing = {photo.label for photo in photos} - set(indices)
    if missing:
        raise BadData(f"test photos of {', '.join(sorted(missing))}, which the graph does not know")
    return np.array([indices[photo.label] for photo in photos])


def _scores(
    name: str,
    create: Callable[[], PhotoClassifier],
    photos: Sequence[Photo],
    progress: Progress,
) -> Scores:
    def score(classifier: PhotoClassifier, photo: Photo) -> Scores:
        return classifier.scores(decode(photo, classifier.contract.input))

    with progress.bar(f"scoring the {name}", len(photos), "photos") as advance:
        return np.stack(parallel.run_in_order(photos, create, score, advance))
