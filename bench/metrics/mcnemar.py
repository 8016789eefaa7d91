"""What the samples that only one of two models gets right say about the difference of their accuracies.

A win is a sample that only the first model gets right, a loss one that only the second does; the others are concordant.
`bench.metrics.intervals.paired` puts these parts together. Shares are 0 to 1, differences -1 to 1.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

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
