"""Compute percentiles of samples, and ratios of medians with their intervals."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.record import Percentiles

Rounds = Sequence[Sequence[int]]
"""The samples of one runner, in ns, round by round."""
Indices = npt.NDArray[np.int64]
RESAMPLES = 1000
PERCENTILES_OF_95 = (2.5, 97.5)
_NORMAL = 1.96
"""97.5% quantile of the normal distribution."""
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5% quantiles of Student's t for 1, 2... degrees of freedom. A device has no scipy."""


def student_quantile(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t: half a 95% interval, in standard errors.

    `freedom` are the degrees of freedom; beyond 9 of them it is approximate.
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return _NORMAL + 2.37 / freedom + 2.82 / freedom**2


def milliseconds(rounds: Rounds) -> Percentiles:
    """Return percentiles and the mean, in ms, of the samples of all rounds.

    p90 and p99 are samples, rounded up to the next one, so that p90 shows a call that is slow
    every tenth time.
    """
    samples = _joined(rounds)
    p90, p99 = np.percentile(samples, (90, 99), method="higher") / 1e6
    p50, mean = np.median(samples) / 1e6, samples.mean() / 1e6
    return Percentiles(float(p50), float(p90), float(p99), float(mean))


def ratio(rounds: Rounds, reference: Rounds) -> tuple[float, tuple[float, float]]:
    """Return the p50 of `rounds` over that of `reference`, and its 95% interval.

    The interval is by bootstrap over rounds (Efron, "Bootstrap methods", 1979), because samples
    of one round depend on each other. Both runners took turns, so that their rounds are drawn
    together: a drift of the machine, which hits both, does not widen the interval.
    """
    return _interval(lambda i, _: _p50(rounds, i) / _p50(reference, i), len(rounds), len(rounds))


def change(
    new: Rounds, old: Rounds, anchor: tuple[Rounds, Rounds] | None = None
) -> tuple[float, tuple[float, float]]:
    """Return the p50 of `new` over that of `old`, from two benchmarks, and its 95% interval.

    The change of `anchor`, the new and the old rounds of another runner, is divided out.
    """

    def quotient(i: Indices, j: Indices) -> float:
        raw = _p50(new, i) / _p50(old, j)
        return raw / (_p50(anchor[0], i) / _p50(anchor[1], j)) if anchor else raw

    return _interval(quotient, len(new), len(old))


def variation(values: Sequence[float]) -> float:
    """Return the coefficient of variation: the standard deviation over the mean."""
    return float(np.std(values, ddof=1) / np.mean(values))


def _joined(rounds: Rounds) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(samples, np.int64) for samples in rounds])


def _p50(rounds: Rounds, chosen: Indices) -> float:
    return float(np.median(np.concatenate([rounds[i] for i in chosen])))


def _interval(
    quotient: Callable[[Indices, Indices], float], new_rounds: int, old_rounds: int
) -> tuple[float, tuple[float, float]]:
    random = np.random.default_rng(0)
    drawn = [
        quotient(
            random.integers(new_rounds, size=new_rounds),
            random.integers(old_rounds, size=old_rounds),
        )
        for _ in range(RESAMPLES)
    ]
    value = quotient(np.arange(new_rounds), np.arange(old_rounds))
    widening = _widening(min(new_rounds, old_rounds))
    low, high = (np.percentile(drawn, PERCENTILES_OF_95) / value) ** widening * value
    return value, (float(low), float(high))


def _widening(rounds: int) -> float:
    """Return the factor by which few rounds widen an interval of logarithms.

    A bootstrap of n rounds sees (n - 1) / n of the variance, and takes it for exact, which
    Student's t does not (Hesterberg, "What teachers should know about the bootstrap", 2015).
    """
    freedom = rounds - 1
    return student_quantile(freedom) / _NORMAL * math.sqrt(rounds / freedom)
