"""Test the learning curve: its measure on heads, and what twice the photos are to bring."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrain.doctor.examine import load
from retrain.progress import Progress
from retrain.report import learning_curve
from retrain.report.learning_curve import LearningCurve, LearningPoint, measure
from retrain.settings.source import Source
from retrain.settings.training import HeadSettings, SplitSettings
from retrain.training.fit_head import StepReport, fit_head
from retrain.training.head import Head
from retrain.training.load_examples import TrainingData

LABELS = ("a", "b")


def falling(*exponents: float, held_out: int = 4000) -> LearningCurve:
    """Return a curve whose errors fall from 40% as these powers of the number of photos."""
    points = tuple(
        LearningPoint(photos, tuple(0.4 * held_out * (photos / 10) ** -b for b in exponents))
        for photos in (10, 20, 40, 80, 100)
    )
    labels = tuple(map(str, range(len(exponents))))
    return LearningCurve("0" * 64, labels, (held_out,) * len(exponents), points)


def test_errors_that_fall_as_a_power_are_continued() -> None:
    curve = falling(0.5, 0.5)
    total, by_class = curve.errors_with_twice()
    assert total == pytest.approx(0.4 * 20**-0.5, rel=0.01)
    assert by_class == pytest.approx([0.4 * 20**-0.5] * 2, rel=0.01)


def test_each_class_has_its_own_curve_where_its_photos_are_many() -> None:
    _, (steep, flat) = falling(0.8, 0.0).errors_with_twice()
    assert steep == pytest.approx(0.4 * 20**-0.8, rel=0.05)
    assert flat == pytest.approx(0.4, rel=0.05)
    # Of 10 photos of each, the common exponent counts more.
    few = falling(0.8, 0.0, held_out=10)
    _, (_, flat) = few.errors_with_twice()
    assert flat is not None
    assert flat < 0.37


def test_errors_that_rise_are_not_continued_upwards() -> None:
    curve = falling(-0.3)
    assert curve.errors_with_twice()[0] == pytest.approx(curve.total_errors[-1])


def test_the_gain_of_a_class_is_from_where_the_curve_ends() -> None:
    steep, flat = falling(0.8, 0.0).gains_with_twice()
    assert steep == pytest.approx(0.4 * (10**-0.8 - 20**-0.8), rel=0.05)
    assert flat == pytest.approx(0, abs=0.02)


def test_a_class_without_held_out_photos_has_no_curve() -> None:
    curve = falling(0.5, 0.5)
    curve = replace(
        curve,
        held_out=(4000, 0),
        points=tuple(LearningPoint(point.photos, (point.wrong[0], 0)) for point in curve.points),
    )
    total, by_class = curve.errors_with_twice()
    assert by_class == [pytest.approx(0.4 * 20**-0.5, rel=0.01), None]
    assert total > 0


@pytest.fixture(scope="module")
def data(photos: Path, cache_dir: Path) -> TrainingData:
    return load(
        Source(photos, cache_dir=cache_dir), SplitSettings(20, 20), Progress(verbosity="ERROR")
    )


def test_heads_on_shares_of_the_photos_are_measured(data: TrainingData) -> None:
    curve = measure(data, HeadSettings(), "0" * 64)
    training = len(data.examples["training"].labels)
    assert [point.photos for point in curve.points] == sorted(
        point.photos for point in curve.points
    )
    assert curve.points[-1].photos == training
    # Each class keeps its share.
    assert curve.points[2].photos == pytest.approx(0.4 * training, abs=len(data.labels))
    held_out = len(data.examples["validation"].labels) + len(data.examples["testing"].labels)
    assert sum(curve.held_out) == held_out
    assert (np.diff(curve.total_errors) <= 0.1).all()
    assert curve.total_errors[-1] < 0.2
    assert measure(data, HeadSettings(), "0" * 64) == curve


def test_the_photos_that_are_counted_choose_no_head(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head that is best on the validation photos would be wrong on too few of them."""
    curve = measure(data, HeadSettings(), "0" * 64)

    def with_another_best(*arguments: Any) -> Iterator[StepReport]:
        for report in fit_head(*arguments):
            best = Head(-report.head.weights, -report.head.bias)
            checkpoint = report.checkpoint and replace(report.checkpoint, best=best)
            yield report._replace(checkpoint=checkpoint)

    monkeypatch.setattr(learning_curve, "fit_head", with_another_best)
    assert measure(data, HeadSettings(), "0" * 64) == curve


def test_what_is_written_is_read_for_the_same_graph(tmp_path: Path) -> None:
    path, curve = tmp_path / "learning_curve.json", falling(0.5)
    learning_curve.write(path, curve)
    assert learning_curve.read(path, curve.graph_sha256) == curve
    assert learning_curve.read(path, "1" * 64) is None
    path.write_text("{")
    assert learning_curve.read(path, curve.graph_sha256) is None
