"""Intervals of a score, and the paired difference of two: all in shares, 0 to 1; docs/statistics.md measures them.

Wilson for counts, the bootstrap for any mean of per-sample outcomes, Tango's score interval for paired differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf, sqrt
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
    sums, sizes = _group_sums(outcomes, groups)
    means = _resampled_means(sums, sizes, draws, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def bootstrap_ratio_interval(
    parts: ArrayLike,
    wholes: ArrayLike,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of sum(parts) / sum(wholes), both [n], drawn together sample by sample.

    `groups` as in `bootstrap_interval`. None where the wholes add up to nothing, or less, in any of the resamples: the
    ratio has no bounded interval then. Raises what `bootstrap_interval` raises.
    """
    _check_confidence(confidence)
    columns = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape or not np.isfinite(columns).all():
        raise ValueError("parts and wholes must be one finite number per sample")
    # The same seed draws the same samples for both.
    part, whole = (_resampled_means(*_group_sums(column, groups), draws, seed) for column in columns)
    if (whole <= 0).any():
        return None
    low, high = np.quantile(part / whole, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Paired:
    """What two models' outcomes on the same samples say about the difference of their accuracies, in shares."""

    difference: float
    """Accuracy of a minus accuracy of b, -1 to 1."""
    low: float
    """Low end of the interval of the difference."""
    high: float
    p_value: float
    """Two-sided: how likely so uneven a split of the samples that only one model gets right is between equal models."""
    mde: float | None
    """The smallest true difference that the test finds at 5 % with 80 % power, where models disagree as often as here;
    None where so few samples can show none."""
    n: int
    """Samples."""
    wins: int
    """Samples that only a gets right."""
    losses: int
    """Samples that only b gets right."""
    clusters: int
    """Independent units: the samples, or their groups."""
    design_effect: float
    """How many times more the difference varies than with independent samples; 1 without groups."""
    p_lower: float
    """One-sided: how likely so low a difference is between equal models."""
    confidence: float


def paired(
    correct_a: ArrayLike, correct_b: ArrayLike, groups: ArrayLike | None = None, confidence: float = 0.95
) -> Paired:
    """The difference of two accuracies on the same samples, with its interval and its test.

    correct_a, correct_b: 0 or 1 for each sample [n]; groups [n]: what a sample comes from, such as its video, where
    samples that share it are not independent. The interval is Tango's; with groups the counts are divided by their
    design effect and the normal quantile gives way to Student's, groups - 1 degrees of freedom. The test flips the
    signs of samples (exactly McNemar's test) or of whole groups; it is exact. Everything is deterministic.
    Raises ValueError where values are not 0 or 1, shapes differ, or there is no sample, or only one group.
    """
    _check_confidence(confidence)
    a, b = _outcomes(correct_a), _outcomes(correct_b)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"both models need outcomes of the same samples, got {a.shape} and {b.shape}")
    n, change = len(a), a - b
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    sums, sizes = (change, np.ones(n, np.int64)) if groups is None else _clusters(change, groups)
    quantile, effect = NormalDist().inv_cdf((1 + confidence) / 2), 1.0
    if len(sums) < n:
        from scipy.stats import t

        quantile = float(t.ppf((1 + confidence) / 2, len(sums) - 1))
        effect = design_effect(sums, sizes, wins + losses)
    low, high = score_interval(wins / effect, losses / effect, n / effect, quantile)
    lower, upper = sign_flip_tails(sums)
    return Paired(
        difference=(wins - losses) / n,
        low=low,
        high=high,
        p_value=min(1.0, 2 * min(lower, upper)),
        mde=detectable_difference(int(n / effect), (wins + losses) / n),
        n=n,
        wins=wins,
        losses=losses,
        clusters=len(sums),
        design_effect=effect,
        p_lower=lower,
        confidence=confidence,
    )


def unpaired_interval(correct_a: int, n_a: int, correct_b: int, n_b: int, confidence: float = 0.95) -> Interval:
    """Newcombe's interval of the difference of two accuracies on independent samples, in shares: a minus b.

    It joins the Wilson intervals of both. Source: Newcombe, Statistics in Medicine 17 (1998) 873, method 10.
    Raises what `wilson_interval` raises.
    """
    a, b = wilson_interval(correct_a, n_a, confidence), wilson_interval(correct_b, n_b, confidence)
    share_a, share_b = correct_a / n_a, correct_b / n_b
    difference = share_a - share_b
    low = difference - sqrt((share_a - a.low) ** 2 + (b.high - share_b) ** 2)
    high = difference + sqrt((a.high - share_a) ** 2 + (share_b - b.low) ** 2)
    return Interval(low, high)


