"""Intervals of a score: Wilson for counts, the bootstrap for any mean of per-sample outcomes."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAX_INDICES = 1 << 22
"""Random indices held at once: 32 MiB."""


class Interval(NamedTuple):
    """Both ends of an interval, in the units of what was measured."""

    low: float
    high: float


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion: `correct` of `n` independent samples, ends in 0 to 1.

    The low end is exactly 0 where nothing is correct, the high end exactly 1 where everything is.
    Raises ValueError where n < 1, correct is outside 0 to n, or confidence is not between 0 and 1.
    """
    _check_confidence(confidence)
    if n < 1:
        raise ValueError(f"an interval needs at least one sample, got n = {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"correct must be between 0 and n = {n}, got {correct}")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    centre = (correct + z2 / 2) / (n + z2)
    reach = sqrt(z2 * (correct * (n - correct) / n + z2 / 4)) / (n + z2)
    low = 0.0 if correct == 0 else max(0.0, centre - reach)
    high = 1.0 if correct == n else min(1.0, centre + reach)
    return Interval(low, high)


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean of `values` [n], in their units; the same for the same seed.

    `groups` [n] names what each sample comes from, such as its video: samples of one group are drawn
    together, because they are not independent. Values that are all equal give an interval of width zero.
    Raises ValueError where values are not finite, shapes differ, or there are fewer than two groups (samples
    where no groups are given).
    """
    _check_confidence(confidence)
    outcomes = np.asarray(values, dtype=np.float64)
    if outcomes.ndim != 1 or not np.isfinite(outcomes).all():
        raise ValueError("values must be one finite number per sample")
    names = np.arange(len(outcomes)) if groups is None else np.asarray(groups)
    if names.shape != outcomes.shape:
        raise ValueError(f"groups {names.shape} and values {outcomes.shape} must have one entry per sample")
    _, member = np.unique(names, return_inverse=True)
    sums, sizes = np.bincount(member, weights=outcomes).astype(np.float64), np.bincount(member)
    if len(sums) < 2:
        raise ValueError(f"the bootstrap needs at least two independent samples, got {len(sums)}")
    means = _resampled_means(sums, sizes, draws, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _resampled_means(sums: NDArray[np.float64], sizes: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.float64]:
    random = np.random.RandomState(seed)
    rows = max(1, _MAX_INDICES // len(sums))
    means = []
    for start in range(0, draws, rows):
        drawn = random.randint(0, len(sums), size=(min(rows, draws - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
