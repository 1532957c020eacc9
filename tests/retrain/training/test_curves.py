"""The curves of metrics.json: few points, and finite ones."""

import json
import math

import pytest

from retrain.training.curves import MEMBER, CurvePoint, from_members, to_array, to_json


def test_many_points_become_fifty_means() -> None:
    points = [CurvePoint(step, (step, 1.0), (0.0, 2.0)) for step in range(100)]
    curves = to_json(points)
    assert curves["step"] == list(range(1, 100, 2))
    assert curves["train_accuracy"] == [step - 0.5 for step in range(1, 100, 2)]


@pytest.mark.parametrize("points", [1, 3, 200])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_points_that_are_not_finite_are_left_out(points: int, value: float) -> None:
    diverged = [CurvePoint(step, (0.5, value), (0.5, 1.0)) for step in range(points)]
    assert json.dumps(to_json(diverged), allow_nan=False)
    assert to_json(diverged)["step"] == []
    recovered = CurvePoint(points, (0.5, 1.0), (0.25, 2.0))
    assert to_json([*diverged, recovered])["validation_accuracy"] == [0.25]


def test_a_curve_comes_back_from_a_checkpoint() -> None:
    points = (CurvePoint(0, (0.1, math.inf), (0.3, 1.5)), CurvePoint(10, (0.7, 0.2), (0.9, 0.1)))
    assert from_members({MEMBER: to_array(points)}) == points
    assert from_members({MEMBER: to_array(())}) == from_members({}) == ()
