"""What samples say: percentiles, ratios and their intervals."""

import numpy as np
import pytest

from bench import stats
from bench.record import Percentiles
from bench.stats import change, ratio, variation
from tests.helpers.record_fixtures import draw


def test_percentiles_are_of_all_rounds() -> None:
    ms = stats.milliseconds([[1_000_000] * 45, [2_000_000] * 45, [30_000_000] * 10])
    assert ms == Percentiles(p50=2, p90=30, p99=30, mean=4.35)


def test_a_drift_that_both_have_does_not_widen_the_interval() -> None:
    reference = draw(10, drift=0.4)
    half = [[ns // 2 for ns in samples] for samples in reference]
    value, (low, high) = ratio(half, reference)
    assert (value, low, high) == pytest.approx((0.5, 0.5, 0.5), rel=1e-6)


def test_rounds_that_differ_widen_the_interval() -> None:
    value, (low, high) = ratio(draw(5, drift=0.4, seed=1), draw(10, drift=0.4, seed=2))
    assert low < value < high
    assert high - low > 0.05
    _, (calm_low, calm_high) = ratio(draw(5), draw(10))
    assert calm_high - calm_low < 0.01


@pytest.mark.parametrize("rounds", [3, 5, 12])
def test_the_interval_misses_the_truth_about_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    # Without its correction for few rounds, 25%, 9% and 5% are missed.
    monkeypatch.setattr(stats, "RESAMPLES", 60)
    random = np.random.default_rng(3)
    missed, times = 0, 150
    for _ in range(times):
        paces = 1e6 * np.exp(random.normal(0, 0.05, (2, rounds)))
        new, old = ([random.normal(pace, 1e4, 5).astype(np.int64) for pace in row] for row in paces)
        low, high = ratio(new, old)[1]  # type: ignore[arg-type]
        missed += not low <= 1 <= high
    assert 0.01 < missed / times < 0.08


def test_the_change_of_an_anchor_is_divided_out() -> None:
    slow = 1.3
    value, _ = change(draw(5 * slow), draw(5))
    assert value == pytest.approx(slow, rel=0.01)
    value, (low, high) = change(draw(5 * slow), draw(5), (draw(10 * slow), draw(10)))
    assert value == pytest.approx(1, rel=0.01)
    assert low < 1.001
    assert high > 0.999


def test_variation_is_that_of_the_textbook() -> None:
    assert variation([8, 10, 12]) == pytest.approx(0.2)