def _outcomes(correct: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(correct)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise ValueError("outcomes must be one 0 or 1 per sample")
    return values.astype(np.int64)


def _clusters(change: NDArray[np.int64], groups: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sums of the changes and numbers of the samples, group by group."""
    names = np.asarray(groups)
    if names.shape != change.shape:
        raise ValueError(f"groups {names.shape} and outcomes {change.shape} must have one entry per sample")
    _, member = np.unique(names, return_inverse=True)
    sizes = np.bincount(member)
    if len(sizes) < 2:
        raise ValueError("a difference needs at least two groups that are independent")
    return np.rint(np.bincount(member, weights=change)).astype(np.int64), sizes


def _group_sums(
    outcomes: NDArray[np.float64], groups: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums of the outcomes and numbers of the samples, group by group; each sample is one where there are none."""
    names = np.arange(len(outcomes)) if groups is None else np.asarray(groups)
    if names.shape != outcomes.shape:
        raise ValueError(f"groups {names.shape} and values {outcomes.shape} must have one entry per sample")
    _, member = np.unique(names, return_inverse=True)
    sums, sizes = np.bincount(member, weights=outcomes).astype(np.float64), np.bincount(member)
    if len(sums) < 2:
        raise ValueError(f"the bootstrap needs at least two independent samples, got {len(sums)}")
    return sums, sizes


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


_HALVINGS = 60
"""Steps of the search for an end of an interval: double precision has no more bits."""
_LEAST_EFFECT = 0.5
"""Smallest design effect: few clusters that happen to agree would promise more than their samples can give."""
_TAIL = 7.0
"""Standard deviations beyond which numbers of discordant samples are left out of a power."""


def score_interval(wins: float, losses: float, n: float, reach: float) -> tuple[float, float]:
    """Tango's score interval of the difference `(wins - losses) / n` of two paired proportions.

    All differences whose score statistic is at most `reach` (1.96 for 95 %) in size. Counts need not be whole numbers:
    those of clustered samples are divided by their design effect. Source: Tango, Statistics in Medicine 17 (1998) 891.
    """
    found = (wins - losses) / n
    low = _where_score_is(reach, wins, losses, n, -1.0, found)
    high = _where_score_is(-reach, wins, losses, n, found, 1.0)
    return low, high


def _where_score_is(target: float, wins: float, losses: float, n: float, left: float, right: float) -> float:
    """The difference between `left` and `right` at which the falling score meets `target`."""
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        if _score(middle, wins, losses, n) > target:
            left = middle
        else:
            right = middle
    return (left + right) / 2


def _score(difference: float, wins: float, losses: float, n: float) -> float:
    """How many standard deviations the counts lie from a true difference."""
    # The most likely share of losses under that difference solves 2 n q^2 + b q + c = 0.
    b = (2 * n - wins + losses) * difference - wins - losses
    c = -losses * difference * (1 - difference)
    share = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    distance = wins - losses - n * difference
    if variance > 1e-12:
        return distance / sqrt(variance)
    return 0.0 if abs(distance) < 1e-9 else inf if distance > 0 else -inf


def design_effect(sums: NDArray[np.int64], sizes: NDArray[np.int64], discordant: int) -> float:
    """How many times more the mean difference varies than it would if all samples were independent.

    `sums` are wins minus losses of each cluster, `sizes` its samples. The variance comes from leaving one cluster out
    at a time, which stays honest where few clusters are much larger than the rest.
    """
    clusters, n = len(sums), int(sizes.sum())
    mean = float(sums.sum()) / n
    independent = (discordant / n - mean**2) / n
    if independent <= 0:
        return 1.0
    without = (sums.sum() - sums) / (n - sizes)
    jackknife = (clusters - 1) / clusters * float(((without - mean) ** 2).sum())
    return max(_LEAST_EFFECT, jackknife / independent)


def sign_flip_tails(sums: NDArray[np.int64]) -> tuple[float, float]:
    """Chances of a total as low, and of one as high, as that of `sums`, if each cluster's sign were a fair coin's.

    Exact, for clusters of any sizes. With one sample in each it is the exact McNemar test.
    """
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    chances = np.ones(1)  # of the totals -t, -t + 1, ... t
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        step = np.zeros(2 * size * count + 1)
        step[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, step)
    place = len(chances) // 2 + int(sums.sum())
    return min(1.0, float(chances[: place + 1].sum())), min(1.0, float(chances[place:].sum()))


def power_of_test(n: int, discordance: float, difference: float, alpha: float) -> float:
    """Chance that the exact McNemar test finds a true `difference` on n samples, its tail on that side being `alpha`.

    `discordance` is the share of samples that only one of the models gets right; at least the difference.
    """
    from scipy.stats import binom

    share = min(1.0, max(discordance, difference))
    spread = _TAIL * sqrt(n * share * (1 - share)) + 1
    m = np.arange(max(0, int(n * share - spread)), min(n, int(n * share + spread)) + 1)
    most_by_chance = binom.isf(alpha, m, 0.5)
    found = binom.sf(most_by_chance, m, (1 + difference / share) / 2)
    return float((binom.pmf(m, n, share) * found).sum())


@lru_cache(maxsize=4096)
def detectable_difference(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest true difference, 0 to 1, that the exact two-sided test at `alpha` finds with this power.

    None where n samples cannot show any: the test needs six discordant ones at least.
    """
    from scipy.optimize import brentq

    def shortfall(difference: float) -> float:
        return power_of_test(n, discordance, difference, alpha / 2) - power

    if n < 1 or shortfall(1.0) < 0:
        return None
    return float(brentq(shortfall, 1e-9, 1.0, xtol=1e-7))
