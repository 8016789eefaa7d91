"""How far a score would move with other test samples and with other trainings of the probe: both in one interval.

A model has K seeds (trainings of its probe on the same features) and G independent groups of test samples, such as
videos; each sample is its own group where none share one. Seeds and groups are crossed: every seed answers every
group. Of each, y[k, g] is what group g adds to the score of seed k, in points (`resample.Resampled.pseudo`; 100 * hit
in accuracy), and values[k] the score of seed k.

*Variance of the mean over seeds and groups*, for crossed random effects:

    sampling_se^2 + training_sd^2 / K - MS / (G K),   never below sampling_se^2

with sampling_se^2 = var_g(mean_k y[k, g]) / G, training_sd^2 = var_k(values[k]), and MS the mean square of the
interaction, which both of them hold and which counts once. All variances have ddof = 1.

*Quantiles* are Student's, with Satterthwaite's degrees of freedom: the sampling part has G - 1, the training part K - 1
(Satterthwaite, Biometrics Bulletin 2 (1946) 110).

*Two models* on the same samples are paired: the sampling part is that of the differences of their means over seeds,
while their trainings are independent of each other, so that both training parts add up.

One seed says nothing of trainings: everything is about the samples alone then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.metrics.intervals import Interval

Floats = NDArray[np.float64]
_POWER = 0.8
_EQUAL = 1e-9
"""Changes below this share of the largest one are rounding."""
_MANY = 64
"""Groups whose signs can show anything."""


@dataclass(frozen=True)
class Trainings:
    """What the seeds of one model say, boiled down to what intervals and tests need; in points."""

    value: float
    """Mean of the scores of the seeds."""
    added: Floats
    """What each group adds, mean over the seeds: [G]."""
    seeds: int
    training_sd: float | None
    """Standard deviation of the score over the seeds; None for one seed."""
    interaction: float
    """MS / (G K): what sampling and training part both hold of the variance of the mean; 0 for one seed."""

    @property
    def sampling_se(self) -> float:
        """Standard error of the mean over these seeds, over test samples alone."""
        return float(np.sqrt(self.added.var(ddof=1) / len(self.added)))

    @property
    def training_variance(self) -> float:
        """What the choice of seeds adds to the variance of the mean over them, interaction included."""
        return 0.0 if self.training_sd is None else self.training_sd**2 / self.seeds

    @property
    def standard_error(self) -> float:
        """Of the mean, over samples and seeds."""
        return float(np.sqrt(_variance(self.sampling_se**2, self.training_variance, self.interaction)))

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of `standard_error`."""
        return float(_freedom(self.standard_error**2, self.sampling_se**2, len(self.added), _own_freedom(self)))


