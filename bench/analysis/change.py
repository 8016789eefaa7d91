"""The difference of two models on the same samples, each the mean over its probe seeds: which test, which interval.

With several seeds on both sides, other samples and other trainings of the probes both count (bench.metrics.trainings).
With one seed on a side nothing is known of its trainings: the interval and the test are about the samples alone.

Everything here is in points, 0 to 100, as in records; `bench.metrics.intervals` counts in shares.
Shapes: K seeds of a model, n samples, G groups (videos, or samples where each is its own).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.metrics.intervals import Paired, detectable_difference, paired
from bench.metrics.resample import Resampled, paired_scores
from bench.metrics.trainings import TrainedDifference, Trainings, difference, trainings

Hits = NDArray[np.int64]
"""Outcomes [K, n], 0 or 1."""
ALPHA = 0.05
"""Two models differ where the p value is below this."""
ONE_PROBE = "one probe"
"""What is said of a model with one seed."""
_EQUAL = 1e-9


@dataclass(frozen=True)
class Change:
    """A minus B, in points."""

    difference: float
    low: float
    """Low end of the interval of the difference."""
    high: float
    p_value: float
    """Two-sided."""
    p_lower: float
    """One-sided, of a drop."""
    mde: float | None
    """The smallest true difference that such a comparison finds with 80 % power; None where it finds none."""
    wins: int
    """Samples that A gets right more often, over its seeds; in other metrics than accuracy, groups that add more to the
    score of A."""
    losses: int
    """Samples that B gets right more often, or groups that add more to the score of B."""
    clusters: int
    """Videos that the samples are of, or samples."""
    interval: str
    """How the interval was made."""
    test: str


def change_of_hits(
    a: Hits, b: Hits, groups: NDArray[Any] | None = None, confidence: float = 0.95, alpha: float = ALPHA
) -> Change:
    """The difference of two accuracies, from outcomes of the same samples; `groups` [n] is what samples share.

    `alpha` is that of the two-sided test whose detectable difference is told. Raises BenchError where nothing in them
    is independent.
    """
    if groups is not None:
        _refuse_one(groups)
    wins, losses = sides(a.mean(axis=0) - b.mean(axis=0))
    # Where no sample differs nothing varies, which says that they are alike on these samples and not on all.
    if len(a) > 1 and len(b) > 1 and wins + losses:
        made = difference(trained_hits(a, groups), trained_hits(b, groups), confidence, alpha)
        return _of_trainings(made, wins, losses, a.shape[1], len(np.unique(groups)) if groups is not None else None)
    found = paired_seeds(a, b, groups, confidence)
    mde = found.mde
    if alpha != ALPHA:
        discordance = (found.wins + found.losses) / found.n
        mde = detectable_difference(int(found.n / found.design_effect), discordance, alpha)
    return Change(
        difference=100 * found.difference,
        low=100 * found.low,
        high=100 * found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=None if mde is None else 100 * mde,
        wins=wins,
        losses=losses,
        clusters=found.clusters,
        interval=_tango(found),
        test="exact McNemar" if found.clusters == found.n else "exact sign flips of whole clusters",
    )


def change_of_scores(
    a: Sequence[Resampled], b: Sequence[Resampled], n: int, confidence: float = 0.95, alpha: float = ALPHA
) -> Change:
    """The difference of two scores in another metric, of n samples.

    Raises BenchError where they were not scored on the same samples, or fewer than two groups are independent.
    """
    found = paired_scores(a, b, confidence, alpha)
    if len(a) > 1 and len(b) > 1:
        made = difference(trained_scores(a), trained_scores(b), confidence, alpha)
        return _of_trainings(made, found.wins, found.losses, n, found.clusters)
    units = "samples" if found.clusters == n else "videos"
    return Change(
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=found.mde,
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=f"paired bootstrap over {found.clusters:,} {units}, {100 * confidence:g} %",
        test=f"sign flips of what each of the {units} adds",
    )


def trained_hits(hits: Hits, groups: NDArray[Any] | None = None) -> Trainings:
    """What outcomes say of an accuracy over samples and seeds. Raises BenchError where nothing in them is
    independent."""
    _refuse_one(range(hits.shape[1]) if groups is None else groups)
    values = 100 * hits.mean(axis=1)
    if groups is None:
        return trainings(100.0 * hits, values)
    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member)
    sums = np.stack([np.bincount(member, weights=100.0 * seed) for seed in hits])
    without = (sums.sum(axis=1, keepdims=True) - sums) / (sizes.sum() - sizes)
    return trainings(len(sizes) * values[:, None] - (len(sizes) - 1) * without, values)


def trained_scores(seeds: Sequence[Resampled]) -> Trainings:
    """The same of scores in another metric."""
    return trainings(np.stack([one.pseudo for one in seeds]), [one.value for one in seeds])


def paired_seeds(a: Hits, b: Hits, groups: NDArray[Any] | None = None, confidence: float = 0.95) -> Paired:
    """The paired difference of outcomes on the same n samples, as if these seeds were all there are.

    All answers to a sample, or to the samples of one group, are one cluster: more seeds are not more samples. Where one
    model has fewer seeds, they are taken again.
    """
    pairs, n = math.lcm(len(a), len(b)), a.shape[1]
    one, other = (np.tile(side, (pairs // len(side), 1)).ravel() for side in (a, b))
    clusters = groups if pairs == 1 else np.tile(np.arange(n) if groups is None else groups, pairs)
    return paired(one, other, clusters, confidence)


def of_samples_alone(seeds_a: int, seeds_b: int) -> str:
    """The note on a comparison that knows nothing of trainings; empty where both models have several seeds."""
    if min(seeds_a, seeds_b) > 1:
        return ""
    side = "each side has" if seeds_a == seeds_b else f"{'A' if seeds_a == 1 else 'B'} has"
    return f"{side} {ONE_PROBE}: interval and test are about the test samples alone, not about another training"


def _of_trainings(found: TrainedDifference, wins: int, losses: int, n: int, clusters: int | None) -> Change:
    over = f"{clusters:,} videos" if clusters is not None and clusters != n else "samples"
    part = 100 * found.sampling_se**2 / found.standard_error**2 if found.standard_error else 100.0
    return Change(
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=found.mde,
        wins=wins,
        losses=losses,
        clusters=clusters or n,
        interval=(
            f"Student's t over {over} and seeds, {100 * found.confidence:g} %, {found.freedom:.0f} degrees of freedom; "
            f"{part:.0f} % of the variance is of the samples"
        ),
        test=f"Student's t ({over} and seeds)",
    )


def _refuse_one(groups: ArrayLike) -> None:
    if len(np.unique(groups)) < 2:
        raise BenchError("all test samples are of one video: nothing is independent")


def _tango(found: Paired) -> str:
    level = f"{100 * found.confidence:g} %"
    if found.clusters == found.n:
        return f"Tango's score interval, {level}"
    return f"Tango's score interval, {level}, design effect {found.design_effect:.2f} of {found.clusters:,} clusters"


def sides(changes: NDArray[np.float64]) -> tuple[int, int]:
    """How many changes are above zero, and how many below."""
    return int((changes > _EQUAL).sum()), int((changes < -_EQUAL).sum())
