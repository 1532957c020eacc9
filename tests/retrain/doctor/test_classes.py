"""Classes that cannot be learned well are named: few photos, unequal, overlapping, collapsed."""

from dataclasses import replace

import numpy as np
import pytest

from retrain.data import split
from retrain.data.photo_table import PhotoTable
from retrain.doctor import classes, labels
from retrain.doctor.examination import Examination
from retrain.doctor.finding import Finding
from retrain.progress import Progress
from retrain.settings.training import SplitSettings
from tests.helpers.doctor_fixtures import SOURCE, clusters, training_data

NAMES = ("cat", "dog", "owl")
QUIET = Progress(verbosity="ERROR")


def count(*counts: int) -> list[Finding]:
    points, indices = clusters(counts, apart=8)
    data = training_data(points, [NAMES[index] for index in indices])
    return list(classes.find(Examination(data, SOURCE, QUIET)))


def test_a_class_of_few_photos_is_named_with_them() -> None:
    (finding,) = count(20, 19, 20)
    assert finding.kind == "few-photos"
    assert "19 photos of dog" in finding.title
    assert {photo.label for photo in finding.photos} == {"dog"}
    assert len(finding.photos) == 19


@pytest.mark.parametrize(
    ("things", "reasons"),
    [
        (1, ("validation and testing: nothing shows how well cat is", "labels are not judged")),
        (2, ("None is left for validation.",)),
    ],
)
def test_a_class_of_few_things_is_named_with_what_it_lacks(
    things: int, reasons: tuple[str, ...]
) -> None:
    points, indices = clusters((30, 30), apart=8)
    names = [
        f"{number}.jpg" if index else f"{number % things}_nohash_{number}.jpg"
        for number, index in enumerate(indices)
    ]
    data = training_data(points, [NAMES[index] for index in indices], names)
    data = replace(data, splits=split.assign(data.dataset.photos, SplitSettings()))
    (finding,) = classes.find(Examination(data, SOURCE, QUIET))
    assert finding.kind == "few-photos"
    assert f"30 photos of cat are of {things} thing" in finding.title
    assert all(reason in finding.reason for reason in reasons)
    assert ("not judged" in finding.reason) == (things == 1)
    assert len(finding.photos) == 30


@pytest.mark.parametrize("are_own", [False, True])
def test_photos_of_one_thing_may_be_in_several_splits_of_the_users_own(are_own: bool) -> None:
    points, indices = clusters((30, 30), apart=8)
    names = [f"{i}.jpg" if index else f"a_nohash_{i}.jpg" for i, index in enumerate(indices)]
    data = training_data(points, [NAMES[index] for index in indices], names)
    photos = list(data.dataset.photos)
    if are_own:
        pairs = zip(photos, data.splits, strict=True)
        photos = [replace(photo, split=name) for photo, name in pairs]
    data = replace(data, dataset=replace(data.dataset, photos=PhotoTable.of(photos)))
    (finding,) = classes.find(Examination(data, SOURCE, QUIET))
    assert ("stay in one split" in finding.reason) != are_own
    assert ("in several splits" in finding.reason) == are_own


def test_a_class_that_a_split_of_its_own_does_not_test_is_named() -> None:
    points, indices = clusters((30, 30), apart=8)
    data = training_data(points, [NAMES[index] for index in indices])
    names = [
        "training" if name == "testing" and index else name
        for name, index in zip(data.splits, indices, strict=True)
    ]
    data = replace(data, splits=split.Splits.of(names))
    (finding,) = classes.find(Examination(data, SOURCE, QUIET))
    assert finding.title == "no photo of dog for testing"
    assert "in each split" in finding.remedy


def test_a_ratio_above_three_is_named() -> None:
    assert count(20, 60, 20) == []
    (finding,) = count(20, 61, 21)
    assert finding.kind == "imbalance"
    assert "dog" in finding.title
    assert "cat" in finding.title
    assert "owl" not in finding.title
    assert "61" in finding.reason


def test_classes_that_overlap_are_named_with_the_photos_in_between() -> None:
    points, indices = clusters((80, 80, 80), apart=8)
    points[:80, 0] -= 7.2
    points[80:160, 1] -= 7.2  # cats and dogs are nearly the same
    data = training_data(points, [NAMES[index] for index in indices])
    findings = labels.find(Examination(data, SOURCE, QUIET))
    (finding,) = (finding for finding in findings if finding.kind == "overlap")
    assert finding.title.startswith("cat and dog")
    assert {photo.label for photo in finding.photos} == {"cat", "dog"}


def test_a_network_to_which_all_photos_look_the_same_is_named_and_nothing_else() -> None:
    points, indices = clusters((60, 40), apart=0)
    data = training_data(0 * points, [NAMES[index] for index in indices])
    (finding,) = labels.find(Examination(data, SOURCE, QUIET))
    assert finding.kind == "collapse"
    assert "cat" in finding.title
    assert "40 of the 40" in finding.reason
    assert "`input_mean`" in finding.remedy


@pytest.mark.parametrize("counts", [(170, 50), (30, 15)])
def test_a_rare_or_small_class_that_is_overlooked_is_no_collapse(counts: tuple[int, int]) -> None:
    truth = np.repeat([0, 1], counts)
    assert classes.find_collapse(np.zeros(len(truth), np.int64), truth, NAMES[:2]) is None


def test_rare_classes_do_not_hide_a_collapse() -> None:
    truth = np.array([0] * 170 + [1] * 60 + [2] * 50)
    predicted = np.where(truth == 2, 2, 0)
    finding = classes.find_collapse(predicted, truth, NAMES)
    assert finding is not None
    assert "60 of the 60" in finding.reason
