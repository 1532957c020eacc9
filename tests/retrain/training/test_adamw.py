"""Compare AdamW with the formulas of its paper, computed in float64."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from retrain.training.adamw import AdamW

Array = npt.NDArray[Any]
SHAPES = ((3, 3, 2, 4), (5, 3), (4,), (1, 1, 1, 4), ())
IS_KERNEL = (True, True, False, False, False)
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)
DECAY = 0.25


def arrays(seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [np.asarray(random.normal(size=shape), np.float32) for shape in SHAPES]


def by_formula(values: Array, gradients: list[Array], rate: float, decay: float) -> Array:
    """Return the parameters after an update by each of `gradients`: algorithm 2 of the paper."""
    theta = values.astype(np.float64)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, gradient in enumerate(gradients, 1):
        g = gradient.astype(np.float64)
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        theta = theta - rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay * theta)
    return np.asarray(theta)


def on_one_thread(call: Any, numbers: range) -> None:
    for number in numbers:
        call(number)


@pytest.mark.parametrize("steps", [1, 7])
def test_updates_follow_the_formulas_and_only_kernels_decay(steps: int) -> None:
    start = arrays(0)
    batches = [arrays(step) for step in range(1, steps + 1)]
    optimizer = AdamW.start(start)
    for gradients in batches:
        optimizer.update(gradients, RATES, DECAY, on_one_thread)
    assert optimizer.steps == steps
    for i, (values, rate) in enumerate(zip(start, RATES, strict=True)):
        decay = DECAY if IS_KERNEL[i] else 0.0
        expected = by_formula(values, [gradients[i] for gradients in batches], rate, decay)
        assert optimizer.parameters[i].dtype == np.float32
        np.testing.assert_allclose(optimizer.parameters[i], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(values, arrays(0)[i])  # they are copied


def test_overflow_is_in_the_values_and_gives_no_warning() -> None:
    optimizer = AdamW.start([np.ones((2, 2), np.float32)])
    optimizer.update([np.full((2, 2), np.inf, np.float32)], [0.1], DECAY, on_one_thread)
    assert not np.isfinite(optimizer.parameters[0]).any()
