"""Swapped labels come first, and those that mislead are named; clean photos are left alone."""

from collections.abc import Sequence

import numpy as np
import pytest

from retrain.data.photo_groups import Groups
from retrain.data.photo_table import PhotoTable
from retrain.doctor import labels as doctor_labels
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding
from retrain.doctor.labels import probability_wrong, rank
from retrain.doctor.out_of_fold import all_examples
from retrain.doctor.ringleaders import find_ringleaders, nearest
from retrain.progress import Progress
from tests.helpers.doctor_fixtures import SOURCE, clusters, training_data

NAMES = ("cat", "dog", "owl")
QUIET = Progress(verbosity="ERROR")


def find(
    points: np.ndarray, labels: np.ndarray, photo_names: Sequence[str] = ()
) -> dict[str, Finding]:
    data = training_data(points, [NAMES[label] for label in labels], photo_names)
    return {
        finding.kind: finding for finding in doctor_labels.find(Examination(data, SOURCE, QUIET))
    }


def test_swapped_labels_come_first_with_the_label_that_they_should_have() -> None:
    points, truth = clusters((60, 60, 60), apart=12, width=200)
    labels = truth.copy()
    swapped = np.array([3, 40, 70, 100, 130, 170])
    labels[swapped] = (truth[swapped] + 1) % 3
    finding = find(points, labels)["wrong-label"]
    first = finding.suggested_photos
    assert {int(photo.path.stem) for photo in first} == set(swapped.tolist())
    photo = next(photo for photo in first if photo.path.stem == "3")
    assert (photo.label, photo.better_label) == ("dog", "cat")
    assert "cat" in photo.reason
    assert "%" in photo.reason


def test_the_photos_are_divided_into_folds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class CountedGroups(Groups):
        def __init__(self, photos: PhotoTable) -> None:
            calls.append(len(photos))
            super().__init__(photos)

    monkeypatch.setattr("retrain.doctor.out_of_fold.Groups", CountedGroups)
    points, labels = clusters((60, 60, 60), apart=12, width=200)
    labels[[3, 70]] = 2
    assert find(points, labels)["wrong-label"].suggested, "the heads are trained twice"
    assert calls == [180]


def test_nothing_is_wrong_with_clean_photos() -> None:
    assert find(*clusters((60, 60, 60), apart=8)) == {}


@pytest.mark.parametrize("things", [(0, 0, 1), (1, 1, 1)])
def test_a_class_of_shots_of_one_thing_is_not_judged(things: tuple[int, ...]) -> None:
    """Heads that did not see the shots do not know the class either."""
    points, labels = clusters((20, 20, 12), apart=4)
    names = [
        f"cup_nohash_{number}.jpg" if things[label] else f"{number}.jpg"
        for number, label in enumerate(labels)
    ]
    assert find(points, labels, names) == {}


def predictions(share: float, flatness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities of 3,000 photos, their labels, and whether each label is wrong.

    A wrong label is drawn from the others, for a `share` of the photos. The logarithms of the true
    probabilities are divided by `flatness`.
    """
    random = np.random.default_rng(0)
    true = random.dirichlet((0.3, 0.3, 0.3), 3000)
    truth = (random.random((3000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    is_wrong = random.random(3000) < share
    labels = np.where(is_wrong, (truth + random.integers(1, 3, 3000)) % 3, truth)
    flat = np.maximum(true, 1e-9) ** (1 / flatness)
    return (flat / flat.sum(axis=1, keepdims=True)).astype(np.float32), labels, is_wrong


@pytest.mark.parametrize("flatness", [0.6, 1, 4])
def test_the_probability_of_a_wrong_label_is_what_it_says(flatness: float) -> None:
    """It does not matter whether the heads are too sure or not sure enough."""
    probabilities, labels, is_wrong = predictions(0.1, flatness)
    wrong = probability_wrong(probabilities, labels)
    assert wrong.mean() == pytest.approx(0.1, abs=0.02)
    is_likely = wrong > 0.5
    assert is_likely.sum() > 50
    assert is_wrong[is_likely].mean() == pytest.approx(wrong[is_likely].mean(), abs=0.1)


def test_classes_that_overlap_are_no_wrong_labels() -> None:
    probabilities, labels, _ = predictions(0, 1)
    assert (probabilities.argmax(axis=1) != labels).mean() > 0.2
    assert rank(probabilities, labels).suggested <= 10


def test_at_most_half_of_a_class_is_suggested() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2] * 6)
    probabilities = np.full((106, 3), 0.02, np.float32)
    probabilities[np.arange(106), labels] = 0.96
    probabilities[100:104] = (0.97, 0.02, 0.01)  # four of the owls look like cats
    suspects = rank(probabilities, labels)
    assert suspects.suggested == 3
    assert sorted(suspects.numbers.tolist()) == [100, 101, 102, 103]


def test_a_class_that_is_never_recognised_has_no_wrong_labels() -> None:
    """Its photos have hardly any probability, which each photo of the others would reach."""
    labels = np.array([0] * 50 + [1] * 50 + [2])
    probabilities = np.full((101, 3), 0.02, np.float32)
    probabilities[np.arange(101), labels] = 0.96
    probabilities[100] = (0.3, 0.32, 0)
    assert rank(probabilities, labels).suggested == 0


def test_a_photo_among_many_of_another_class_leads_them_astray() -> None:
    points, labels = clusters((60, 60), apart=20)
    # Ten cats look like one another and like one dog, which is number 119.
    points[:10] = points[119] + 0.01 * np.random.default_rng(1).normal(size=(10, 16))
    data = training_data(points, [NAMES[label] for label in labels])
    predicted = labels.copy()
    predicted[:10] = 1
    (finding,) = find_ringleaders(data.dataset.photos, predicted, all_examples(data), NAMES)
    (photo,) = finding.photos
    assert (photo.path.stem, photo.label) == ("119", "dog")
    assert "10 photos" in photo.reason
    assert photo.other
    assert photo.other.parent.name == "cat"
    assert finding.suggested == 0
    assert find_ringleaders(data.dataset.photos, labels, all_examples(data), NAMES) == []


def test_neighbours_over_blocks_are_those_of_all_photos() -> None:
    points, labels = clusters((1200, 1300), apart=3)
    data = training_data(points, [NAMES[label] for label in labels])
    examples = all_examples(data)
    queries = np.arange(0, 2500, 50)
    values = examples.store.take(np.arange(2500))
    sample = values[::2]
    values = (values - sample.mean(axis=0)) / (sample.std(axis=0) + 0.01)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    cosines = values[queries] @ values.T
    cosines[np.arange(50), queries] = -1
    expected = np.argsort(-cosines, axis=1)[:, :10]
    assert np.array_equal(np.sort(nearest(examples, queries)), np.sort(expected))
