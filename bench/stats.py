"""What samples say: percentiles, and how sure a ratio of medians is."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Rounds = Sequence[Sequence[int]]
"""The samples of one runner, in ns, round by round."""
Indices = npt.NDArray[np.int64]
RESAMPLES = 1000
LEVEL = (2.5, 97.5)
"""The percentiles between which 95% lie."""
_Z = 1.96
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""The same quantile of the normal distribution, and Student's for 1, 2... degrees of freedom."""


def student(free: int) -> float:
    """Return how many standard errors to each side are 95%, for `free` degrees of freedom."""
    return _T[free - 1] if free <= len(_T) else _Z + 2.37 / free + 2.82 / free**2


def milliseconds(rounds: Rounds) -> dict[str, float]:
    """Return percentiles and the mean, in ms, of the samples of all rounds.

    p90 and p99 are samples, the next ones above: a call that is slow every tenth time is in p90.
    """
    samples = _joined(rounds)
    p90, p99 = np.percentile(samples, (90, 99), method="higher") / 1e6
    return {
        "p50": float(np.median(samples) / 1e6),
        "p90": float(p90),
        "p99": float(p99),
        "mean": float(samples.mean() / 1e6),
    }


def ratio(rounds: Rounds, reference: Rounds) -> tuple[float, tuple[float, float]]:
    """Return the p50 of `rounds` over that of `reference`, and its 95% interval.

    By bootstrap over rounds (Efron, "Bootstrap methods", 1979): samples of one round are not
    independent of each other. Both were taken by turns, so a round of each is drawn with the
    other, and a machine's drift, which hits both, does not widen the interval. `_few` widens it.
    """
    return _interval(lambda i, _: _p50(rounds, i) / _p50(reference, i), len(rounds), len(rounds))


def change(
    new: Rounds, old: Rounds, anchor: tuple[Rounds, Rounds] | None = None
) -> tuple[float, tuple[float, float]]:
    """Return the p50 of `new` over that of `old`, of two runs, and its 95% interval, as `ratio`.

    `anchor`, a runner of the new run and of the old one, has its own change divided out.
    """

    def quotient(i: Indices, j: Indices) -> float:
        raw = _p50(new, i) / _p50(old, j)
        return raw / (_p50(anchor[0], i) / _p50(anchor[1], j)) if anchor else raw

    return _interval(quotient, len(new), len(old))


def variation(values: Sequence[float]) -> float:
    """Return the coefficient of variation: the sample's deviation over its mean."""
    return float(np.std(values, ddof=1) / np.mean(values))


def _joined(rounds: Rounds) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(each, np.int64) for each in rounds])


def _p50(rounds: Rounds, chosen: Indices) -> float:
    return float(np.median(np.concatenate([rounds[i] for i in chosen])))


def _interval(
    quotient: Callable[[Indices, Indices], float], news: int, olds: int
) -> tuple[float, tuple[float, float]]:
    random = np.random.default_rng(0)
    drawn = [
        quotient(random.integers(news, size=news), random.integers(olds, size=olds))
        for _ in range(RESAMPLES)
    ]
    value = quotient(np.arange(news), np.arange(olds))
    low, high = (np.percentile(drawn, LEVEL) / value) ** _few(min(news, olds)) * value
    return value, (float(low), float(high))


def _few(rounds: int) -> float:
    """Return how many times wider an interval must be, in logarithms, for being of few rounds.

    A bootstrap of n sees (n - 1) / n of the variance, and takes what it sees for certain, where
    Student's t does not (Hesterberg, "What teachers should know about the bootstrap", 2015).
    """
    free = rounds - 1
    return student(free) / _Z * math.sqrt(rounds / free)