def trainings(y: ArrayLike, values: ArrayLike) -> Trainings:
    """Boil down what each group adds to the score of each seed, y [K, G], and the scores [K], all in points.

    Raises ValueError where shapes differ, there are fewer than two groups, or a number is not finite.
    """
    table, scores = np.asarray(y, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or scores.shape != table.shape[:1] or not len(scores):
        raise ValueError(f"y must be [seeds, groups] and values [seeds], got {table.shape} and {scores.shape}")
    seeds, groups = table.shape
    if groups < 2:
        raise ValueError("a variance needs at least two independent groups")
    if not (np.isfinite(table).all() and np.isfinite(scores).all()):
        raise ValueError("scores and what groups add to them must be finite")
    added = table.mean(axis=0)
    if seeds == 1:
        return Trainings(float(scores[0]), added, 1, None, 0.0)
    left = table - added - table.mean(axis=1, keepdims=True) + table.mean()
    mean_square = float((left**2).sum()) / ((seeds - 1) * (groups - 1))
    return Trainings(float(scores.mean()), added, seeds, spread_over(scores), mean_square / (groups * seeds))


def spread_over(values: ArrayLike) -> float | None:
    """The standard deviation of the scores of the seeds, in points; None for one seed."""
    scores = np.asarray(values, dtype=np.float64)
    return float(scores.std(ddof=1)) if len(scores) > 1 else None


def interval(one: Trainings, confidence: float = 0.95) -> Interval:
    """The interval of a score that may be any number of points: its value, give or take a quantile of Student's t."""
    reach = _quantile((1 + confidence) / 2, one.freedom) * one.standard_error
    return Interval(one.value - reach, one.value + reach)


def pooled_interval(value: float, sampling_se: float, training_sd: float, seeds: int, groups: int) -> Interval:
    """The 95 % interval of a mean over seeds of which only this is known, within 0 to 100.

    Nothing is known of the interaction, which counts twice then: slightly wide.
    """
    sampling, training = sampling_se**2, training_sd**2 / seeds
    freedom = _freedom(sampling + training, sampling, max(2, groups), training**2 / (seeds - 1))
    reach = _quantile(0.975, float(freedom)) * float(np.sqrt(sampling + training))
    return Interval(max(0.0, value - reach), min(100.0, value + reach))


def share_interval(one: Trainings, confidence: float = 0.95) -> Interval:
    """The interval of a score that is a share, within 0 to 100.

    Wilson's, with as many samples as would give the variance of the score if they were independent and had been
    answered once. Where nearly all answers are right, or nearly none, that number cannot be known: as many events
    as Wilson's interval itself imagines are taken to vary as samples do that are answered once.
    """
    groups, share = len(one.added), one.value / 100
    reach2 = _quantile((1 + confidence) / 2, one.freedom) ** 2
    events = groups * share * (1 - share)
    effect = ((groups * one.standard_error / 100) ** 2 + reach2) / (events + reach2)
    n = groups / effect
    centre = (share + reach2 / (2 * n)) / (1 + reach2 / n)
    half = float(np.sqrt(reach2 * (share * (1 - share) / n + reach2 / (4 * n * n)))) / (1 + reach2 / n)
    low, high = 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
    return Interval(min(low, one.value), max(high, one.value))


@dataclass(frozen=True)
class TrainedDifference:
    """One model minus another, each the mean over its seeds, in points."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided: how likely so large a difference is between models that are equal over samples and trainings."""
    p_lower: float
    """One-sided: how likely so low a difference is."""
    mde: float | None
    """About the smallest true difference that the two-sided test at `alpha` finds with 80 % power; None where so few
    groups show none."""
    standard_error: float
    freedom: float
    """Satterthwaite's degrees of freedom."""
    sampling_se: float
    """The part of `standard_error` that other samples make."""
    wins: int
    """Groups that add more to the score of the first model, by the means over the seeds."""
    losses: int
    """Groups that add more to that of the second."""
    confidence: float


def difference(a: Trainings, b: Trainings, confidence: float = 0.95, alpha: float = 0.05) -> TrainedDifference:
    """The paired difference of two models on the same groups, in one order; a minus b.

    The p values are those of Student's t with the variance around no difference, but never below what the groups that
    differ at all can show by their signs: 2^(1 - m) for m of them, half of it one-sided. Raises ValueError where the
    groups are not as many.
    """
    if a.added.shape != b.added.shape:
        raise ValueError(f"both models need the same groups, got {len(a.added):,} and {len(b.added):,}")
    found = a.value - b.value
    changes = a.added - b.added
    sampling = float(changes.var(ddof=1)) / len(changes)
    training, shared = a.training_variance + b.training_variance, a.interaction + b.interaction
    variance = float(_variance(sampling, training, shared))
    own = _own_freedom(a) + _own_freedom(b)
    freedom = float(_freedom(variance, sampling, len(changes), own))
    error = variance**0.5
    wins, losses = _sides(changes)
    lower, upper = _tails(found, sampling, training, shared, len(changes), own, wins + losses)
    reach = _quantile((1 + confidence) / 2, freedom) * error
    shows = 2.0 ** (1 - len(changes)) <= alpha
    return TrainedDifference(
        difference=found,
        low=found - reach,
        high=found + reach,
        p_value=min(1.0, 2 * min(lower, upper)),
        p_lower=lower,
        mde=(_quantile(1 - alpha / 2, freedom) + _quantile(_POWER, freedom)) * error if shows else None,
        standard_error=error,
        freedom=freedom,
        sampling_se=sampling**0.5,
        wins=wins,
        losses=losses,
        confidence=confidence,
    )


def p_values(models: Sequence[Trainings]) -> Floats:
    """Two-sided p values of all pairs of R models on the same groups, [R, R]; those of `difference`, all at once."""

    added = np.stack([one.added for one in models])
    groups = added.shape[1]
    covariance = np.atleast_2d(np.cov(added))
    spread = covariance.diagonal()
    sampling = np.maximum(0.0, spread[:, None] + spread[None, :] - 2 * covariance) / groups
    training, shared, own = (
        part[:, None] + part[None, :]
        for part in np.array([(one.training_variance, one.interaction, _own_freedom(one)) for one in models]).T
    )
    values = np.array([one.value for one in models])
    found = values[:, None] - values[None, :]
    lower = _chance(found, sampling, training, shared, groups, own)
    tails = np.minimum(1.0, 2 * np.minimum(lower, lower.T))
    made: Floats = np.maximum(tails, _least_p(added))
    return made


def _own_freedom(one: Trainings) -> float:
    """What the trainings of a model add to the denominator of Satterthwaite's degrees of freedom."""
    return 0.0 if one.seeds == 1 else one.training_variance**2 / (one.seeds - 1)


def _variance(sampling: ArrayLike, training: ArrayLike, shared: ArrayLike) -> Floats:
    made: Floats = np.asarray(sampling) + np.maximum(0.0, np.asarray(training) - np.asarray(shared))
    return made


def _freedom(variance: ArrayLike, sampling: ArrayLike, groups: int, own: ArrayLike) -> Floats:
    below = np.asarray(sampling) ** 2 / (groups - 1) + np.asarray(own)
    squared = np.asarray(variance, dtype=np.float64) ** 2
    # At least that of the poorest part: fewer than one degree says nothing.
    made: Floats = np.maximum(1.0, np.divide(squared, below, out=np.full_like(squared, groups - 1), where=below > 0))
    return made


def _quantile(level: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(level, freedom))


def _tails(
    found: float, sampling: float, training: float, shared: float, groups: int, own: float, changed: int
) -> tuple[float, float]:
    """Chances of a difference as low, and of one as high, no less than the signs of the groups allow."""
    both = _chance(np.array([found, -found]), sampling, training, shared, groups, own)
    lower, upper = np.minimum(1.0, np.maximum(both, 2.0**-changed)).tolist()
    return lower, upper


def _chance(
    found: Floats, sampling: ArrayLike, training: ArrayLike, shared: ArrayLike, groups: int, own: ArrayLike
) -> Floats:
    """Chances of differences as low as these between equal models.

    Between equal models changes vary around 0. With few groups a variance around the mean would be small just where
    the difference is large.
    """
    from scipy.stats import t

    around_zero = np.asarray(sampling) * (groups - 1) / groups + found**2 / groups
    variance = _variance(around_zero, training, shared)
    scale = np.sqrt(np.maximum(variance, _EQUAL**2))
    made: Floats = t.cdf(
        np.where(np.abs(found) > _EQUAL, found / scale, 0.0), _freedom(variance, around_zero, groups, own)
    )
    return made


def _sides(changes: Floats) -> tuple[int, int]:
    slack = _EQUAL * float(np.abs(changes).max())
    return int((changes > slack).sum()), int((changes < -slack).sum())


def _least_p(added: Floats) -> Floats:
    """What the signs of the groups in which two models differ can show at best, for all pairs: [R, R]."""
    width = float(np.ptp(added)) or 1.0
    squares = (added**2).sum(axis=1)
    # No change is larger than `width`: so many groups changed at least.
    changed = (squares[:, None] + squares[None, :] - 2 * added @ added.T) / width**2
    for a, b in np.argwhere(np.triu(changed < _MANY, 1)).tolist():
        changed[a, b] = changed[b, a] = (np.abs(added[a] - added[b]) > _EQUAL * width).sum()
    np.fill_diagonal(changed, 0)
    least: Floats = np.minimum(1.0, 2.0 ** (1 - np.minimum(changed, _MANY)))
    return least
