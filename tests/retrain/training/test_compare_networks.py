"""Test the choice between the linear head and the fine-tuned network."""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from retrain.metrics import fit_temperature
from retrain.training.compare_networks import Comparison

LABELS = np.arange(60) % 3
Array = npt.NDArray[Any]


def logits(seed: int, strength: float) -> Array:
    """Return logits of random photos, higher by `strength` for their own labels."""
    noise = np.random.default_rng(seed).normal(size=(len(LABELS), 3))
    return np.asarray(noise + strength * np.eye(3)[LABELS], np.float32)


def mean_cross_entropy(values: Array) -> float:
    z = values.astype(np.float64) / fit_temperature(values, LABELS)
    probabilities = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return float(-np.log(probabilities[np.arange(len(LABELS)), LABELS]).mean())


def test_figures_are_those_of_each_network_at_its_temperature() -> None:
    linear, fine_tuned = logits(0, 1.0), logits(1, 3.0)
    comparison = Comparison.of(linear, fine_tuned, LABELS)
    assert comparison.photos == 60
    assert comparison.linear == pytest.approx(mean_cross_entropy(linear))
    assert comparison.fine_tuned == pytest.approx(mean_cross_entropy(fine_tuned))
    assert comparison.gain == pytest.approx(comparison.linear - comparison.fine_tuned)
    assert comparison.keeps_fine_tuned
    text = str(comparison)
    assert text.startswith("the fine-tuned network is kept")
    for figure in (comparison.linear, comparison.fine_tuned, comparison.gain):
        assert f"{figure:.4f}" in text
    hotter = Comparison.of(linear, 10 * fine_tuned, LABELS)
    assert hotter.fine_tuned == pytest.approx(comparison.fine_tuned, rel=0.05)


def test_photos_are_paired() -> None:
    linear = logits(0, 1.0)
    shift = np.float32(0.3) * np.eye(3, dtype=np.float32)[LABELS]
    paired = Comparison.of(linear, linear + shift, LABELS)
    unpaired = Comparison.of(linear, logits(5, 1.3), LABELS)
    assert 0 < paired.standard_error < unpaired.standard_error / 3


def test_equal_networks_keep_the_fine_tuned_one() -> None:
    comparison = Comparison.of(logits(0, 1.0), logits(0, 1.0), LABELS)
    assert (comparison.gain, comparison.standard_error) == (0, 0)
    assert comparison.keeps_fine_tuned


@pytest.mark.parametrize(("gain", "is_kept"), [(-1.9, True), (-2.1, False), (0.1, True)])
def test_the_linear_head_is_kept_if_it_is_better_by_two_standard_errors(
    gain: float, is_kept: bool
) -> None:
    comparison = Comparison(50, 0.5, 0.5 - gain, gain, 1.0)
    assert comparison.keeps_fine_tuned == is_kept
    assert str(comparison).startswith("the linear head") != is_kept


def test_a_network_that_unlearned_is_not_kept() -> None:
    comparison = Comparison.of(logits(0, 3.0), logits(1, 0.0), LABELS)
    assert comparison.gain < -2 * comparison.standard_error
    assert not comparison.keeps_fine_tuned


def test_one_photo_that_is_very_wrong_does_not_hide_the_others() -> None:
    """Inception v3 in random weights gave such logits after two epochs."""
    labels = np.zeros(12, np.int64)
    broken = np.zeros((12, 3), np.float32)
    broken[:8, 1] = 40.0  # wrong, at the highest temperature too
    broken[0, 1] = 1e4
    comparison = Comparison.of(np.tile(np.array([4, 0, 0], np.float32), (12, 1)), broken, labels)
    assert comparison.fine_tuned < math.log(300)
    assert not comparison.keeps_fine_tuned


@pytest.mark.parametrize("strength", [-5.0, 5.0])
def test_a_single_photo_says_nothing_against_fine_tuning(strength: float) -> None:
    comparison = Comparison.of(logits(0, 1.0)[:1], logits(1, strength)[:1], LABELS[:1])
    assert comparison.standard_error == math.inf
    assert comparison.keeps_fine_tuned
    assert json.loads(json.dumps(comparison.to_json(), allow_nan=False))["standard_error"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("photos", [1, 60])
def test_logits_that_are_not_finite_are_never_kept(value: float, photos: int) -> None:
    broken = np.full((photos, 3), value, np.float32)
    comparison = Comparison.of(logits(0, 1.0)[:photos], broken, LABELS[:photos])
    assert not comparison.keeps_fine_tuned
    assert json.loads(json.dumps(comparison.to_json(), allow_nan=False))["fine_tuned"] is None
