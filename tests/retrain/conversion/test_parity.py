"""Parity: what is measured of a model and its graph, and what the gate's bounds make of it."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.classifier import UNKNOWN
from deploy.errors import BadData
from deploy.model_file import ModelFile
from deploy.versioned_json import Fields
from retrain.conversion import parity
from retrain.conversion.parity import Difference, Parity, Scores, compare, require_accuracy
from retrain.data.photo import Photo
from retrain.metrics import Accuracy
from retrain.progress import Progress
from retrain.settings.conversion import Bounds
from tests.helpers.deploy_fixtures import CONTRACT

LABELS = ("a", "b", "c")
PHOTOS = [Photo(Path(f"{i}.png"), LABELS[i % 3], bytes(32)) for i in range(12)]
RIGHT: Scores = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
BOUNDS = Bounds(max_accuracy_drop=1, min_agreement=90, max_mean_difference=0.05)
EQUAL = Parity(Accuracy(90, 100), Accuracy(90, 100), 1.0, 0.0, 0.0, ())


def compared(monkeypatch: pytest.MonkeyPatch, actual: Scores) -> Parity:
    """Compare a graph that is always right with a model that gives the scores `actual`."""
    monkeypatch.setattr(parity, "model_scores", lambda *_: actual)
    file = ModelFile(b"", replace(CONTRACT, labels=LABELS))
    return compare(RIGHT, file, LABELS, PHOTOS, Progress())[0]


def test_the_photos_that_differ_most_are_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    actual = RIGHT.copy()
    for i in range(12):
        actual[i] += np.float32(0.01 * i) * (1 - 2 * RIGHT[i])
    actual[4] = (0.125, 0.25, 0.625)
    result = compared(monkeypatch, actual)
    numbers = [4, 11, 10, 9, 8, 7, 6, 5, 3, 2]
    assert [difference.photo for difference in result.worst] == [f"{i}.png" for i in numbers]
    assert result.worst[0] == Difference("4.png", "b", "c", 0.75)
    assert (result.graph, result.model) == (Accuracy(12, 12), Accuracy(11, 12))
    assert result.agreement == pytest.approx(11 / 12)
    assert result.max_difference == 0.75
    assert result.mean_difference == pytest.approx(float(np.abs(actual - RIGHT).mean()))


def test_a_photo_without_any_probability_is_of_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    actual = RIGHT.copy()
    actual[[0, 4]] = 0  # of the labels a and b
    result = compared(monkeypatch, actual)
    assert (result.graph, result.model) == (Accuracy(12, 12), Accuracy(10, 12))
    assert result.agreement == pytest.approx(10 / 12)
    first, second = result.worst[:2]
    assert [(row.graph, row.model) for row in (first, second)] == [("a", UNKNOWN), ("b", UNKNOWN)]


def test_what_is_written_of_a_parity_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    result = compared(monkeypatch, RIGHT[::-1].copy())
    assert Parity.from_json(Fields(result.to_json(), "conversion.json", "convert again")) == result


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": Accuracy(89, 100)}, None),  # one point, as the bound allows
        ({"model": Accuracy(88, 100)}, "it loses 2.0 points"),
        ({"model": Accuracy(99, 100)}, None),  # better than the graph
        ({"agreement": 0.9}, None),
        ({"agreement": 0.89}, "its best label is the graph's on 89.0%"),
        ({"agreement": math.nan}, "its best label is the graph's on nan%"),
        ({"mean_difference": 0.05}, None),
        ({"mean_difference": 0.06}, "its probabilities are 0.06"),
        ({"mean_difference": math.nan}, "its probabilities are nan"),
    ],
)
def test_a_model_passes_up_to_each_bound(
    changes: dict[str, Accuracy | float], words: str | None
) -> None:
    sentences = replace(EQUAL, **changes).violations(BOUNDS)  # type: ignore[arg-type]
    if words is None:
        assert sentences == []
    else:
        (sentence,) = sentences
        assert sentence.startswith(words)


@pytest.mark.parametrize("total", [100, 200, 1000])
def test_a_model_at_a_bound_passes_whatever_floating_point_makes_of_it(total: int) -> None:
    lost = total // 100
    for right in range(lost, total + 1):
        parity = replace(EQUAL, graph=Accuracy(right, total), model=Accuracy(right - lost, total))
        assert parity.violations(replace(BOUNDS, max_accuracy_drop=1)) == []
        share = 100 * right / total
        agreeing = replace(EQUAL, agreement=right / total)
        assert agreeing.violations(replace(BOUNDS, min_agreement=share)) == []


@pytest.mark.parametrize(
    ("photo_count", "expected", "passes"),
    [
        (12, Accuracy(11, 12), True),  # one photo may differ, however few there are
        (12, Accuracy(10, 12), False),
        (200, Accuracy(196, 200), True),  # 2%
        (200, Accuracy(195, 200), False),
        (12, Accuracy(3, 24), True),  # another number of photos is not compared
    ],
)
def test_the_accuracy_of_a_graph_is_that_of_its_training(
    photo_count: int, expected: Accuracy, passes: bool
) -> None:
    accuracy = Accuracy(photo_count, photo_count)
    if passes:
        require_accuracy("graph", accuracy, expected)
    else:
        with pytest.raises(BadData, match=r"the graph's test accuracy .* when it was trained"):
            require_accuracy("graph", accuracy, expected)
